"""What the audit log's tree costs: `python -m benchmarks.audit_log [--folder DIR]`. No server: the log as its writer uses it.

"append" is CPU time per record, beside the bare writing of the same lines; "verify" CPU time of one core, from an export and from the log's folder;
"proof" wall time of one, in a log of which only the hashes are made (that is all a proof reads): with the file in memory, and read from the disk.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from stockade.audit import tree
from stockade.audit.export import export
from stockade.audit.heads import Heads, sign_newest
from stockade.audit.reading import PLACE, STATE, Reader, State
from stockade.audit.store import Logs
from stockade.audit.verification import verify_export, verify_log
from stockade.kernel.ids import new_guid
from stockade.kernel.record import AuditRecord
from tests.factories.logs import LOG, Signer

BATCH: Final = 2_000
AIM_APPEND_US: Final = 3.0
AIM_VERIFY_S: Final = 20.0
"""For a million records."""
AIM_PROOF_MS: Final = 10.0
TRIED: Final = 2_000


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. aim: what it is to stay below; None where there is none."""

    name: str
    value: float
    unit: str
    aim: float | None = None

    def __str__(self) -> str:
        said = "" if self.aim is None else f"  {'met' if self.value < self.aim else 'missed'} ({self.aim:g})"
        return f"{self.name:52}{self.value:10.3f} {self.unit}{said}"


def records(count: int) -> list[bytes]:
    """Return records as the data plane writes them, 480 bytes each."""
    encode = msgspec.json.Encoder().encode
    account = f"/subscriptions/{LOG}/resourceGroups/demo/providers/Microsoft.CognitiveServices/accounts/demo-openai"
    return [
        encode(
            AuditRecord(
                time=1_795_694_400.0 + number / 100,
                id=new_guid(),
                category="RequestResponse",
                phase="decision",
                operation="ChatCompletions_Create",
                resource=account,
                caller_address="203.0.113.7",
                client="OpenAI/Python 2.8.0",
                credential="Key1",
                decision="allow",
                rule="Key1",
                status=200,
                outcome="success",
                duration_ms=12.5,
            )
        )
        for number in range(count)
    ]


def spent(work: Callable[[], object]) -> float:
    """Return the CPU time of one piece of work, in seconds."""
    start = time.process_time()
    work()
    return time.process_time() - start


