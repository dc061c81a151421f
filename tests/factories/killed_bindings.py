"""Bindings of a customer's key by processes that are killed: one before each thing that reaches beyond them. Prints one JSON line per kill.

Run as a program in an empty folder. What reaches beyond a process is a call of the key broker and a commit. A forked child does one thing and ends
without warning right before the n-th; its parent looks at what is there, and the child that is not killed any more finishes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection

from stockade.jobs.work.rewrap import PLUGIN as REWRAP
from stockade.keys.broker import Broker
from stockade.keys.stored import data_keys_of
from stockade.management.cognitive_services.destruction import receipts_of
from stockade.management.cognitive_services.encryption import binding
from stockade.management.resources.cognitive_services_accounts.encryption import key_of
from stockade.storage.documents import Document, State
from tests.factories.bound import ACCOUNT, NO_KEY, Bound
from tests.factories.control_plane import SUB, ControlPlane, S
from tests.factories.jobs import InProcessRun, workplace
from tests.factories.pretend_broker import SHOWN, PretendBroker

KILLED = 9
DELETED = f"{S}/providers/Microsoft.CognitiveServices/locations/local/resourceGroups/Group1/deletedAccounts/a1"


def bind(bound: Bound) -> None:
    bound.bind()


def leave(bound: Bound) -> None:
    bound.plane.ok("PATCH", ACCOUNT, {"properties": {"encryption": NO_KEY}})


def rewrap(bound: Bound) -> None:
    plane = bound.plane
    place = workplace(
        plane.settings.data_dir,
        plane.database,
        snapshot=plane.source.current,
        clock=plane.clock,
        broker=cast("Broker", bound.broker),
    )
    for piece in list(REWRAP.due(place)):
        asyncio.run(REWRAP.do(place, InProcessRun(piece)))


def purge(bound: Bound) -> None:
    bound.plane.ok("DELETE", DELETED)


def nothing(_: Bound) -> None:
    return


def rotate(bound: Bound) -> None:
    bound.plane.clock.advance(1)
    bound.new_version()


def delete(bound: Bound) -> None:
    bound.plane.ok("DELETE", ACCOUNT)


ACTIONS: tuple[tuple[Callable[[Bound], None], Callable[[Bound], None]], ...] = (
    (nothing, bind),
    (rotate, rewrap),
    (nothing, leave),
    (delete, purge),
)
"""In this order on one account: what comes before without being killed, and what is killed."""


def kill_before(step: int) -> None:
    """Make this process end without warning right before the n-th thing that reaches beyond it."""
    done = 0

    def before(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal done
            done += 1
            if done == step:
                os.kill(os.getpid(), KILLED)
            return original(*arguments, **named)

        setattr(owner, name, call)

    before(Connection, "commit")
    for name in ("new_data_key", "rewrap", "sign"):
        before(PretendBroker, name)


def look(bound: Bound) -> dict[str, Any]:
    """Return what is there: the account's state, its key, whether its data keys open as the account says, and receipts."""
    with bound.plane.database.read() as reader:
        document: Document | None = reader.get(ACCOUNT, *State)
        receipts = len(receipts_of(reader, SUB))
    assert document is not None
    if document.state is State.GONE:
        return {"state": "gone", "keys": len(document.private), "receipts": receipts}
    key = key_of(document)
    if document.state is State.LIVE:
        for held in data_keys_of(document.private):
            bound.broker.rewrap(document.id, held, binding(key), None, SHOWN)  # raises unless it opens
    versions = [held.customer.rpartition("/")[2] for held in data_keys_of(document.private)]
    return {"state": document.state.value, "bound": key is not None, "wrapped": versions, "receipts": receipts}


def main() -> None:
    bound = Bound(ControlPlane(Path.cwd()))
    for prepare, action in ACTIONS:
        prepare(bound)
        before = look(bound)
        for step in range(1, 30):
            child = os.fork()
            if child == 0:
                kill_before(step)
                action(bound)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            bound.plane.source.current()
            finished = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
            assert finished or os.WTERMSIG(status) == KILLED, status
            line = {
                "action": action.__name__,
                "step": step,
                "finished": finished,
                "before": before,
                "after": look(bound),
            }
            sys.stdout.write(json.dumps(line) + "\n")
            if finished:
                break


if __name__ == "__main__":
    main()
