"""The audit process: `python -m stockade.serve.audit`. It writes the logs, alone; whoever has records puts them into spools and waits for nobody.

No listener but a socket where the platform's own processes ask which place a record has (`place`), and where the supervisor has everything that
has come taken in and signed before those who sign end (`settle`). It ends last.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from typing import Final

import uvloop

from stockade import settings
from stockade.audit.asking import MAX_WAIT_S
from stockade.audit.sequencer import NotAlone
from stockade.boot.audit_log import AuditOffice, audit_office
from stockade.boot.foundation import foundation
from stockade.serve import child
from stockade.serve.questions import Questions, Refusal

PREDECESSOR_S: Final = 30.0
"""How long the audit process of a supervisor that was killed may take to end."""
SETTLE_S: Final = 5.0
EX_TEMPFAIL: Final = 75
"""What this process ends with when it cannot work now; its supervisor starts it again (sysexits.h)."""

log = logging.getLogger(__name__)


async def serve(office: AuditOffice) -> None:
    """Keep the logs until SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # certificates are renewed; there are none here
    questions = await listen(office)
    try:
        await stop.wait()
    finally:
        questions.close()


async def listen(office: AuditOffice) -> Questions:
    """Answer those who ask for places, until what is returned is closed."""
    keeper = office.keeper

    async def place(asked: str) -> str:
        file, _, offset = asked.rpartition(":")
        placed = await asyncio.to_thread(keeper.placed, file, int(offset), MAX_WAIT_S)
        if placed is None:
            raise Refusal("the record has no place yet")
        return f"{placed.log}:{placed.index}:{placed.leaf.hex()}"

    async def settle(_: str) -> str:
        await asyncio.to_thread(keeper.settle, SETTLE_S)
        return "settled"

    answers = {"place": ("placed", place), "settle": ("settled", settle)}
    questions = Questions(office.base.settings.audit_socket, answers, MAX_WAIT_S + SETTLE_S)
    await questions.open()
    return questions


def run(configured: settings.Settings) -> None:
    """Be the audit process until SIGTERM."""
    base = foundation(configured)
    office = audit_office(base)
    base.audit.start()
    try:
        office.keeper.open(PREDECESSOR_S)
    except NotAlone:
        log.error("another process keeps the audit logs of this data directory and does not end")  # noqa: TRY400 - no bug of ours
        sys.exit(EX_TEMPFAIL)
    office.keeper.start()
    try:
        uvloop.run(serve(office))
    finally:
        base.audit.close()
        office.keeper.close()
        base.database.close()


def main() -> None:
    """Keep the logs for a supervisor."""
    parser = argparse.ArgumentParser(prog="python -m stockade.serve.audit")
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    child.become("audit", arguments.parent)
    run(settings.load())
    child.end()


if __name__ == "__main__":
    main()
