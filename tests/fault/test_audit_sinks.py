"""Deliveries whose process is killed: between a receiver's word and the cursor, again and again, nothing is lost and nothing comes out of order."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from stockade.audit.store import Logs
from stockade.kernel.record import AuditRecord
from tests.outside import ROOT

LOG = "11111111-1111-4111-8111-111111111111"
COUNT = 60
DELIVERER = """
import asyncio, os, signal, sys
from pathlib import Path
from stockade.audit import delivery
from stockade.audit.store import Logs
from stockade.kernel.clock import SystemClock
from stockade.settings import Sink

folder, batches, when = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
delivery.MOST_RECORDS = 10
save = delivery.save

def kill_instead(path, data):
    global batches
    batches -= 1
    if when == "before the cursor" and batches == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    save(path, data)
    if batches == 0:
        os.kill(os.getpid(), signal.SIGKILL)

delivery.save = kill_instead
logs = Logs(folder / "audit")
around = delivery.Surroundings(
    folder / "state", lambda: {name: logs.reader(name) for name in logs.names()}, lambda: None, SystemClock(), "local"
)
configured = Sink("out", "file", f"file://{folder}/out", everything=True)

async def main():
    made = delivery.Delivery(configured, around)
    made._most = 10
    await made.run()

asyncio.run(main())
"""


def test_a_kill_between_delivery_and_cursor_sends_again_and_loses_nothing(tmp_path: Path) -> None:
    logs = Logs(tmp_path / "audit")
    writer = logs.writer(LOG)
    writer.append([msgspec.json.encode(record(number)) for number in range(COUNT)])
    writer.sync()
    logs.close()
    for batches, when in ((1, "before the cursor"), (2, "before the cursor"), (2, "after it"), (3, "after it")):
        done = subprocess.run(
            [sys.executable, "-c", DELIVERER, str(tmp_path), str(batches), when], cwd=ROOT, timeout=60, check=False
        )
        assert done.returncode == -signal.SIGKILL
    lines = (tmp_path / "out" / "out.jsonl").read_text().splitlines()
    places = [json.loads(line)["properties"]["index"] for line in lines]
    assert list(dict.fromkeys(places)) == list(range(COUNT))
    assert len(places) == COUNT + 20, "the batches whose cursor was lost came twice, and no others"


def record(number: int) -> AuditRecord:
    return AuditRecord(time=float(number), id=f"d{number}", category="Audit", phase="outcome", operation="o")
