"""Tests of witnesses: what is pinned, and what is noticed of a log that is not the one they know."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stockade.audit import witnesses
from stockade.audit.checkpoint import Head, HeadKey, SignedHead, origin_of, read_file, read_note, sign_note
from stockade.audit.ledger import LogReader, log_of
from stockade.audit.witnesses import Witnessing, WitnessSurroundings, accept, newest_notes
from stockade.kernel.clock import SystemClock
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.record import AuditRecord
from stockade.settings import Witness
from tests.factories.certificates import certificates
from tests.factories.letterbox import hook
from tests.factories.memory_log import MemoryLog

WITHIN_S = 60.0
"""Far more than anything takes: a machine may be busy, and its disk slow to sync."""
NAME = "11111111-1111-4111-8111-111111111111"


KEY, OTHER_KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def public(key: Ed25519PrivateKey) -> HeadKey:
    return HeadKey(key.public_key().public_bytes_raw())


def signed(log: MemoryLog, key: Ed25519PrivateKey = KEY) -> SignedHead:
    head = Head(origin_of("tenant", log.name), log.size, log.root(), 1.0)
    return read_note(sign_note(head, public(key), key.sign))


class Platform:
    """Logs, and where their heads are pinned."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder / "state", folder / "heads"
        self.logs = {NAME: MemoryLog(NAME), "platform": MemoryLog("platform")}
        self.recorded: list[AuditRecord] = []
        self.sealed = False

    def grow(self, count: int, name: str = NAME, what: str = "r") -> None:
        log = self.logs[name]
        log.add(*(f"{what}{log.size + number}".encode() for number in range(count)))

    def key(self) -> HeadKey:
        if self.sealed:
            raise Fault(FaultKind.UNAVAILABLE, "The platform is sealed.")
        return public(KEY)

    @contextlib.asynccontextmanager
    async def witnessing(self, *more: Witness) -> AsyncIterator[Witnessing]:
        found: dict[str, LogReader] = dict(self.logs)
        around = WitnessSurroundings(
            self.folder,
            lambda: found,
            lambda: {name: signed(log) for name, log in self.logs.items() if log.size},
            self.key,
            self.recorded.append,
            SystemClock(),
        )
        made = Witnessing(more or (Witness(f"file://{self.file}", timeout_s=30.0),), around)
        task = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def pinned(self) -> list[bytes]:
        return newest_notes(self.file)


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    monkeypatch.setattr(witnesses, "LOOK_S", 0.01)
    monkeypatch.setattr(witnesses, "FIRST_WAIT_S", 0.01)
    return Platform(tmp_path)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110 - files tell nobody
            await asyncio.sleep(0.005)


async def test_each_new_head_is_appended_once(platform: Platform) -> None:
    platform.grow(3)
    platform.grow(1, "platform")
    async with platform.witnessing() as made:
        await until(lambda: len(platform.pinned()) == 2)
        platform.grow(2)
        await until(lambda: b"\n5\n" in platform.file.read_bytes())
        await asyncio.sleep(0.05)
    heads, rest = read_file(platform.file.read_bytes())
    assert (sorted(one.head.size for one in heads), rest) == ([1, 3, 5], b"")
    assert made.state.witnesses[0].logs[NAME].size == 5
    assert made.problem == ""


async def test_a_restart_pins_nothing_twice_and_agrees(platform: Platform) -> None:
    platform.grow(3)
    async with platform.witnessing():
        await until(lambda: any(one.logs[NAME].size for one in witnesses.read_state(platform.folder).witnesses))
    before = platform.file.read_bytes()
    async with platform.witnessing() as made:
        await until(lambda: made._pins[0].checked)
        await asyncio.sleep(0.05)
        assert made.problem == ""
    assert platform.file.read_bytes() == before


async def test_nothing_was_held_before_the_key_that_heads_verify_with_is_known(platform: Platform) -> None:
    platform.grow(5)
    async with platform.witnessing():
        await until(platform.pinned)
    platform.logs[NAME] = MemoryLog(NAME)
    platform.sealed = True
    async with platform.witnessing() as made:
        await until(lambda: made.state.witnesses[0].failing_since)
        assert not made.checked.is_set()
        platform.sealed = False
        await until(made.checked.is_set)
        assert made.problem, "what is wrong is known by then"


