"""The metadata endpoint: a server of its own, on loopback, inside the control plane's process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn

from stockade.identity.metadata import metadata_app
from stockade.identity.services import IdentityServices

METADATA_CONNECTIONS = 256


class _QuietServer(uvicorn.Server):
    """uvicorn inside another server's process, whose signals are not its business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def metadata_endpoint(services: IdentityServices) -> AsyncIterator[None]:
    """Serve managed identities on loopback, in plain HTTP, while the block runs."""
    config = uvicorn.Config(
        metadata_app(services),
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # nobody stands between a program and its own machine's endpoint
        limit_concurrency=METADATA_CONNECTIONS,
        timeout_graceful_shutdown=2,
    )
    server = _QuietServer(config)
    with socket.socket(socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # While certificates are reloaded the old and the new control plane stand side by side for some seconds.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", services.settings.listen.metadata_port))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield
        finally:
            server.should_exit = True
            await serving
