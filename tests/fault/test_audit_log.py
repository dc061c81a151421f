"""The audit log with several writers, with a full disk, and with a writer that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

PRELUDE = """
import sys, resource, json
from pathlib import Path
from stockade.audit import log as log_module
from stockade.audit.log import AuditLog
from stockade.kernel.faults import Fault
from stockade.kernel.record import AuditRecord
def record(name):
    return AuditRecord(time=1.0, id=str(name), category="Audit", phase="intent", operation="Op", client="x" * 60)
folder = Path(sys.argv[1])
"""


def run(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def written(folder: Path) -> list[str]:
    files = sorted(folder.glob("audit*.jsonl"))
    return [json.loads(line)["id"] for file in files for line in file.read_bytes().splitlines()]


def test_rotation_under_several_writers_loses_no_line(tmp_path: Path) -> None:
    code = """
log_module.BATCH = 50
log = AuditLog(folder, rotate_bytes=20_000, keep_files=10_000)
log.start()
print("ready", flush=True)
sys.stdin.readline()
for number in range(3000):
    log.record(record(f"{sys.argv[2]}-{number}"))
    if number % 50 == 0:
        log.commit(record(f"{sys.argv[2]}-committed-{number}"))
log.close()
"""
    writers = [run(code, str(tmp_path), str(number)) for number in range(3)]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
    for writer in writers:
        writer.communicate(b"go\n", timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    found = written(tmp_path)
    assert len(list(tmp_path.glob("audit-*.jsonl"))) > 20
    assert len(found) == len(set(found)) == 3 * 3060
    for number in range(3):
        own = [int(name.split("-")[1]) for name in found if name.startswith(f"{number}-") and "committed" not in name]
        assert own == list(range(3000)), "and each writer's lines are in their order"


def test_full_disk_is_noticed_cut_clean_and_recovered_from(tmp_path: Path) -> None:
    code = """
log = AuditLog(folder)
log.commit(record("first"))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, ((folder / "audit.jsonl").stat().st_size + 100, hard))
said = []
for number in range(5):
    log.record(record(f"queued-{number}"))
log._drain()
said.append(log.healthy)
try:
    log.commit(record("refused" + "y" * 200))
    said.append("committed")
except Fault as fault:
    said.append(fault.kind.name)
said.append((folder / "audit.jsonl").read_bytes().decode().endswith("}\\n"))
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
log._drain()
said.append(log.healthy)
log.commit(record("last"))
log.close()
print(json.dumps(said))
"""
    child = run(code, str(tmp_path))
    out, _ = child.communicate(timeout=60)
    assert json.loads(out) == [False, "UNAVAILABLE", True, True]
    assert written(tmp_path) == ["first", *(f"queued-{number}" for number in range(5)), "last"]


def test_committed_record_survives_the_killing_of_its_writer(tmp_path: Path) -> None:
    code = """
log = AuditLog(folder, rotate_bytes=5_000, keep_files=10_000)
number = 0
while True:
    log.commit(record(number))
    print(number, flush=True)
    number += 1
"""
    for stop_after in (1, 7, 60):
        folder = tmp_path / str(stop_after)
        child = run(code, str(folder))
        assert child.stdout is not None
        for _ in range(stop_after):
            last = int(child.stdout.readline())
        os.kill(child.pid, signal.SIGKILL)
        rest = child.communicate(timeout=30)[0].split(b"\n")[:-1]
        acknowledged = max([last, *(int(line) for line in rest if line)])
        assert set(map(str, range(acknowledged + 1))) <= set(written(folder))
