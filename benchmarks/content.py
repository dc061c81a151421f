"""What keeping content costs: `python -m benchmarks.content [--folder DIR]`. No server: format, store and rows as a worker uses them, in one run.

"cipher" lines are CPU time of one core: the bare AES-256-GCM of the same library over segments of the same size, and the stored format around it,
given pieces as requests bring them. "store" lines are wall time with everything: rows in SQLite, keys lent anew every five seconds, bodies that are
on disk (fsync) when they count, beside a plain file's copy and reading. Each of those is a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final
from unittest import mock

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stockade.content.account_content import WRITE_BATCH_BYTES, Contents
from stockade.content.format import BATCH, REST_BYTES, TAG_BYTES, Head, Layout, Sealer, SegmentCipher
from stockade.content.item import AccountContent, Item
from stockade.content.objects import LocalBodies
from stockade.kernel.evidence import CallerKey
from stockade.kernel.secret import Secret
from stockade.keys.broker import ObjectKeys
from stockade.settings import Content, Settings
from stockade.storage.database import Database

MB: Final = 1_000_000
SIZES: Final = {"1 MB": MB, "1 GB": 1000 * MB}
PIECE: Final = 64 * 1024
KEY: Final = Secret(bytes(range(32)))
SOURCE: Final = os.urandom(64 * PIECE)
"""Four megabytes that every body consists of: what a core's cache holds, as it does of what a socket has just given."""
AIM_OF_RAW: Final = 0.8
AIM_TOUCHED: Final = 2 * MB
AIM_GROWTH: Final = 64 * MB
RUNS: Final = {"1 MB": 25, "1 GB": 3}


class Lender:
    """Lends the same key for five seconds."""

    async def object_keys(self, account_id: str, objects: Any, *_: object) -> ObjectKeys:
        return ObjectKeys(tuple(KEY for _ in objects), "d1", 5.0)


def pieces(size: int, piece: int = PIECE) -> list[memoryview]:
    """Return a body as a request brings it."""
    source = memoryview(SOURCE)
    whole, rest = divmod(size, piece)
    found = [source[start : start + piece] for start in range(0, len(SOURCE), piece)]
    return [found[number % len(found)] for number in range(whole)] + ([source[:rest]] if rest else [])


# Cipher: CPU time.


