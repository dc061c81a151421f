"""Ids are version-4 GUIDs, and no two processes make the same ones."""

from __future__ import annotations

import subprocess
import sys
import uuid

from stockade.kernel.ids import new_guid

FORKS = """
import os
from stockade.kernel.ids import new_guid
new_guid()
for _ in range(3):
    child = os.fork()
    if child == 0:
        print(new_guid(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
print(new_guid())
"""


def test_ids_are_random_guids() -> None:
    made = [new_guid() for _ in range(1000)]
    assert len(set(made)) == 1000
    for text in made:
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant, str(parsed)) == (4, uuid.RFC_4122, text)


def test_forked_workers_do_not_repeat_each_other() -> None:
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=60, check=True)
    assert len(set(done.stdout.split())) == 4
