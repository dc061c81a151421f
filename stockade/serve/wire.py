"""What every TLS listener of the platform is: its certificate, protocols and limits, as the server (Granian) takes them."""

from __future__ import annotations

import ssl
from typing import Any

from granian.constants import HTTPModes, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings

from stockade.serve import tls
from stockade.settings import Settings

BACKLOG = 2048
CONNECTIONS = 2048
"""Of one listener in one process. Above it connections wait in the backlog."""


def options(configured: Settings) -> dict[str, Any]:
    """Return the options that the server in a process of its own and the embedded one share."""
    limits, certificate = configured.limits, tls.active_file(configured)
    return {
        "http": HTTPModes.auto,
        "websockets": False,  # gateway/websocket.py says why
        "backlog": BACKLOG,
        "backpressure": CONNECTIONS,
        "http1_settings": HTTP1Settings(
            header_read_timeout=int(limits.header_timeout_s * 1000), max_buffer_size=max(8192, limits.max_header_bytes)
        ),
        "http2_settings": HTTP2Settings(
            max_headers_size=limits.max_header_bytes,
            max_concurrent_streams=100,
            keep_alive_interval=30_000,
            keep_alive_timeout=10,
        ),
        "ssl_cert": certificate,
        "ssl_key": certificate,
        "ssl_protocol_min": SSLProtocols.tls12,
    }


def websocket_tls(configured: Settings) -> ssl.SSLContext:
    """Return the TLS context of the WebSocket listeners: the same certificate and the same versions."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(tls.active_file(configured))
    return context
