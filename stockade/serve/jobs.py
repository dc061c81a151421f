"""The jobs process: `python -m stockade.serve.jobs`. No listener: it finds what is due by itself, and answers nobody."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from typing import NoReturn

import uvloop

from stockade import settings
from stockade.boot.foundation import Foundation, foundation
from stockade.boot.work import workplace
from stockade.jobs.durable import Durable
from stockade.jobs.nodes import Nodes, node_name
from stockade.jobs.runner import Runner, shelf
from stockade.kernel.faults import Fault
from stockade.serve import child

EX_TEMPFAIL = 75
"""What this process ends with when it cannot work now, or must not go on; its supervisor starts it again (sysexits.h)."""

log = logging.getLogger(__name__)


async def run(base: Foundation) -> None:
    """Work until SIGTERM, and end the process."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # certificates are renewed; there are none here
    node = node_name(base.database, base.settings.data_dir)
    durable = Durable(base.database, base.settings.data_dir, node)
    runner = Runner(workplace(base), shelf(), durable, Nodes(base.database, node), lambda: base.cell.value)
    try:
        if not await runner.run(stop):
            log.warning("steps that were under way have been cut off, and will be done again")
    except Fault as fault:
        log.error("jobs cannot be done: %s", fault.message, exc_info=fault.__cause__)  # noqa: TRY400 - no bug of ours
        _end(base, EX_TEMPFAIL)
    _end(base, 0)


def _end(base: Foundation, status: int) -> NoReturn:
    """End as a kill would, but with everything recorded: what the library has still running it remembers as unfinished."""
    base.audit.close()
    child.end(status)


def main() -> None:
    """Do jobs until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m stockade.serve.jobs")
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    child.become("jobs", arguments.parent)
    base = foundation(settings.load())
    base.audit.start()
    uvloop.run(run(base))


if __name__ == "__main__":
    main()
