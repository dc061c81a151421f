"""The key broker's process: what it closes before it opens a key, and who may ask one that runs alone."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from stockade.serve import broker
from stockade.serve.files import locked
from stockade.settings import Keys, Settings

LOOK = """
import ctypes, resource
from stockade.serve import broker
broker.harden()
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_it_leaves_no_core_and_no_debugger_of_its_user_attaches() -> None:
    shown = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOOK], capture_output=True, text=True, timeout=60, check=True
    )
    assert shown.stdout.split("\n")[0] == "(0, 0) 0"


def alone(folder: Path, **keys: object) -> Settings:
    folder.mkdir(mode=0o700, exist_ok=True)
    return Settings(
        data_dir=folder,
        database_url=f"sqlite:///{folder / 'platform.db'}",
        keys=Keys(**{"broker_socket": str(folder / "b.sock"), **keys}),  # type: ignore[arg-type]
    )


def test_peers_are_users_of_this_system(tmp_path: Path) -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert broker.peers(alone(tmp_path, broker_peers=(me,))) == {os.geteuid()}
    with pytest.raises(ValueError, match="no user 'nobody-of-that-name'"):
        broker.peers(alone(tmp_path, broker_peers=("nobody-of-that-name",)))


def test_a_broker_that_runs_alone_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broker_socket"):
        broker.run_alone(alone(tmp_path, broker_socket=""), "warning")
    with pytest.raises(ValueError, match="database_url"):
        broker.run_alone(Settings(data_dir=tmp_path, keys=Keys(broker_socket="/b.sock")), "warning")


def test_two_on_one_data_directory_are_refused(tmp_path: Path) -> None:
    with locked(tmp_path / "broker.lock"), pytest.raises(ValueError, match="running on"):
        broker.run_alone(alone(tmp_path), "warning")
