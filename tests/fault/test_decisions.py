"""`decisions.db` when things go wrong with it: nobody's request may notice, and what is found damaged is moved aside and begun anew."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from stockade.decisions.record import Decision, Refusal
from stockade.decisions.ring import DecisionRing, findings
from stockade.decisions.store import ASIDE, FILE_NAME, DecisionStore, Finding, Row
from stockade.kernel.clock import ManualClock
from stockade.kernel.control import Control
from stockade.kernel.faults import Fault
from stockade.settings import Decisions
from tests.outside import ROOT

BOUNDS = Decisions(keep_per_account=500, keep=2000)
DAY_S = 86_400.0
ACCOUNT = "/subscriptions/s/a"

WRITER = """
import sys
from pathlib import Path
from stockade.decisions.store import DecisionStore
from stockade.settings import Decisions
from tests.fault.test_decisions import row
store = DecisionStore(Path(sys.argv[1]), Decisions(keep_per_account=500, keep=2000))
number = int(sys.argv[2])
for _ in range(int(sys.argv[3])):
    store.write([row(f"{number}-a"), row(f"{number}-b")], {}, 1.0)
    print(number, flush=True)
    number += 1
store.close()
"""
FULL = """
import resource, sys
from pathlib import Path
from stockade.decisions.ring import DecisionRing
from stockade.decisions.store import DecisionStore
from stockade.kernel.clock import ManualClock
from stockade.settings import Decisions
from tests.fault.test_decisions import row
bounds = Decisions()
ring = DecisionRing(DecisionStore(Path(sys.argv[1]), bounds), bounds, ManualClock())
ring._rows.extend(row(f"before-{n}") for n in range(3))
ring._flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
for _ in range(20):
    ring._rows.extend(row("x" * 20_000) for n in range(3))
    ring._flush()
