"""The two TLS listeners, as processes of their own: `python -m stockade.serve.listener data|control`.

Granian's main process binds the port and keeps worker processes; SIGHUP makes it start new workers, which read the certificate file again,
while the old ones finish what they have begun. Nothing here decides anything: applications come from `boot`.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import signal
from typing import Any, Literal

from granian.constants import Interfaces, Loops
from granian.log import LogLevels
from granian.server import MPServer

from stockade import settings
from stockade.serve import child, logs, private, wire
from stockade.settings import Settings

RESPAWN_INTERVAL_S = 3.5
"""How long a new worker has to come up before the old one stops taking connections."""

Plane = Literal["data", "control"]


def data_application() -> Any:
    """Make the gateway in a worker process."""
    from stockade.boot.data_plane import data_plane

    return _in_worker("data", lambda: data_plane(websocket_tls=wire.websocket_tls))


def control_application() -> Any:
    """Make the control plane in its worker process."""
    from stockade.boot.control_plane import control_plane

    return _in_worker("control", lambda: control_plane(private.start_when_wanted))


def server(plane: Plane, configured: Settings) -> MPServer:
    """Return the server of one plane."""
    listen, limits = configured.listen, configured.limits
    data = plane == "data"
    return MPServer(
        f"stockade.serve.listener:{plane}_application",
        factory=True,
        address=listen.host,
        port=listen.data_port if data else listen.control_port,
        interface=Interfaces.RSGI if data else Interfaces.ASGI,
        workers=worker_count(configured) if data else 1,
        loop=Loops.uvloop,
        **wire.options(configured),
        respawn_failed_workers=True,
        respawn_interval=RESPAWN_INTERVAL_S,
        workers_kill_timeout=limits.drain_timeout_s,
        log_access=False,
        log_level=LogLevels.warning,
        log_dictconfig=logs.configuration(plane, os.environ.get(logs.LEVEL_VARIABLE, "info")),
    )


def worker_count(configured: Settings) -> int:
    """Return the number of data-plane workers."""
    return configured.listen.workers or max(1, min(4, os.cpu_count() or 1))


def _in_worker(plane: Plane, factory: Any) -> Any:
    parent = multiprocessing.parent_process()
    child.become(f"{plane}-worker", parent.pid if parent is not None and parent.pid is not None else os.getppid())
    return factory()


def _default_signals() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def main() -> None:
    """Run one listener until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m stockade.serve.listener")
    parser.add_argument("plane", choices=("data", "control"))
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    child.become(arguments.plane, arguments.parent)
    # A new worker inherits handlers that only note the signal for the main process: until it has its own, SIGTERM has to end it.
    os.register_at_fork(after_in_child=_default_signals)
    # This plane's part and no other's, and here rather than in the workers, which are forked and share it.
    importlib.import_module(f"stockade.boot.{arguments.plane}_plane")
    server(arguments.plane, settings.load()).serve()
    child.end()


if __name__ == "__main__":
    main()
