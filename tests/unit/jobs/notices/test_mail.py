"""E-mail, to a real server over TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stockade.jobs.notices import mail
from stockade.jobs.notices.undelivered import Undelivered
from stockade.settings import Mail
from stockade.storage.documents import Document
from tests.factories.certificates import Certificates, certificates
from tests.factories.letterbox import PASSWORD, mail_server

NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("tls"))


def settings(pair: Certificates, port: int, **changes: Any) -> Mail:
    base = {"host": "localhost", "port": port, "sender": "stockade@example.com", "ca_file": str(pair.authority)}
    return Mail(**{**base, "timeout_s": 2.0, **changes})


def notice(**changes: Any) -> Document:
    body = {
        "name": "11111111-2222-4333-8444-555555555555",
        "title": "Request 'r1' is approved",
        "text": "Go on.",
        "to": "mailto:ops@example.com",
    }
    return Document("/x", "x", {**body, **changes})


@pytest.mark.parametrize("tls", ["starttls", "tls", "none"])
async def test_a_letter_arrives(pair: Certificates, tls: str) -> None:
    async with mail_server(pair, tls=tls) as server:
        await mail.deliver(settings(pair, server.port, tls=tls), notice(), NOW)
    (letter,) = server.letters
    assert server.recipients == [["ops@example.com"]]
    assert server.secure == [tls != "none"]
    assert (letter["From"], letter["To"]) == ("stockade@example.com", "ops@example.com")
    assert letter["Subject"] == "Request 'r1' is approved"
    assert letter["Message-ID"] == "<11111111-2222-4333-8444-555555555555@example.com>"
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter["Date"].startswith("Fri, 15 Jan 2027 08:00:00")
    assert letter.get_content_type() == "text/plain"
    assert letter.get_content().replace("\r\n", "\n").strip() == "Request 'r1' is approved\n\nGo on."


async def test_the_password_is_from_a_file(pair: Certificates, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(PASSWORD + "\n")
    file = str(tmp_path / "password")
    async with mail_server(pair, password=True) as server:
        await mail.deliver(settings(pair, server.port, user="stockade", credential_file=file), notice(), NOW)
        assert server.users == ["stockade"]
        (tmp_path / "password").write_text("wrong")
        with pytest.raises(Undelivered, match=r"refused \(535\)") as refused:
            await mail.deliver(settings(pair, server.port, user="stockade", credential_file=file), notice(), NOW)
        assert "wrong" not in str(refused.value)
        for named in ({"credential_file": str(tmp_path / "missing")}, {"credential_env": "STOCKADE_NOT_SET"}):
            with pytest.raises(Undelivered, match="password"):
                await mail.deliver(settings(pair, server.port, user="stockade", **named), notice(), NOW)
    assert len(server.letters) == 1


async def test_without_starttls_nothing_is_sent(pair: Certificates) -> None:
    async with mail_server(pair, tls="none") as server:
        with pytest.raises(Undelivered):
            await mail.deliver(settings(pair, server.port, tls="starttls"), notice(), NOW)
    assert server.letters == []


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_a_server_that_does_not_prove_who_it_is_gets_nothing(
    pair: Certificates, tls: str, tmp_path: Path
) -> None:
    other = certificates(tmp_path / "other")
    async with mail_server(pair, tls=tls) as server:
        with pytest.raises(Undelivered, match="does not prove who it is"):
            await mail.deliver(settings(other, server.port, tls=tls), notice(), NOW)
    assert server.letters == []


async def test_a_silent_server_is_given_up(pair: Certificates) -> None:
    async with mail_server(pair, silent=True) as server:
        with pytest.raises(Undelivered, match="in time"):
            await mail.deliver(settings(pair, server.port, timeout_s=0.3), notice(), NOW)
    assert len(server.letters) == 1


async def test_refusals_and_absence_are_told_apart(pair: Certificates) -> None:
    async with mail_server(pair, refuse=("ops@example.com",)) as server:
        with pytest.raises(Undelivered, match=r"does not take mail for the recipient \(550\)"):
            await mail.deliver(settings(pair, server.port), notice(), NOW)
        port = server.port
    with pytest.raises(Undelivered, match="cannot be reached"):
        await mail.deliver(settings(pair, port), notice(), NOW)
    with pytest.raises(Undelivered, match="ca_file"):
        await mail.deliver(settings(pair, port, ca_file="/nowhere.pem"), notice(), NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "hello\r\nBcc: c@example.com\r\n\r\nbody"},
        {"title": "hello\nX: y"},
        {"title": "hello\x85X: y\u2028Z: w"},
        {"text": "\r\n.\r\nMAIL FROM:<x@example.com>\r\nRCPT TO:<c@example.com>\r\nDATA\r\nhi\r\n.\r\n"},
    ],
    ids=["crlf", "lf", "unicode", "body"],
)
async def test_nothing_in_a_notice_adds_a_header_or_a_recipient(pair: Certificates, changes: Any) -> None:
    async with mail_server(pair, tls="none") as server:
        await mail.deliver(settings(pair, server.port, tls="none"), notice(**changes), NOW)
    (letter,) = server.letters
    assert server.recipients == [["ops@example.com"]]
    assert not {"bcc", "x", "z"} & {name.lower() for name in letter.keys()}  # noqa: SIM118 - a message is no mapping
    assert letter.get_content_type() == "text/plain"


@pytest.mark.parametrize(
    "to", ["mailto:a@example.com\r\nBcc: c@example.com", "mailto:a@example.com\nX: y"], ids=["crlf", "lf"]
)
async def test_an_address_that_is_none_is_refused_before_anything_is_sent(pair: Certificates, to: str) -> None:
    async with mail_server(pair, tls="none") as server:
        with pytest.raises(ValueError, match="may not contain linefeed"):
            await mail.deliver(settings(pair, server.port, tls="none"), notice(to=to), NOW)
    assert server.letters == []
