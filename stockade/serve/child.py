"""What every process below the supervisor does first: private files, one log form, and an end when its parent ends."""

from __future__ import annotations

import ctypes
import logging
import logging.config
import os
import platform
import resource
import signal
import threading
import time
from typing import NoReturn

from stockade.serve import logs

_PR_SET_PDEATHSIG = 1
_WATCH_INTERVAL_S = 1.0


def become(process: str, parent: int) -> None:
    """Set up this process. parent: the pid it must not outlive."""
    os.umask(0o077)
    logging.config.dictConfig(logs.configuration(process, os.environ.get(logs.LEVEL_VARIABLE, "info")))
    end_with(parent)
    _raise_descriptor_limit()


def end_with(parent: int) -> None:
    """See to it that this process gets SIGTERM when its parent ends, however that ends.

    A worker that outlived its supervisor would go on answering on a shared port with a policy nobody renews.
    """
    if platform.system() == "Linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before the kernel was told
            os.kill(os.getpid(), signal.SIGTERM)
        return
    threading.Thread(target=_watch, args=(parent,), name="parent-watch", daemon=True).start()


def end(status: int = 0) -> NoReturn:
    """End this process at once, after everything of its own is closed.

    What the interpreter does at an end, taking down hundreds of modules, is a quarter of a second of work for nobody.
    """
    logging.shutdown()
    os._exit(status)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_INTERVAL_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _raise_descriptor_limit() -> None:
    """Use every file descriptor the system grants: each connection, here and to an engine, takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
