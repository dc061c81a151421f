"""Lockbox's steps by processes that are killed: one before each thing that reaches beyond them. Prints one JSON line per kill.

Run as a program in an empty folder. What reaches beyond is a commit, a record in the log, a call of the key broker, and what the broker writes down.
Management and broker die together, as when the machine goes down: after each kill another broker is started, and everything is looked at.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection

from stockade.audit.ledger import Placed, log_of
from stockade.broker import floors
from stockade.broker.service import KeyBroker
from stockade.kernel.evidence import CallerKey
from stockade.kernel.ids import new_guid
from stockade.kernel.record import AuditRecord
from stockade.kernel.secret import Secret
from stockade.management.lockbox import documents
from stockade.management.lockbox.events import OPERATIONS
from stockade.settings import Settings
from tests.factories.control_plane import SUB
from tests.factories.identity import RecordingAudit
from tests.factories.lockbox_arm import ACCOUNT, POLICY, Lockbox
from tests.factories.lockbox_real import RealPlane

KILLED = 9
READ = "/files/file-1?part=metadata"
"""What opens with the account's key as the body does; the store's own threads do not outlive a fork."""
LOG = "records.jsonl"
FIRST, SECOND = new_guid(), new_guid()
BROKER = ("bind_statement", "open_request", "grant_access", "revoke_access", "object_keys")


class OnDisk(RecordingAudit):
    """Keeps records where a killed process leaves them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def commit(self, record: AuditRecord) -> None:
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(record) + b"\n")

    def place(self, record: AuditRecord) -> Placed:
        self.commit(record)
        return Placed(log_of(record.resource), 0, b"")


def protect(box: Lockbox) -> None:
    if (
        box.plane.send("GET", POLICY, by=box.alice).status_code == 404
    ):  # else it was done, and only what came of it not written
        box.protect()


def file(box: Lockbox) -> None:
    reply = box.send(FIRST)
    assert reply.status_code in (201, 409), reply.text


def approve(box: Lockbox) -> None:
    if box.status(FIRST) != "Approved":
        box.approve(FIRST)


def read(box: Lockbox) -> None:
    """Read; after a restart of the broker the customer signs once more, in between."""
    plane: Any = box.plane
    reply = plane.read(FIRST, READ, box.engineer)
    if reply.status_code != 200:
        assert reply.json()["error"]["code"] in ("ChallengeOver", "RequestStatusConflict"), reply.text
        approve(box)
        reply = plane.read(FIRST, READ, box.engineer)
    assert reply.json()["metadata"] == {"filename": "file-1.txt"}, reply.text


def revoke(box: Lockbox) -> None:
    if box.status(FIRST) != "Revoked":
        reply = box.act(FIRST, "revoke", box.alice)
        assert reply.status_code == 200, reply.text


def late(box: Lockbox) -> None:
    assert box.send(SECOND).status_code == 201
    box.plane.clock.advance(4 * 86_400)


def expire(box: Lockbox) -> None:
    box.keep_up()


def nothing(_: Lockbox) -> None:
    return


ACTIONS: tuple[tuple[Callable[[Lockbox], None], Callable[[Lockbox], None], str], ...] = (
    (nothing, protect, ""),
    (nothing, file, FIRST),
    (nothing, approve, FIRST),
    (nothing, read, FIRST),
    (nothing, revoke, FIRST),
    (late, expire, SECOND),
)
"""In this order on one account: what comes before without being killed, what is killed, and the request it is about."""


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
    before(floors, "write_durably")
    for name in BROKER:
        before(KeyBroker, name)
    for name in ("commit", "place"):
        before(OnDisk, name)


def look(box: Lockbox, key: CallerKey, name: str) -> dict[str, Any]:
    """Return what is there, as another broker finds it: the request, whether its steps are in the log, and whether the customer still reads."""
    plane: Any = box.plane
    plane.restart_broker()
    plane.source.current()
    with plane.database.read() as reader:
        found = documents.find(reader, SUB, name) if name else None
        account = reader.get(ACCOUNT)
    assert account is not None
    held = documents.protection(account)
    of = plane.contents.of(ACCOUNT, key, "OpenAI/files/read", "test")
    log = (plane.settings.data_dir / LOG).read_text().splitlines()
    recorded = [one["operation"] for line in log if (one := json.loads(line)).get("resource", "").endswith(name)]
    steps = found.course.history if found is not None else ()
    return {
        "sequence": held.statement.sequence if held is not None else 0,
        "own": asyncio.run(of.get("files", "file-1")).metadata == {"filename": "file-1.txt"},
        "status": found.course.status.value if found is not None else "",
        "used": found is not None and found.course.first_used_at is not None,
        "told": found is not None and found.kept.told,
        "revoked": bool(name) and plane.current.broker._state().floors.is_revoked(name),
        "recorded": all(OPERATIONS[step.event] in recorded for step in steps),
    }


def main() -> None:
    folder = Path.cwd()
    settings = Settings(data_dir=folder)
    box = Lockbox(RealPlane(folder, settings, OnDisk(folder / LOG)))
    plane: Any = box.plane
    box.grant_owner(box.alice)
    box.opt_in()
    plane.keep(ACCOUNT, "file-1", b"what the customer keeps")
    key = CallerKey(Secret(plane.ok("POST", f"{ACCOUNT}/listKeys", {})["key1"]))
    for prepare, action, name in ACTIONS:
        prepare(box)
        before = look(box, key, name)
        for step in range(1, 60):
            child = os.fork()
            if child == 0:
                kill_before(step)
                action(box)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            finished = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
            assert finished or os.WTERMSIG(status) == KILLED, status
            after = look(box, key, name)
            line = {"action": action.__name__, "step": step, "finished": finished, "before": before, "after": after}
            sys.stdout.write(json.dumps(line) + "\n")
            if finished:
                break


if __name__ == "__main__":
    main()
