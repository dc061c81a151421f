"""Time as a value."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stockade.kernel.clock import (
    CLOCK_FILE,
    LONGEST_SIMULATION_S,
    ManualClock,
    SimulatedClock,
    SystemClock,
    clock_of,
    iso,
)
from tests.outside import ROOT


def test_manual_clock_moves_when_told() -> None:
    clock = ManualClock(100.0)
    before = clock.monotonic()
    clock.advance(5)
    clock.jump(-50)
    assert (clock.now(), clock.monotonic() - before) == (55.0, 5.0)


def test_system_clock_counts_seconds() -> None:
    clock = SystemClock()
    assert clock.now() > 1_700_000_000
    assert clock.monotonic() <= clock.monotonic()


@pytest.mark.parametrize(
    ("instant", "text"), [(0, "1970-01-01T00:00:00.0000000Z"), (1_800_000_000.25, "2027-01-15T08:00:00.2500000Z")]
)
def test_instant_is_written_as_arm_writes_it(instant: float, text: str) -> None:
    assert iso(instant) == text
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z", iso(1_799_999_999.999_999))


def test_a_simulated_clock_moves_for_everybody_who_reads_the_file(tmp_path: Path) -> None:
    clock = SimulatedClock.create(tmp_path / CLOCK_FILE)
    other = clock_of(tmp_path)
    assert isinstance(other, SimulatedClock)
    monotonic = other.monotonic()
    clock.advance(4 * 86_400)
    assert other.ahead_s == 4 * 86_400
    assert abs(other.now() - time.time() - 4 * 86_400) < 60
    assert other.monotonic() - monotonic < 60  # what is under way does not time out because of it
    program = "import sys, pathlib; from stockade.kernel.clock import clock_of; print(clock_of(pathlib.Path(sys.argv[1])).ahead_s)"
    seen = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert float(seen.stdout) == 4 * 86_400
    clock.reset()
    assert other.ahead_s == 0


def test_making_a_clock_that_is_there_leaves_its_time(tmp_path: Path) -> None:
    SimulatedClock.create(tmp_path / CLOCK_FILE).advance(60)
    assert SimulatedClock.create(tmp_path / CLOCK_FILE).ahead_s == 60


@pytest.mark.parametrize("seconds", [0, -1, LONGEST_SIMULATION_S + 1, float("nan"), float("inf")], ids=str)
def test_time_is_not_moved_back_or_out_of_the_calendar(tmp_path: Path, seconds: float) -> None:
    clock = SimulatedClock.create(tmp_path / CLOCK_FILE)
    with pytest.raises(ValueError, match="forward"):
        clock.advance(seconds)
    assert clock.ahead_s == 0


@pytest.mark.parametrize(
    "content", [b"", b"123", b"\xff" * 8, b"\x00" * 9, b"\x00\x00\x00\x00\x00\x00\xf8\xbf"], ids=repr
)
def test_another_file_is_no_clock(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CLOCK_FILE).write_bytes(content)
    with pytest.raises(ValueError, match="is no clock"):
        clock_of(tmp_path)


def test_without_the_file_time_is_the_machines(tmp_path: Path) -> None:
    assert isinstance(clock_of(tmp_path), SystemClock)


OWN_TIME = {
    "kernel/clock.py": "makes the clocks",
    "audit/outgoing.py": "when a receiver wants to be asked again is said in that server's time, which is real",
    "audit/sequencer.py": "how long ago a draft was written is told by the file system, whose time is the machine's",
    "audit/spool_files.py": "names of files, in the order in which their writers began, whatever a rehearsal's clock is set to",
    "cli/arm.py": "a command on another machine than the server's has no clock of the platform, see Arm.now",
    "broker/floors.py": "what time does not go back behind is remembered without what a rehearsal moved it by, which is taken back",
    "content/account_content.py": "for tools and tests that give it none; processes of the platform give it theirs",
    "keys/providers/azure_key_vault.py": "whether a key in a vault elsewhere has ended is judged by that vault's time, which is real",
    "storage/database.py": "for tools that open a database and write nothing of their own",
    "serve/supervisor.py": "since when this process has been running, and the ends of TLS certificates, which other programs judge",
    "serve/tls.py": "TLS certificates are judged by other programs, by their own time",
    "services/openai/engines/embedded/app.py": "an engine is a server of its own, that answers as any other model server would",
}
"""Who reads the machine's clock past the platform's, and why."""


def test_everybody_else_has_the_time_from_one_place() -> None:
    package = ROOT / "stockade"
    reads = re.compile(r"\btime\.time\(|\bdatetime\.now\(|\butcnow\(|\bSystemClock\(")
    found = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if reads.search(path.read_text())}
    assert found == set(OWN_TIME)
