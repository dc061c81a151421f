"""When certificates change, and what is known of a running server."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stockade import settings as configuration
from stockade.audit.standing import Sinks, Standing
from stockade.serve import supervisor, tls
from stockade.serve.supervisor import AuditProcess, CannotServe, Certificates
from stockade.settings import Settings


@pytest.fixture
def configured(tmp_path: Path) -> Settings:
    return configuration.load(tmp_path, environment={})


async def reloads(certificates: Certificates, change: object = None, looks: int = 3) -> int:
    """Let the watcher look a few times and return how often it asked for a reload."""
    count = 0

    def reload() -> None:
        nonlocal count
        count += 1

    watching = asyncio.create_task(certificates.watch(reload))
    for _ in range(looks):
        certificates.look_now()
        await asyncio.sleep(0.05)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return count


async def test_nothing_is_reloaded_while_nothing_changes(configured: Settings) -> None:
    certificates = Certificates(configured)
    certificates.prepare()
    assert await reloads(certificates) == 0


async def test_our_own_certificate_is_renewed_while_the_server_runs(
    configured: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = Certificates(configured)
    first = certificates.prepare()
    # Its end comes near: everything it has left is less than what has to be left.
    monkeypatch.setattr(tls, "RENEW_BEFORE", first.not_after - datetime.now(UTC) + timedelta(hours=1))
    monkeypatch.setattr(tls, "SERVER_LIFE", timedelta(days=200))
    assert await reloads(certificates) == 1
    active = tls.read_pair(tls.active_file(configured), tls.active_file(configured), datetime.now(UTC))
    assert active.leaf != first.leaf


async def test_operators_files_are_taken_over_when_both_stand_still(tmp_path: Path) -> None:
    source = configuration.load(tmp_path / "one", environment={})
    other = configuration.load(tmp_path / "two", environment={})
    tls.prepare(source)
    tls.prepare(other)
    files = {"certificate": str(tmp_path / "c.pem"), "key": str(tmp_path / "c.key")}
    own = configuration.load(tmp_path / "own", {"tls": files}, environment={})

    def put(origin: Settings) -> None:
        shutil.copy(origin.certificate_file, own.certificate_file)
        shutil.copy(origin.certificate_key_file, own.certificate_key_file)

    put(source)
    certificates = Certificates(own)
    certificates.prepare()
    put(other)
    assert await reloads(certificates, looks=1) == 0, "files may still be being written"
    assert await reloads(certificates, looks=2) == 1
    assert tls.certificates_in(tls.active_file(own)) == tls.certificates_in(other.certificate_file)


async def test_nothing_is_served_before_the_logs_were_held_to_their_witnesses(
    configured: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit, standing, stop = AuditProcess(configured, {}), Standing(configured.run_dir), asyncio.Event()
    for said in (None, Sinks(pid=1, held=True), Sinks(pid=0)):  # nothing, by the one before, and not looked yet
        if said is not None:
            standing.write(said)
        waiting = asyncio.create_task(audit.wait_for_word(stop))
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done
        waiting.cancel()
    waiting = asyncio.create_task(audit.wait_for_word(stop))
    standing.write(Sinks(pid=0, held=True))
    await asyncio.wait_for(waiting, 5)
    standing.write(Sinks(pid=0))
    monkeypatch.setattr(supervisor, "START_TIMEOUT_S", 0.0)
    with pytest.raises(CannotServe, match="not held to their witnesses"):
        await audit.wait_for_word(stop)
    stop.set()
    await audit.wait_for_word(stop)
