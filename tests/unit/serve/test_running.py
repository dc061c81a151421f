"""Whether a server runs on a data directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stockade import settings
from stockade.serve import running, supervisor
from stockade.serve.files import locked


def test_a_state_file_without_its_server_means_nothing(tmp_path: Path) -> None:
    configured = settings.load(tmp_path, environment={})
    configured.run_dir.mkdir()
    running.status_file(configured).write_text(f'{{"pid": {os.getpid()}}}')
    assert running.status(configured) is None
    with locked(running.lock_file(configured)):
        assert running.status(configured) == {"pid": os.getpid()}
        with pytest.raises(supervisor.CannotServe, match="already running"):
            supervisor.check_not_running(configured)
