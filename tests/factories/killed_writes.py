"""Content that is written, changed and deleted by processes that are killed: one before each of their writes. Prints one JSON line per kill.

Run as a program in a folder with a migrated database. Writes are what outlives the process: a transaction committed, a piece handed to the store,
a body put in place, made durable, removed. A forked child ends without warning right before the n-th; another one looks at what is there, sweeps,
and looks again.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import obstore
from sqlalchemy import Connection

from stockade.content import objects
from stockade.content.objects import LocalBodies
from stockade.content.retention import Sweeper
from stockade.kernel.clock import SystemClock
from stockade.kernel.faults import Fault
from stockade.storage.database import Database
from tests.factories.contents import ACCOUNT, Kept

for module in ("anyio._backends._asyncio", "sqlalchemy.dialects.sqlite"):
    importlib.import_module(module)  # or each child would

KILLED = 9
PART_BYTES = 256 * 1024
BODY = bytes(range(256)) * (2 * PART_BYTES // 256 + 10)
SMALL = b"a small one"


def kill_before(step: int) -> None:
    """Make this process end without warning right before its n-th write."""
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if done == step:
            os.kill(os.getpid(), KILLED)

    def before(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(*arguments: Any, **named: Any) -> Any:
            count()
            return original(*arguments, **named)

        setattr(owner, name, call)

    before(Connection, "commit")
    before(obstore, "put_async")
    before(LocalBodies, "_make_durable")
    before(LocalBodies, "_unlink")
    pieces = _pieces

    async def counted(data: bytes) -> AsyncIterator[bytes]:
        async for piece in pieces(data):
            count()
            yield piece

    globals()["_pieces"] = counted


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), PART_BYTES // 2):
        yield data[start : start + PART_BYTES // 2]


def open_kept(folder: Path) -> tuple[Kept, Database]:
    database = Database(f"sqlite:///{folder / 'stockade.db'}")
    return Kept(folder, database, clock=SystemClock()), database


async def create(folder: Path) -> None:
    kept, _ = open_kept(folder)
    await kept.of().create("files", "new", {"name": "new"}, _pieces(BODY), status="processed")


async def create_small(folder: Path) -> None:
    kept, _ = open_kept(folder)
    await kept.of().create("files", "new", {"name": "new"}, _pieces(SMALL), status="processed")


async def create_without_body(folder: Path) -> None:
    kept, _ = open_kept(folder)
    await kept.of().create("responses", "new", {"name": "new"}, status="processed")


async def update(folder: Path) -> None:
    kept, _ = open_kept(folder)
    await kept.of().update(await kept.of().get("files", "old"), metadata={"name": "changed"}, status="changed")


async def delete(folder: Path) -> None:
    kept, _ = open_kept(folder)
    await kept.of().delete(await kept.of().get("files", "old"))


async def purge(folder: Path) -> None:
    kept, _ = open_kept(folder)
    await kept.contents.purge_account(ACCOUNT)


ACTIONS: dict[str, Callable[[Path], Awaitable[None]]] = {
    action.__name__: action for action in (create, create_small, create_without_body, update, delete, purge)
}


async def prepare(folder: Path) -> None:
    kept, _ = open_kept(folder)
    await kept.of().create("files", "old", {"name": "old"}, _pieces(SMALL), status="old")


async def look(folder: Path) -> None:
    """Write into the folder what a reader finds, before and after sweeping."""
    kept, database = open_kept(folder)
    sweeper = Sweeper(kept.contents.rows, kept.clock)
    found: dict[str, Any] = {"before": await _items(kept)}
    while due := sweeper.due():
        for piece in due:
            await sweeper.sweep(piece, kept.contents.bodies)
    found["after"] = await _items(kept)
    found["files"] = len(kept.stored())
    found["usage"] = list(await kept.contents.usage(ACCOUNT))
    with database.read() as reader:
        found["rows"] = [
            list(row) for row in reader.connection.exec_driver_sql("SELECT id, state, charged FROM content_items")
        ]
    (folder / "found.json").write_text(json.dumps(found))


async def _items(kept: Kept) -> dict[str, Any]:
    items: dict[str, Any] = {}
    for kind in ("files", "responses"):
        for item in await kept.of().find(kind):  # type: ignore[arg-type]
            body = b"".join([piece async for piece in kept.of().read(item)])
            items[item.id] = [item.status, item.metadata, len(body), sha256(body).hexdigest()]
    return items


def in_child(action: Callable[[], Awaitable[None]]) -> int:
    """Do something in a forked child; return how it ended, minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(action())  # type: ignore[arg-type]
        except Fault as fault:
            print(fault, file=sys.stderr)
            os._exit(2)
        except BaseException as failure:  # noqa: BLE001 - the child's only way to tell
            print(repr(failure), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(template: Path, folder: Path) -> None:
    objects.PART_BYTES = PART_BYTES  # type: ignore[misc]
    prepared = folder / "prepared"
    prepared.mkdir()
    shutil.copy(template, prepared / "stockade.db")
    assert in_child(lambda: prepare(prepared)) == 0
    for name, action in ACTIONS.items():
        for step in itertools.count(1):
            own = folder / "own"
            shutil.copytree(prepared, own)

            async def disturbed(step: int = step, action: Callable[[Path], Awaitable[None]] = action) -> None:
                kill_before(step)
                await action(own)  # noqa: B023 - called at once

            ended = in_child(disturbed)
            looked = in_child(lambda: look(own))  # noqa: B023 - called at once
            found = json.loads((own / "found.json").read_text()) if looked == 0 else {}
            print(json.dumps({"action": name, "step": step, "ended": ended, "looked": looked, **found}), flush=True)
            shutil.rmtree(own)
            if ended == 0:
                break


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
