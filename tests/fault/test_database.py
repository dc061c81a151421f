"""Databases that lose their writers, or are lost themselves."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.policy.compile import Compiler
from stockade.policy.source import SnapshotSource
from stockade.storage.database import Database
from stockade.storage.generation import GenerationCell

if TYPE_CHECKING:
    from tests.factories.databases import PostgreSQL

WRITER = """
import sys
from stockade.storage.database import Database
database = Database(sys.argv[1])
number = int(sys.argv[2])
while True:
    with database.write() as writer:
        writer.put("/d/" + str(number), "t", {"number": number})
        writer.put("/twin/" + str(number), "t", {"number": number})
    print(number, flush=True)
    number += 1
"""
MIGRATE = "import sys; from stockade.storage.database import Database; Database(sys.argv[1]).migrate()"


def test_killing_a_writer_loses_nothing_that_was_answered_and_keeps_no_half(database_url: str) -> None:
    chance = random.Random(7)
    acknowledged: set[int] = set()
    for round_number in range(5):
        start = round_number * 1000
        child = subprocess.Popen([sys.executable, "-c", WRITER, database_url, str(start)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        for _ in range(chance.randint(1, 25)):
            acknowledged.add(int(child.stdout.readline()))
        os.kill(child.pid, signal.SIGKILL)
        acknowledged |= {int(line) for line in child.communicate(timeout=30)[0].split(b"\n")[:-1]}
    database = Database(database_url)
    with database.write() as writer:  # waits for what a killed writer's server process may still hold
        singles = {document.body["number"] for document in writer.below("/d")}
        twins = {document.body["number"] for document in writer.below("/twin")}
        generations = [document.generation for document in writer.below("/d")]
    assert acknowledged <= singles
    assert singles == twins
    assert len(set(generations)) == len(generations)
    database.close()


def test_processes_that_migrate_at_once_do_not_trip_over_each_other(empty_database_url: str) -> None:
    children = [subprocess.Popen([sys.executable, "-c", MIGRATE, empty_database_url]) for _ in range(4)]
    assert [child.wait(timeout=60) for child in children] == [0] * 4
    database = Database(empty_database_url)
    with database.read() as reader:
        assert reader.generation() == 0
    database.close()


@pytest.mark.postgresql
def test_lost_server_is_unavailable_and_found_again(
    postgresql: PostgreSQL, migrated_postgresql: str, tmp_path: Path
) -> None:
    cell = GenerationCell(tmp_path / "generation")
    database = Database(postgresql.create(template=migrated_postgresql), published=cell.publish)
    source = SnapshotSource(database, Compiler({"t": lambda document: [("i", document.id, document.body)]}), cell)

    def write(name: str) -> None:
        with database.write() as writer:
            writer.put("/" + name, "t", {"name": name})

    write("before")
    assert source.current().only("i", "/before") == {"name": "before"}
    postgresql.stop()
    try:
        with pytest.raises(Fault) as caught:
            write("lost")
        assert (caught.value.kind, caught.value.retry_after_s) == (FaultKind.UNAVAILABLE, 1)
        assert source.current().only("i", "/before") is not None, "nothing newer is known"
        cell.publish(source.current().generation + 1)
        for _ in range(2):
            with pytest.raises(Fault) as caught:
                source.current()
            assert caught.value.kind is FaultKind.UNAVAILABLE
    finally:
        postgresql.start()
    write("after")
    assert source.current().only("i", "/after") == {"name": "after"}
    assert source.current().only("i", "/lost") is None
    database.close()