assert ring._failed, "the file took more than it could"
ring._rows.clear()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ring._rows.extend(row(f"after-{n}") for n in range(3))
ring._flush()
assert not ring._failed
ring.close()
"""


def row(name: str, account: str = ACCOUNT, time: float = 1.0) -> Row:
    made = Decision(id=name, time=time, account=account, credential="key", slot="Key1", allowed=True)
    return Row(name, account, time, "", "allow", True, msgspec.msgpack.encode(made))


def run(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, env=environment, cwd=ROOT
    )


def kept(folder: Path, account: str = ACCOUNT) -> list[str]:
    with DecisionStore(folder, BOUNDS) as store:
        return [entry.decision.id for entry in store.newest(account, 5000)]


def test_killed_writer_leaves_a_sound_file_and_no_half(tmp_path: Path) -> None:
    told: set[int] = set()
    for start in (0, 1000, 2000):
        child = run(WRITER, str(tmp_path), str(start), "100000")
        assert child.stdout is not None
        for _ in range(5):
            told.add(int(child.stdout.readline()))
        os.kill(child.pid, signal.SIGKILL)
        child.communicate(timeout=30)
    names = set(kept(tmp_path))
    assert {f"{number}-a" for number in told} <= names
    assert {name[:-2] for name in names if name.endswith("a")} == {name[:-2] for name in names if name.endswith("b")}
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
    assert not (tmp_path / ASIDE).exists()


def test_full_disk_loses_decisions_and_nothing_else(tmp_path: Path) -> None:
    child = run(FULL, str(tmp_path))
    child.communicate(timeout=60)
    assert child.returncode == 0
    names = kept(tmp_path)
    assert names[:3] == ["after-2", "after-1", "after-0"]
    assert "before-0" in names


def test_two_workers_write_at_once(tmp_path: Path) -> None:
    children = [run(WRITER, str(tmp_path), str(start), "50") for start in (0, 1000)]
    for child in children:
        child.communicate(timeout=60)
        assert child.returncode == 0
    assert len(set(kept(tmp_path))) == 200


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))


def garble(path: Path) -> None:
    path.write_bytes(b"this is no database, whatever its name" * 100)


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE somebody_elses (x)")
    connection.close()


def newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize("spoil", [damage, garble, foreign, newer])
def test_file_that_cannot_be_used_is_moved_aside_and_begun_anew(
    tmp_path: Path, spoil: object, caplog: pytest.LogCaptureFixture
) -> None:
    with DecisionStore(tmp_path, BOUNDS) as store:
        store.write([row(f"old-{number}") for number in range(500)], {}, 1.0)
    assert callable(spoil)
    spoil(tmp_path / FILE_NAME)
    ring = DecisionRing(DecisionStore(tmp_path, BOUNDS), BOUNDS, ManualClock())
    for number in range(3):  # damage inside may be met only on the way
        ring._rows.append(row(f"new-{number}"))
        ring._flush()
    ring.close()
    assert "new-2" in kept(tmp_path)
    assert not any(name.startswith("old") for name in kept(tmp_path))
    assert (tmp_path / ASIDE).exists()
    assert "moved aside" in caplog.text


def test_reader_of_a_damaged_file_is_told_so_and_the_next_one_finds_a_new_one(tmp_path: Path) -> None:
    with DecisionStore(tmp_path, BOUNDS) as store:
        store.write([row(f"old-{number}") for number in range(500)], {}, 1.0)
    damage(tmp_path / FILE_NAME)
    with DecisionStore(tmp_path, BOUNDS) as store, pytest.raises(Fault, match="cannot be read at the moment"):
        store.newest(ACCOUNT, 500)
    assert kept(tmp_path) == []


def test_workers_follow_when_one_of_them_has_moved_the_file_aside(tmp_path: Path) -> None:
    first, second = DecisionStore(tmp_path, BOUNDS), DecisionStore(tmp_path, BOUNDS)
    first.write([row("a")], {}, 1.0)
    second.write([row("b")], {}, 1.0)
    garble(tmp_path / FILE_NAME)
    (tmp_path / FILE_NAME).rename(tmp_path / ASIDE)
    first.write([row("c")], {}, 1.0)
    second.write([row("d")], {}, 1.0)
    assert sorted(kept(tmp_path)) == ["c", "d"]
    first.close()
    second.close()


def test_many_workers_meet_a_foreign_file_at_once(tmp_path: Path) -> None:
    foreign_file = tmp_path / FILE_NAME
    foreign_file.touch()
    foreign(foreign_file)
    gate = threading.Barrier(4)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with DecisionStore(tmp_path, BOUNDS) as store:
                gate.wait(30)
                store.write([row(str(number))], {}, 1.0)
        except BaseException as failure:  # noqa: BLE001 - told to the test
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert sorted(kept(tmp_path)) == ["0", "1", "2", "3"]


def test_file_is_nobody_elses_to_read(tmp_path: Path) -> None:
    with DecisionStore(tmp_path, BOUNDS) as store:
        store.write([row("a")], {}, 1.0)
        assert {path.stat().st_mode & 0o077 for path in tmp_path.glob("decisions*")} == {0}


def refused(name: str, time: float) -> tuple[Row, dict[object, Finding]]:
    told = Refusal("network", "NetworkDenied")
    made = Decision(id=name, time=time, account=ACCOUNT, address="192.0.2.1", refusal=told)
    counted: dict[object, Finding] = {key: Finding(key, 1, time, time, name) for key in findings(made)}
    return Row(name, ACCOUNT, time, "network", "deny", False, msgspec.msgpack.encode(made)), counted


@pytest.mark.parametrize("jump", [-3 * DAY_S, 3 * DAY_S])
def test_clock_that_jumps_costs_neither_order_nor_counts(tmp_path: Path, jump: float) -> None:
    now = 1000 * DAY_S
    with DecisionStore(tmp_path, Decisions(keep_per_account=3, keep_days=30)) as store:
        for number, moment in enumerate((now, now, now + jump, now + jump)):
            made, counted = refused(str(number), moment)
            store.write([made], counted, moment)  # type: ignore[arg-type]
        assert [entry.decision.id for entry in store.newest(ACCOUNT, 10)] == ["3", "2", "1"]
        [finding] = store.findings(ACCOUNT, Control.NETWORK, 0)
    assert (finding.count, finding.first_seen, finding.last_seen) == (4, min(now, now + jump), max(now, now + jump))


def test_what_is_older_than_the_days_kept_is_dropped(tmp_path: Path) -> None:
    with DecisionStore(tmp_path, Decisions(keep_days=2)) as store:
        for day in (100, 101, 105):
            made, counted = refused(str(day), day * DAY_S)
            store.write([made], counted, day * DAY_S)  # type: ignore[arg-type]
        [finding] = store.findings(ACCOUNT, Control.NETWORK, 0)
    assert (finding.count, finding.sample) == (1, "105")
