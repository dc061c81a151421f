"""Notices as JSON, to a real HTTPS server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stockade.jobs.notices import webhook
from stockade.jobs.notices.undelivered import Undelivered
from stockade.settings import Notices
from stockade.storage.documents import Document
from tests.factories.certificates import Certificates, certificates
from tests.factories.letterbox import SECRET, hook, is_signed

NOW = 1_800_000_000.0
NOTICE = Document(
    "/x",
    "x",
    {
        "notice": "n-1",
        "kind": "skuRequest.approved",
        "subject": "/subscriptions/s",
        "title": "t",
        "text": "x",
        "data": {"kind": "Face"},
        "createdAt": "2027-01-15T08:00:00.0000000Z",
        "to": "webhook",
        "attempts": 3,
        "lastError": "not theirs to know",
    },
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("tls"))


def settings(pair: Certificates, folder: Path, port: int, path: str = "/hooks/x?sig=1", **changes: Any) -> Notices:
    file = folder / "secret"
    file.write_text(SECRET + "\n")
    base = {"webhook_secret_file": str(file), "webhook_ca_file": str(pair.authority)}
    return Notices(webhook=f"https://localhost:{port}{path}", **{**base, **changes})


async def test_a_notice_arrives_signed(pair: Certificates, tmp_path: Path) -> None:
    async with hook(pair) as server:
        await webhook.deliver(settings(pair, tmp_path, server.port), NOTICE, NOW)
        await webhook.deliver(settings(pair, tmp_path, server.port), NOTICE, NOW + 60)
    (first, headers, body), (_, again, _) = server.requests
    assert first == "POST /hooks/x?sig=1 HTTP/1.1"
    assert (headers["host"], headers["content-type"]) == (f"localhost:{server.port}", "application/json")
    assert is_signed(headers, body) and not is_signed(headers, body + b" ") and not is_signed(headers, body, "x")
    assert headers["x-stockade-signature"].startswith("t=1800000000,v1=")
    assert headers["x-stockade-notice"] == again["x-stockade-notice"] == "n-1"
    assert headers["x-stockade-signature"] != again["x-stockade-signature"]
    told = server.notices()[0]
    assert set(told) == {"notice", "kind", "subject", "title", "text", "data", "createdAt"}
    assert told["data"] == {"kind": "Face"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("500 Oh", "status 500"),
        ("404 No", "status 404"),
        ("302 Found\r\nlocation: https://elsewhere.example/", "status 302"),
        ("101 Switching Protocols", "HTTP"),
        ("nonsense", "HTTP"),
    ],
    ids=["500", "404", "redirect", "upgrade", "nonsense"],
)
async def test_whatever_is_not_2xx_is_no_delivery(pair: Certificates, tmp_path: Path, answer: str, said: str) -> None:
    async with hook(pair, answer) as server:
        with pytest.raises(Undelivered, match=said):
            await webhook.deliver(settings(pair, tmp_path, server.port), NOTICE, NOW)
    assert len(server.requests) == 1


async def test_a_silent_or_absent_receiver_is_given_up(
    pair: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_S", 0.3)
    async with hook(pair, "") as server:
        with pytest.raises(Undelivered, match="in time"):
            await webhook.deliver(settings(pair, tmp_path, server.port), NOTICE, NOW)
        port = server.port
    with pytest.raises(Undelivered, match="cannot be reached"):
        await webhook.deliver(settings(pair, tmp_path, port), NOTICE, NOW)


async def test_a_receiver_that_does_not_prove_who_it_is_gets_nothing(pair: Certificates, tmp_path: Path) -> None:
    other = certificates(tmp_path / "other")
    async with hook(pair) as server:
        for changes in ({"webhook_ca_file": str(other.authority)}, {"webhook_ca_file": ""}):
            with pytest.raises(Undelivered, match="prove who it is"):
                await webhook.deliver(settings(pair, tmp_path, server.port, **changes), NOTICE, NOW)
    assert server.requests == []


async def test_nothing_goes_out_unsigned(pair: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCKADE_EMPTY", "")
    async with hook(pair) as server:
        for changes in (
            {"webhook_secret_file": str(tmp_path / "missing")},
            {"webhook_secret_env": "STOCKADE_EMPTY"},
            {"webhook_ca_file": str(tmp_path / "missing")},
        ):
            with pytest.raises(Undelivered):
                await webhook.deliver(settings(pair, tmp_path, server.port, **changes), NOTICE, NOW)
        monkeypatch.setenv("STOCKADE_HOOK", "another secret")
        await webhook.deliver(settings(pair, tmp_path, server.port, webhook_secret_env="STOCKADE_HOOK"), NOTICE, NOW)
    (_, headers, body) = server.requests[0]
    assert is_signed(headers, body, "another secret")
