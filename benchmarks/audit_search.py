"""What finding a record costs: `python -m benchmarks.audit_search [--folder DIR] [--records N]`. No server: log and index as a search uses them.

"index" is what whoever searches first pays, once per record; then come pages of a hundred, wall time with all records read from the log, the
median of several. "caught up" is a page after a thousand new records.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from stockade.audit.criteria import Wanted
from stockade.audit.index import LogIndex
from stockade.audit.search import FOLDER, search
from stockade.audit.store import Logs
from stockade.kernel.record import AuditRecord

LOG: Final = "11111111-1111-4111-8111-111111111111"
GROUP: Final = f"/subscriptions/{LOG}/resourceGroups/demo"
ACCOUNTS: Final = f"{GROUP}/providers/Microsoft.CognitiveServices/accounts"
BATCH: Final = 10_000
TIMES: Final = 7


def lines(count: int, start: int = 0) -> Iterator[bytes]:
    """Yield records of two hundred accounts and five hundred callers: one in five hundred a change, one in fifty refused."""
    chance = random.Random(start)
    encode = msgspec.json.Encoder().encode
    callers = [str(UUID(int=number + 1)) for number in range(500)]
    for number in range(start, start + count):
        change = number % 500 == 0
        yield encode(
            AuditRecord(
                time=1_795_694_400.0 + number / 100 + chance.random(),
                id=str(UUID(int=chance.getrandbits(128), version=4)),
                category="Audit" if change else "RequestResponse",
                phase="outcome" if change else "decision",
                operation="Microsoft.CognitiveServices/accounts/write" if change else "ChatCompletions_Create",
                resource=f"{ACCOUNTS}/a{chance.randrange(200)}",
                caller_address="203.0.113.7",
                client="OpenAI/Python 2.8.0",
                credential="token",
                principal=chance.choice(callers),
                decision="deny" if chance.random() < 0.02 else "allow",
                status=200,
                outcome="success",
                duration_ms=12.5,
            )
        )


def append(logs: Logs, count: int) -> None:
    """Add records to the log."""
    writer = logs.writer(LOG)
    made = lines(count, writer.size)
    while batch := [line for line, _ in zip(made, range(BATCH), strict=False)]:
        writer.append(batch)
        writer.sync()


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, help="where to measure; default: a temporary folder")
    parser.add_argument("--records", type=int, default=1_000_000)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="stockade-benchmark-", dir=given.folder) as folder:
        logs = Logs(Path(folder))
        append(logs, given.records)
        reader = logs.reader(LOG)
        began, used = time.perf_counter(), time.process_time()
        with LogIndex(Path(folder) / FOLDER, reader) as index:
            index.catch_up()
        took, cpu = time.perf_counter() - began, time.process_time() - used
        size = sum(path.stat().st_size for path in (Path(folder) / FOLDER).iterdir())
        print(
            f"{'index, records per second':44}{given.records / took:12,.0f}   {cpu / given.records * 1e6:.1f} us of CPU each"
        )
        print(f"{'index, bytes per record':44}{size / given.records:12,.0f}")
        middle = msgspec.json.decode(next(reader.records(given.records // 2))[1])
        somebody = str(UUID(int=7))
        for name, wanted in {
            "by decision id": Wanted(decision_id=middle["id"]),
            "newest": Wanted(),
            "of an account": Wanted(resource=f"{ACCOUNTS}/a7"),
            "of a resource group": Wanted(resource=GROUP),
            "by principal": Wanted(who=somebody),
            "by principal, of an account, refused": Wanted(who=somebody, resource=f"{ACCOUNTS}/a7", decision="deny"),
            "refused": Wanted(decision="deny"),
            "in one minute": Wanted(since=middle["time"], until=middle["time"] + 60),
            "activity log": Wanted(activity=True),
            "by a status that none has": Wanted(statuses=(500, 599)),
        }.items():
            spans = []
            for _ in range(TIMES):
                began = time.perf_counter()
                search(reader, Path(folder), wanted)
                spans.append(time.perf_counter() - began)
            print(f"{name:44}{statistics.median(spans) * 1000:12.2f} ms")
        append(logs, 1000)
        began = time.perf_counter()
        search(reader, Path(folder), Wanted())
        print(f"{'newest, caught up with 1,000 records':44}{(time.perf_counter() - began) * 1000:12.2f} ms")
        logs.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
