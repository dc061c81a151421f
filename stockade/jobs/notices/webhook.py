"""A notice as JSON to the https address that the settings name, signed so that whoever receives it can tell that it is ours and new.

`x-stockade-signature: t=1800000000,v1=<hex>`: HMAC-SHA-256 with the shared secret over the digits of `t`, a dot, and the body's bytes. A receiver
computes the same, compares in constant time, and refuses an old `t`; `x-stockade-notice` is the same when a notice comes a second time.
Redirects are not followed: a notice goes to the address that the operator has written down, or it is not delivered.
"""

from __future__ import annotations

import asyncio
import hmac
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

import msgspec

from stockade.egress import dial
from stockade.jobs.notices.configured_secret import configured_secret
from stockade.jobs.notices.undelivered import Undelivered
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.settings import Notices
from stockade.storage.documents import Document
from stockade.upstream.pool import Target, UpstreamPool

SIGNATURE: Final = "x-stockade-signature"
TIMEOUT_S: Final = 10.0
MAX_REPLY: Final = 64 * 1024
_SAID = {
    FaultKind.UNAVAILABLE: "it cannot be reached, or does not prove who it is",
    FaultKind.UPSTREAM_TIMEOUT: "it did not answer in time",
}


async def deliver(settings: Notices, notice: Document, now: float) -> None:
    """Send a notice; Undelivered for every answer but a 2xx."""
    secret = configured_secret("the secret to sign with", settings.webhook_secret_env, settings.webhook_secret_file)
    parts = urlsplit(settings.webhook)
    try:
        tls = dial.tls_context(settings.webhook_ca_file)
    except OSError as failure:
        raise Undelivered(f"webhook_ca_file {settings.webhook_ca_file} cannot be used") from failure
    shown = ("notice", "kind", "subject", "title", "text", "data", "createdAt")
    body = msgspec.json.encode({name: notice.body[name] for name in shown})
    headers = ((SIGNATURE, signature(secret, int(now), body)), ("x-stockade-notice", str(notice.body["notice"])))
    target = Target(parts.hostname or "", parts.port or 443, tls=tls)
    pool = UpstreamPool(target, connect_timeout_s=TIMEOUT_S, reply_timeout_s=TIMEOUT_S)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            reply = await pool.request("POST", path, body, headers=headers)
            status = reply.status
            await reply.read(MAX_REPLY, TIMEOUT_S)
    except Fault as fault:
        raise Undelivered(_SAID.get(fault.kind, "it did not answer as HTTP asks for")) from fault
    except TimeoutError as failure:
        raise Undelivered(_SAID[FaultKind.UPSTREAM_TIMEOUT]) from failure
    finally:
        pool.close()
    if not 200 <= status < 300:
        raise Undelivered(f"it answered with status {status}")


def signature(secret: Secret, at: int, body: bytes) -> str:
    """Return the header's value. at: epoch seconds."""
    digest = hmac.new(secret.reveal(), b"%d." % at + body, sha256).hexdigest()
    return f"t={at},v1={digest}"
