"""A node that does jobs: `python -m tests.factories.job_process DATABASE_URL DATA_DIR NODE OUT PIECES`.

Each piece has five steps; each writes a line into OUT (piece, step, node) when it is done. Between them it rests for a moment.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from stockade.jobs.durable import Durable
from stockade.jobs.job import Run, Workplace
from stockade.jobs.nodes import Nodes
from stockade.jobs.runner import Runner
from stockade.kernel.clock import SystemClock
from stockade.storage.database import Database
from tests.factories.jobs import workplace

STEPS = 5


class Writing:
    """Work that leaves traces."""

    name: ClassVar[str] = "writing"
    every_s: ClassVar[float] = 0.1
    on_change: ClassVar[bool] = False

    def __init__(self, node: str, out: Path, pieces: int) -> None:
        self._node, self._out, self._pieces = node, out, pieces

    def due(self, place: Workplace) -> Iterable[str]:
        return [f"p{number}" for number in range(self._pieces)]

    async def do(self, place: Workplace, run: Run) -> None:
        for number in range(STEPS):
            await run.step(f"s{number}", lambda number=number: self._write(run.piece, number))  # type: ignore[misc]
            await asyncio.sleep(0.05)

    async def _write(self, piece: str, number: int) -> int:
        with self._out.open("a") as file:
            file.write(f"{piece} {number} {self._node}\n")
        return number


async def main(url: str, data_dir: str, node: str, out: str, pieces: str) -> None:
    database = Database(url)
    place = workplace(Path(data_dir), database, clock=SystemClock())
    nodes = Nodes(database, node, look_s=0.3)
    durable = Durable(database, Path(data_dir), node)
    runner = Runner(place, [Writing(node, Path(out), int(pieces))], durable, nodes, lambda: 0)
    await runner.run(asyncio.Event())


if __name__ == "__main__":
    os.umask(0o077)
    asyncio.run(main(*sys.argv[1:]))
