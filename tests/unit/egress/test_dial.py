"""The one place where connections are opened: to the address that was checked, under the name that was meant."""

from __future__ import annotations

import asyncio
import socket
import ssl
from ipaddress import ip_address
from pathlib import Path

import pytest

from stockade.egress import dial
from tests.factories.certificates import certificates
from tests.factories.engine import answers, engine, reply

LOOPBACK = ip_address("127.0.0.1")


async def test_checked_address_is_the_one_connected_to_and_no_name_is_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("a name was looked up")

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    async with engine(answers(reply(b""))) as running:
        transport, _ = await dial.checked(asyncio.Protocol, LOOPBACK, running.port, tls=None, name="images.example.com")
        assert transport.get_extra_info("peername") == ("127.0.0.1", running.port)
        transport.abort()  # type: ignore[attr-defined]


async def test_connection_that_ended_up_elsewhere_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with engine(answers(reply(b""))) as running:
        monkeypatch.setattr(socket.socket, "getpeername", lambda _: ("127.0.0.2", running.port))
        with pytest.raises(ConnectionError, match="another address"):
            await dial.checked(asyncio.Protocol, LOOPBACK, running.port, tls=None, name="")


async def test_name_is_what_the_certificate_has_to_say(tmp_path: Path) -> None:
    made = certificates(tmp_path)
    shown: list[str | None] = []
    context = made.server_context()
    context.sni_callback = lambda _, name, __: shown.append(name)
    async with engine(answers(reply(b"")), tls=context) as running:
        tls = dial.tls_context(str(made.authority))
        transport, _ = await dial.checked(asyncio.Protocol, LOOPBACK, running.port, tls=tls, name="localhost")
        transport.abort()  # type: ignore[attr-defined]
        with pytest.raises(ssl.SSLCertVerificationError):
            await dial.checked(asyncio.Protocol, LOOPBACK, running.port, tls=tls, name="evil.example")
        with pytest.raises(ssl.SSLCertVerificationError):  # the system's authorities do not know this one
            await dial.checked(asyncio.Protocol, LOOPBACK, running.port, tls=dial.tls_context(), name="localhost")
    assert shown == ["localhost", "evil.example", "localhost"]


async def test_nobody_there_leaves_no_socket_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []
    plain = socket.socket

    def watched(*arguments: int) -> socket.socket:
        made.append(plain(*arguments))
        return made[-1]

    async with engine(answers(reply(b""))) as running:
        gone = running.port
    monkeypatch.setattr(dial.socket, "socket", watched)
    with pytest.raises(OSError):
        await dial.checked(asyncio.Protocol, LOOPBACK, gone, tls=None, name="")
    assert [one.fileno() for one in made] == [-1]


def test_tls_is_1_2_or_later_and_names_are_checked() -> None:
    context = dial.tls_context()
    assert (context.minimum_version, context.check_hostname, context.verify_mode) == (
        ssl.TLSVersion.TLSv1_2, True, ssl.CERT_REQUIRED,
    )  # fmt: skip


def test_authority_file_that_is_none_stops_it(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name in ("empty.pem", "missing.pem"):
        with pytest.raises(OSError):
            dial.tls_context(str(tmp_path / name))
