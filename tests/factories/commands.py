"""The command line against a running server, in this process: the same code as `python -m stockade`, without a second of imports each time."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
from unittest import mock

from stockade.cli.root import run
from tests.live import Live


def command(live: Live, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one command line, with nobody at the keyboard, and return what a process of its own would have."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, {**live.variables, "COLUMNS": "200", "NO_COLOR": "1", **variables}, clear=True),
        mock.patch("sys.stdin", io.StringIO()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = run(list(arguments))
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())