def appending(folder: Path, lines: Sequence[bytes]) -> list[Row]:
    """Append in batches with a sync behind each, as the audit process does when it is busy; leave the log signed a hundred times."""
    writer, heads, signer = Logs(folder).writer(LOG), Heads(folder / "logs" / LOG), Signer()
    batches = [lines[start : start + BATCH] for start in range(0, len(lines), BATCH)]
    with (folder / "bare").open("wb", buffering=0) as bare:
        written = sum(spent(lambda batch=batch: bare.write(b"\n".join(batch) + b"\n")) for batch in batches)  # type: ignore[misc]
    (folder / "bare").unlink()
    appended = synced = 0.0
    waits = []
    for number, batch in enumerate(batches):
        appended += spent(lambda batch=batch: writer.append(batch))  # type: ignore[misc]
        start = time.perf_counter()
        synced += spent(writer.sync)
        waits.append(time.perf_counter() - start)
        if number % max(1, len(batches) // 100) == 0 or number == len(batches) - 1:
            sign_newest(writer, heads, signer.sign, time.time())
    writer.close()
    count = len(lines)
    return [
        Row("append, per record, beyond the bare write", (appended - written) / count * 1e6, "µs", AIM_APPEND_US),
        Row("the bare write, per record", written / count * 1e6, "µs"),
        Row(f"sync of {BATCH} records, CPU per record", synced / count * 1e6, "µs"),
        Row(f"sync of {BATCH} records, waiting for the disk, median", statistics.median(waits) * 1e3, "ms"),
    ]


def verifying(folder: Path) -> list[Row]:
    """Verify the log that was appended to: from an export, and where it lies."""
    reader, keys = Logs(folder).reader(LOG), [Signer().key]
    file, millions = folder / "export.jsonl", reader.size / 1e6
    with file.open("wb") as to:
        exported = spent(lambda: export(reader, Heads(reader.folder), to))
    with file.open("rb") as content:
        from_export = spent(lambda: verify_export(content, keys))
    in_place = spent(lambda: verify_log(reader, keys))
    size = file.stat().st_size
    file.unlink()
    return [
        Row("verify an export, for a million records", from_export / millions, "s", AIM_VERIFY_S),
        Row("verify the log's folder, for a million records", in_place / millions, "s", AIM_VERIFY_S),
        Row("export, for a million records", exported / millions, "s"),
        Row("an export's size, for a million records", size / millions / 1e6, "MB"),
    ]


def only_hashes(folder: Path, count: int) -> Reader:
    """Make a log of which there are only the hashes: of records that nobody has, which a proof does not ask for."""
    folder.mkdir(parents=True)
    growing = tree.Growing()
    with (folder / "hashes").open("wb") as file:
        for start in range(0, count, 100_000):
            numbers = range(start, min(start + 100_000, count))
            file.write(b"".join(growing.grow([number.to_bytes(tree.HASH, "big") for number in numbers])))
        file.flush()
        os.fsync(file.fileno())
    state = State(count, growing.root()).packed()
    (folder / "size").write_bytes(state + bytes(PLACE - STATE.size) + state)
    return Reader(folder)


def proving(reader: Reader, tried: int) -> list[Row]:
    """Prove records here and there, and that the log continues what it was."""
    size, chance = reader.size, random.Random(1)
    root, million = reader.root(), size / 1e6
    included: list[float] = []
    consistent: list[float] = []
    for index in (chance.randrange(size) for _ in range(tried)):
        start = time.perf_counter()
        path = reader.inclusion(index, size)
        included.append(time.perf_counter() - start)
        assert tree.includes(index.to_bytes(tree.HASH, "big"), index, size, path, root)
        consistent.append(took(lambda at=index: reader.consistency(at, size)))  # type: ignore[misc]
    cold: list[float] = []
    for index in (chance.randrange(size) for _ in range(tried // 10)):
        forget(reader.folder / "hashes")
        cold.append(took(lambda at=index: reader.inclusion(at, size)))  # type: ignore[misc]
    return [
        Row(f"inclusion proof at {million:g} M records, median", statistics.median(included) * 1e3, "ms", AIM_PROOF_MS),
        Row("the same, 99th percentile", percentile(included) * 1e3, "ms", AIM_PROOF_MS),
        Row("the same, hashes not in memory, median", statistics.median(cold) * 1e3, "ms", AIM_PROOF_MS),
        Row("consistency proof, median", statistics.median(consistent) * 1e3, "ms", AIM_PROOF_MS),
    ]


def took(work: Callable[[], object]) -> float:
    """Return the wall time of one piece of work, in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def percentile(values: Sequence[float]) -> float:
    """Return the value that 99 of 100 do not exceed."""
    return sorted(values)[len(values) * 99 // 100]


def forget(path: Path) -> None:
    """Ask the system to let go of what it has of a file in memory; it may keep it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError, AttributeError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit_log", description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the logs are made; 1.3 GB")
    parser.add_argument("--records", type=int, default=1_000_000, help="appended and verified")
    parser.add_argument("--proofs", type=int, default=10_000_000, help="records of the log that proofs are made in")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as made:
        folder = Path(made)
        rows = [*appending(folder, records(chosen.records)), *verifying(folder)]
        for row in rows:
            print(row)
        for row in proving(only_hashes(folder / "logs" / "platform", chosen.proofs), TRIED):
            print(row)


if __name__ == "__main__":
    main(sys.argv[1:])
