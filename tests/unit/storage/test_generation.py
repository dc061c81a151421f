"""The shared counter that tells workers of new policy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from stockade.storage.generation import AskedGeneration, GenerationCell


def test_cell_begins_at_zero_in_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "run" / "generation"
    assert GenerationCell(path).value == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_publication_is_seen_by_whoever_has_the_file_open(tmp_path: Path) -> None:
    writer, reader = GenerationCell(tmp_path / "g"), GenerationCell(tmp_path / "g")
    writer.publish(7)
    assert reader.value == 7
    code = f"from pathlib import Path; from stockade.storage.generation import GenerationCell as C; C(Path({str(tmp_path / 'g')!r})).publish(2**40)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert reader.value == 2**40


def test_late_publication_of_an_earlier_commit_does_no_harm(tmp_path: Path) -> None:
    cell = GenerationCell(tmp_path / "g")
    for number in (5, 3, 4):
        cell.publish(number)
    assert cell.value == 5


def test_restart_follows_the_database_back(tmp_path: Path) -> None:
    cell = GenerationCell(tmp_path / "g")
    cell.publish(100)
    cell.restart(3)
    cell.publish(4)
    assert cell.value == 4


def test_one_that_is_asked_for_is_what_the_database_says() -> None:
    said = iter((3, 4))
    asked = AskedGeneration(lambda: next(said))
    asked.publish(9)
    asked.restart(9)
    assert [asked.value, asked.value] == [3, 4]