@pytest.mark.parametrize("how", ["shorter", "gone", "rewritten", "rewritten and longer"])
async def test_a_log_that_was_rolled_back_is_noticed(
    platform: Platform, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    platform.grow(5)
    async with platform.witnessing():
        await until(platform.pinned)
    log = platform.logs[NAME] = MemoryLog(NAME)
    if how == "gone":
        del platform.logs[NAME]
    elif how == "shorter":
        platform.grow(3)
    else:
        platform.grow(5 if how == "rewritten" else 9, what="x")
    before = platform.file.read_bytes()
    async with platform.witnessing() as made:
        await until(lambda: made.problem)
        await asyncio.sleep(0.05)
        assert "pinned 5 records" in made.problem
    assert platform.file.read_bytes() == before, "nothing is pinned over it"
    assert "rolled back or rewritten" in caplog.text
    assert log is not None
    async with platform.witnessing() as made:  # a restart forgets nothing
        assert made.problem


async def test_what_an_operator_accepts_is_recorded_and_goes_on(platform: Platform) -> None:
    platform.grow(5)
    async with platform.witnessing():
        await until(platform.pinned)
    platform.logs[NAME] = MemoryLog(NAME)
    platform.grow(3)
    async with platform.witnessing() as made:
        await until(lambda: made.problem)
        await until(lambda: witnesses.read_state(platform.folder).contradictions)
        [one] = accept(platform.folder, "restored from Sunday's backup", 1.0)
        assert (one.log, one.size, one.found) == (NAME, 5, 3)
        await until(lambda: not made.problem)
        await until(lambda: b"\n3\n" in platform.file.read_bytes())
    [record] = platform.recorded
    assert record.operation == "Stockade.Audit/logs/acceptRollback/action"
    assert record.reason == "restored from Sunday's backup"
    assert log_of(record.resource) == NAME
    assert record.because is not None
    assert record.because["pinned"] == "5"
    assert not (platform.folder / witnesses.ACCEPTED_FILE).exists()
    async with platform.witnessing() as made:
        await until(lambda: made._pins[0].checked)
        assert made.problem == ""
    assert accept(platform.folder, "again", 1.0) == []


async def test_heads_of_others_are_said_and_decide_nothing(
    platform: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    platform.file.write_bytes(signed(MemoryLog(NAME, [b"x"] * 9), OTHER_KEY).note + b"\n")
    platform.grow(1)
    async with platform.witnessing() as made:
        await until(lambda: len(platform.pinned()) == 1 and b"\n1\n" in platform.file.read_bytes())
        assert made.problem == ""
    assert "not this platform's" in caplog.text


async def test_a_file_that_is_away_is_waited_for_before_anything_is_pinned(platform: Platform) -> None:
    platform.file = platform.file.parent / "mount" / "heads"
    platform.file.parent.write_text("no folder")
    platform.grow(1)
    async with platform.witnessing() as made:
        await until(lambda: made.state.witnesses[0].failing_since)
        assert not made._pins[0].checked
        await until(made.checked.is_set)  # the platform does not wait for it
        platform.file.parent.unlink()
        platform.file.parent.mkdir()
        await until(platform.pinned)
        await until(lambda: not made.state.witnesses[0].failing_since)


async def test_an_address_gets_notes_until_it_takes_them(platform: Platform, tmp_path: Path) -> None:
    made_certificates = certificates(tmp_path / "tls")
    platform.grow(2)
    async with hook(made_certificates, "503 Busy", "302 Found", "201 Created") as server:
        url = f"https://localhost:{server.port}/pin"
        async with platform.witnessing(Witness(url, ca_file=str(made_certificates.authority))) as made:
            await until(lambda: made.state.witnesses[0].last_success)
    first, headers, body = server.requests[-1]
    assert (first, headers["content-type"]) == ("POST /pin HTTP/1.1", "text/plain; charset=utf-8")
    assert body == signed(platform.logs[NAME]).note
    assert len(server.requests) == 3
    assert "redirects are not followed" in made.state.witnesses[0].last_error
