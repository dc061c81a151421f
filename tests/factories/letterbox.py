"""Where notices arrive: a real mail server (aiosmtpd) and an HTTPS server, both over TLS, well behaved or not."""

from __future__ import annotations

import asyncio
import hmac
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.factories.certificates import Certificates, certificates

PASSWORD = "correct horse"
SECRET = "a secret of the receiver and ours"


@dataclass
class MailServer:
    """Keeps what it is sent. refuse: recipients it does not take. silent: it takes a message and never says so."""

    port: int = 0
    refuse: tuple[str, ...] = ()
    silent: bool = False
    got: asyncio.Event = field(default_factory=asyncio.Event)
    letters: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    secure: list[bool] = field(default_factory=list)
    users: list[str] = field(default_factory=list)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Envelope, address: str, options: Any) -> str:  # noqa: N802
        if address in self.refuse:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content
        assert isinstance(content, bytes)
        self.letters.append(cast("EmailMessage", message_from_bytes(content, policy=default)))
        self.recipients.append(list(envelope.rcpt_tos))
        self.secure.append(session.ssl is not None or server.transport.get_extra_info("sslcontext") is not None)
        self.got.set()
        if self.silent:
            await asyncio.Event().wait()
        return "250 OK"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        good = isinstance(data, LoginPassword) and data.password == PASSWORD.encode()
        if good:
            self.users.append(data.login.decode())
        return AuthResult(success=good, handled=False)


@asynccontextmanager
async def mail_server(
    certificates: Certificates, *, tls: str = "starttls", password: bool = False, **behaviour: Any
) -> AsyncIterator[MailServer]:
    """Run a mail server. tls: as the setting says; with `starttls` it takes nothing before. password: it wants to know who sends."""
    kept, context = MailServer(**behaviour), certificates.server_context()

    def make() -> SMTP:
        return SMTP(
            kept,
            hostname="mail.example.com",
            tls_context=context if tls == "starttls" else None,
            require_starttls=tls == "starttls",
            auth_required=password,
            auth_require_tls=tls == "starttls",
            authenticator=kept.authenticate,
        )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(make, "127.0.0.1", 0, ssl=context if tls == "tls" else None)
    kept.port = server.sockets[0].getsockname()[1]
    try:
        yield kept
    finally:
        server.close()


@dataclass
class Hook:
    """Keeps what it is sent, and answers with what stands in `answers` (the last one again and again); "" is no answer at all."""

    port: int = 0
    answers: list[str] = field(default_factory=lambda: ["204 No Content"])
    got: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    """First line, headers with names in lower case, body."""

    def notices(self) -> list[Any]:
        return [json.loads(body) for _, _, body in self.requests]


@asynccontextmanager
async def hook(certificates: Certificates, *answers: str) -> AsyncIterator[Hook]:
    """Run an HTTPS server."""
    kept = Hook(answers=list(answers)) if answers else Hook()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.rstrip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers["content-length"]))
            kept.requests.append((first, headers, body))
            said = kept.answers.pop(0) if len(kept.answers) > 1 else kept.answers[0]
            kept.got.set()
            if not said:
                await reader.read()
            else:
                writer.write(f"HTTP/1.1 {said}\r\ncontent-length: 0\r\n\r\n".encode())
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=certificates.server_context())
    kept.port = server.sockets[0].getsockname()[1]
    try:
        yield kept
    finally:
        server.close()


def is_signed(headers: dict[str, str], body: bytes, secret: str = SECRET) -> bool:
    """Check a signature as a receiver does who has read the documentation."""
    parts = dict(part.split("=", 1) for part in headers["x-stockade-signature"].split(","))
    expected = hmac.new(secret.encode(), parts["t"].encode() + b"." + body, sha256).hexdigest()
    return hmac.compare_digest(expected, parts["v1"])


class Letterboxes:
    """Both servers in a thread of their own, for a platform that runs in other processes."""

    def __init__(self, folder: Path) -> None:
        self._certificates = certificates(folder / "tls")
        self._secret = folder / "secret"
        self._secret.write_text(SECRET)
        self._loop = asyncio.new_event_loop()
        self._ready, self._over = threading.Event(), asyncio.Event()
        self.mail, self.hook = MailServer(), Hook()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._run()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    @property
    def settings(self) -> str:
        """What tells a platform of them, TOML."""
        authority = self._certificates.authority
        return (
            f'[notices]\noperators = ["boss@example.com"]\nwebhook = "https://localhost:{self.hook.port}/stockade"\n'
            f'webhook_secret_file = "{self._secret}"\nwebhook_ca_file = "{authority}"\n'
            f'[notices.mail]\nhost = "localhost"\nport = {self.mail.port}\nsender = "stockade@example.com"\n'
            f'ca_file = "{authority}"\n'
        )

    def subjects(self, to: str) -> list[str]:
        """Return the subjects of what somebody was sent."""
        return [str(letter["Subject"]) for letter in tuple(self.mail.letters) if letter["To"] == to]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        self._loop.close()

    async def _run(self) -> None:
        async with mail_server(self._certificates) as self.mail, hook(self._certificates) as self.hook:
            self._ready.set()
            await self._over.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)
