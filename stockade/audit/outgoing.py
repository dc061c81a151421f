"""POST to an address that the operator's settings name: https, or http on this machine; with a bearer credential where they name one.

TLS is 1.2 or later, certificates and names are always verified. Redirects are not followed: a record goes to the address that the operator has
written down, or it is not delivered. Source: RFC 9110 sections 10.2.3 (Retry-After) and 15.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from stockade.audit.sinks.sink import Undelivered
from stockade.egress import dial
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.upstream.pool import Target, UpstreamPool

MAX_REPLY: Final = 64 * 1024
LONGEST_WAIT_S: Final = 3600.0
"""What a `Retry-After` beyond this is taken for."""
_SAID: Final = {
    FaultKind.UNAVAILABLE: "cannot be reached, or does not prove who it is",
    FaultKind.UPSTREAM_TIMEOUT: "did not answer in time",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx."""

    headers: Mapping[str, str]
    body: bytes


class Outgoing:
    """One receiver, over a connection that is kept open between requests. Used on one event loop."""

    def __init__(self, url: str, *, credential_env: str, credential_file: str, ca_file: str, timeout_s: float) -> None:
        self._parts = urlsplit(url)
        self._variable, self._file, self._ca_file, self._timeout_s = credential_env, credential_file, ca_file, timeout_s
        self._pool: UpstreamPool | None = None
        self._credential: Secret | None = None

    async def post(self, body: bytes, content_type: str, *, accept: str = "*/*") -> Answer:
        """Return the answer if it is a 2xx; Undelivered for everything else."""
        pool = self._open()
        path = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await pool.request("POST", path, body, content_type=content_type, accept=accept)
                said = await reply.read(MAX_REPLY, self._timeout_s)
        except Fault as fault:
            self.close()
            what = _SAID.get(fault.kind, "did not answer as HTTP asks for")
            raise Undelivered(f"{self._shown} {what}") from fault
        except TimeoutError as failure:
            self.close()
            raise Undelivered(f"{self._shown} {_SAID[FaultKind.UPSTREAM_TIMEOUT]}") from failure
        if 200 <= reply.status < 300:
            return Answer(reply.headers, said)
        raise self._refusal(reply.status, reply.headers)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    @property
    def _shown(self) -> str:
        return shown_address(self._parts.geturl())

    def _open(self) -> UpstreamPool:
        credential = self._read_credential()
        if self._pool is not None and not _same(credential, self._credential):
            self.close()  # it has been renewed
        if self._pool is None:
            secure = self._parts.scheme == "https"
            try:
                tls = dial.tls_context(self._ca_file) if secure else None
            except OSError as failure:
                raise Undelivered(f"the ca_file {self._ca_file} cannot be used") from failure
            header = ("authorization", Secret(f"Bearer {credential.reveal_text()}")) if credential is not None else None
            port = self._parts.port or (443 if secure else 80)
            target = Target(self._parts.hostname or "", port, tls=tls, credential=header)
            self._pool = UpstreamPool(target, connect_timeout_s=self._timeout_s, reply_timeout_s=self._timeout_s)
            self._credential = credential
        return self._pool

    def _read_credential(self) -> Secret | None:
        if self._variable:
            value = os.environ.get(self._variable, "").strip()
        elif self._file:
            try:
                value = Path(self._file).expanduser().read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as failure:
                raise Undelivered(f"the credential cannot be read ({self._file})") from failure
        else:
            return None
        if not value or not value.isascii() or not value.isprintable():
            raise Undelivered(f"the credential is not set, or no header can carry it ({self._variable or self._file})")
        return Secret(value)

    def _refusal(self, status: int, headers: Mapping[str, str]) -> Undelivered:
        message = f"{self._shown} answered with status {status}"
        if 300 <= status < 400:
            return Undelivered(f"{message}; redirects are not followed", refused=True)
        if status in (408, 425, 429) or status >= 500:
            return Undelivered(message, again_s=_retry_after(headers.get("retry-after", "")))
        return Undelivered(message, refused=True, too_large=status == 413)


def shown_address(url: str) -> str:
    """Return an address without what may be secret in it: path and query stay out, where some receivers want their token."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return url
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def _same(one: Secret | None, other: Secret | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.matches(other.reveal())


def _retry_after(text: str) -> float | None:
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_WAIT_S)
    try:
        # The receiver's clock and ours are the machine's, whatever a rehearsal's says.
        seconds = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, seconds), LONGEST_WAIT_S)