def raw_seal(size: int) -> None:
    cipher, source = AESGCM(KEY.reveal()), memoryview(SOURCE)
    room = bytearray(min(BATCH, 1 + size // REST_BYTES) * (REST_BYTES + TAG_BYTES))
    view, length = memoryview(room), REST_BYTES + TAG_BYTES
    for number, start in enumerate(range(0, size, REST_BYTES)):
        part = min(REST_BYTES, size - start)
        place, at = number % BATCH * length, start % (len(SOURCE) - REST_BYTES)
        cipher.encrypt_into(
            number.to_bytes(12, "big"), source[at : at + part], None, view[place : place + part + TAG_BYTES]
        )


def format_seal(size: int, piece: int) -> None:
    cipher, sealer, body = SegmentCipher(KEY, Head(), b"bound"), Sealer(), pieces(size, piece)
    at_once = WRITE_BATCH_BYTES // piece
    for start in range(0, len(body), at_once):
        sealer.add(cipher, body[start : start + at_once])
    sealer.finish(cipher)


def raw_open(size: int) -> Callable[[], None]:
    cipher = AESGCM(KEY.reveal())
    sealed = [cipher.encrypt(bytes(12), SOURCE[:REST_BYTES], None) for _ in range(8)]
    rest = cipher.encrypt(bytes(12), SOURCE[: size % REST_BYTES], None)

    def run() -> None:
        for number in range(size // REST_BYTES):
            cipher.decrypt(bytes(12), sealed[number % 8], None)
        cipher.decrypt(bytes(12), rest, None)

    return run


def format_open(size: int) -> Callable[[], None]:
    """The first segments of such a body, over and over: where they lie is worked out, and what was read is looked at."""
    head, sealer = Head(), Sealer()
    cipher, body = SegmentCipher(KEY, head, b"bound"), pieces(min(size, 4 * MB))
    stored = b"".join([head.encode(), *sealer.add(cipher, body), sealer.finish(cipher)])
    layout, view = Layout(sealer.size), memoryview(stored)

    def run() -> None:
        left = size
        while left > 0:
            for first in range(0, layout.last + 1, 4):
                final = min(first + 3, layout.last)
                start, end = layout.stored_at(first)[0], layout.stored_at(final)[1]
                left -= sum(len(part) for part in layout.open(cipher, first, final, view[start:end]))

    return run


def cpu(call: Callable[[], None]) -> float:
    begun = time.process_time()
    call()
    return time.process_time() - begun


# Store: wall time, each in a process of its own.


def opened(folder: Path) -> Contents:
    database = Database(f"sqlite:///{folder / 'stockade.db'}")
    database.migrate()
    bounds = Content(max_file_bytes=10**11, max_account_bytes=10**12)
    return Contents(Settings(data_dir=folder, content=bounds), database, Lender())  # type: ignore[arg-type]


def timed(call: Callable[[], None], runs: int) -> float:
    best = float("inf")
    for _ in range(runs):
        begun = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begun)
    return best


def copy(folder: Path, size: int, runs: int) -> dict[str, float]:
    def run() -> None:
        with (folder / "plain").open("rb") as source, (folder / "copied").open("wb") as target:
            while data := source.read(1 << 20):
                target.write(data)
            target.flush()
            os.fsync(target.fileno())

    return {"seconds": timed(run, runs)}


def read(folder: Path, size: int, runs: int) -> dict[str, float]:
    def run() -> None:
        with (folder / "plain").open("rb", buffering=0) as source:
            room = bytearray(1 << 20)
            while source.readinto(room):
                pass

    return {"seconds": timed(run, runs)}


def put(folder: Path, size: int, runs: int) -> dict[str, float]:
    contents = opened(folder)
    numbers = itertools.count()
    body = [bytes(piece) for piece in pieces(4 * MB)]

    async def give() -> AsyncIterator[bytes]:
        left, number = size, 0
        while left > 0:
            piece = body[number % 60]
            yield piece if left >= PIECE else piece[:left]
            left, number = left - PIECE, number + 1

    async def create() -> None:
        content = contents.of("/a", CallerKey(KEY), "write", "benchmark")
        item = await content.create("files", f"put-{size}-{runs}-{next(numbers)}", {"filename": "x"}, give())
        assert item.size == size

    async def forget() -> None:
        content = contents.of("/a", CallerKey(KEY), "write", "benchmark")
        for item in await content.find("files", limit=1000):
            await content.delete(item)

    best = float("inf")
    with asyncio.Runner() as runner:
        for _ in range(runs):
            runner.run(forget())  # in memory there may be no room for all of them
            best = min(best, timed(lambda: runner.run(create()), 1))
    return {"seconds": best}


async def kept(content: AccountContent, size: int) -> Item:
    return next(item for item in await content.find("files", limit=1000) if item.size == size)


def get(folder: Path, size: int, runs: int) -> dict[str, float]:
    contents = opened(folder)

    async def whole() -> None:
        content, got = contents.of("/a", CallerKey(KEY), "read", "benchmark"), 0
        async for piece in content.read(await kept(content, size)):
            got += len(piece)
        assert got == size

    with asyncio.Runner() as runner:
        return {"seconds": timed(lambda: runner.run(whole()), runs)}


def part(folder: Path, size: int, runs: int) -> dict[str, float]:
    """Read one megabyte at places all over the body; report the most bytes that one reading took from the store."""
    contents = opened(folder)
    fetch, touched, most = LocalBodies.get, 0, 0

    async def counted(bodies: LocalBodies, location: str, start: int, end: int, whole_size: int) -> memoryview:
        nonlocal touched
        touched += end - start
        return await fetch(bodies, location, start, end, whole_size)

    places = [number * (size - MB) // 40 for number in range(41)]

    async def all_over() -> None:
        nonlocal touched, most
        content = contents.of("/a", CallerKey(KEY), "read", "benchmark")
        item = await kept(content, size)
        for place in places:
            touched = got = 0
            async for piece in content.read(item, place, place + MB):
                got += len(piece)
            assert got == MB
            most = max(most, touched)

    with mock.patch.object(LocalBodies, "get", counted), asyncio.Runner() as runner:
        seconds = timed(lambda: runner.run(all_over()), runs) / len(places)
    return {"seconds": seconds, "touched": most}


STORE: Final = {call.__name__: call for call in (copy, put, read, get, part)}


def alone(name: str, folder: Path, size: int, runs: int) -> dict[str, float]:
    """Measure in a process of its own."""
    arguments = [sys.executable, "-m", "benchmarks.content", "--alone", name, str(folder), str(size), str(runs)]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    return {key: float(value) for key, _, value in (line.partition("=") for line in done.stdout.split())}


def memory(name: str) -> int:
    """Return a line of /proc/self/status, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def ciphers() -> None:
    print(f"{'cipher, one core, CPU time':50}{'MB/s':>9}{'of raw':>9}  aim")
    for label, size in SIZES.items():
        encrypt = {
            f"stored format, in pieces of {piece >> 10} KiB": lambda size=size, piece=piece: format_seal(size, piece)  # type: ignore[misc]
            for piece in (PIECE, 1 << 20)
        }
        compared("encrypt", label, {"raw AES-256-GCM": lambda size=size: raw_seal(size), **encrypt})  # type: ignore[misc]
        compared("decrypt", label, {"raw AES-256-GCM": raw_open(size), "stored format": format_open(size)})


def compared(what: str, label: str, calls: dict[str, Callable[[], None]]) -> None:
    """Print the best of several runs of each; taken in turns, so that a busy neighbour is everybody's."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(RUNS[label] * 2):
        best = {name: min(best[name], cpu(call)) for name, call in calls.items()}
    raw = next(iter(best.values()))
    for name, seconds in best.items():
        share = raw / seconds
        aim = (
            "" if label == "1 MB" or seconds == raw else "met" if share >= AIM_OF_RAW else f"missed ({AIM_OF_RAW:.0%})"
        )
        print(f"{f'{what} {label}, {name}':50}{SIZES[label] / seconds / MB:9.0f}{share:9.0%}  {aim}")


def stores(folder: Path) -> None:
    print(f"\n{'store: wall time, all of it':50}{'ms':>9}{'MB/s':>9}{'CPU ms':>9}{'peak MB':>9}  aim")
    peaks: dict[tuple[str, str], float] = {}
    for label, size in SIZES.items():
        with (folder / "plain").open("wb") as plain:
            for piece in pieces(size):
                plain.write(piece)
        for name, what in {
            "copy": "plain file, copied",
            "put": "kept",
            "read": "plain file, read",
            "get": "read back",
        }.items():
            found = alone(name, folder, size, RUNS[label])
            peaks[name, label] = found["peak"]
            seconds, aim = found["seconds"], ""
            if label == "1 GB" and name in {"put", "get"}:
                growth = peaks[name, label] - peaks[name, "1 MB"]
                aim = "met" if growth <= AIM_GROWTH else f"missed: {growth / MB:.0f} MB more than 1 MB took"
            row = f"{seconds * 1000:9.1f}{size / seconds / MB:9.0f}{found['cpu'] * 1000:9.1f}{peaks[name, label] / MB:9.1f}"
            print(f"{f'{what}, {label}':50}{row}  {aim}")
    found = alone("part", folder, SIZES["1 GB"], 5)
    aim = "met" if found["touched"] <= AIM_TOUCHED else "missed"
    row = f"{found['seconds'] * 1000:9.2f}{MB / found['seconds'] / MB:9.0f}{found['peak'] / MB:18.1f}"
    print(f"{'1 MB out of 1 GB':50}{row}  {aim}: {found['touched'] / MB:.2f} MB of the store touched at most")


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--folder", type=Path, help="where to measure the store; default: a temporary folder")
    arguments.add_argument("--alone", nargs=4, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.alone:
        name, folder, size, runs = given.alone
        opened(Path(folder))
        STORE[name](Path(folder), MB if name == "put" else int(size), 1)  # what is done once is no part of the figures
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
        base, used = memory("VmRSS"), time.process_time()
        found = STORE[name](Path(folder), int(size), int(runs))
        found |= {"peak": memory("VmHWM") - base, "cpu": (time.process_time() - used) / int(runs)}
        print(*(f"{key}={value}" for key, value in found.items()))
        return
    ciphers()
    folder = Path(tempfile.mkdtemp(prefix="stockade-benchmark-", dir=given.folder))
    try:
        stores(folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
