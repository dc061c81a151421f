from __future__ import annotations

import subprocess
import sys

import pytest

from stockade.content import writer

NAME = "from stockade.content import writer; print(writer.this_process()); input()"


@pytest.mark.skipif(not writer.here(), reason="this system does not tell processes' times of start")
def test_a_process_is_known_to_live_and_to_have_ended() -> None:
    assert not writer.has_ended(writer.this_process())
    child = subprocess.Popen([sys.executable, "-c", NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    name = child.stdout.readline().strip()
    assert name.startswith(writer.here())
    assert name != writer.this_process()
    assert not writer.has_ended(name)
    child.communicate("\n", timeout=30)
    assert writer.has_ended(name)


def test_nothing_is_claimed_of_processes_elsewhere() -> None:
    assert not writer.has_ended("")
    assert not writer.has_ended("another-boot/1/5@17")
