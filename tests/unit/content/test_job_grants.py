"""Grants of jobs: kept sealed, bound to their job and account, bounded, and the list of what is to be done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import select, update

from stockade.content import job_grants as module
from stockade.content.job_grants import JobGrants, Starter
from stockade.kernel.clock import ManualClock
from stockade.kernel.evidence import CallerKey
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.kernel.threads import BoundedThreads
from stockade.keys.broker import JobScope
from stockade.storage.database import Database
from stockade.storage.tables import job_grants
from tests.factories.jobs import GrantsEverything

SCOPE = JobScope(("files/a",), ("files/*",), 2e9)
KEY = CallerKey(Secret(b"key"))
ACCOUNT = "/subscriptions/S/accounts/A"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def broker() -> GrantsEverything:
    return GrantsEverything()


@pytest.fixture
def grants(database: Database, broker: GrantsEverything) -> JobGrants:
    return JobGrants(database, broker, ManualClock())


async def test_what_is_started_is_due_until_it_has_ended(grants: JobGrants, broker: GrantsEverything) -> None:
    starter = Starter(grants, BoundedThreads(1, 4), ACCOUNT, KEY, "OpenAI/batches/write")
    for piece in ("b1", "b2"):
        await starter.start("batches", piece, SCOPE)
    assert broker.asked[0] == (ACCOUNT, "batches/b1", SCOPE, "OpenAI/batches/write", KEY)
    assert list(grants.due("batches")) == ["b1", "b2"]
    assert list(grants.due("training")) == []
    held = grants.get("batches", "b1")
    assert held is not None
    assert (held.account_id, held.expires_at) == (ACCOUNT.lower(), 2e9)
    assert held.grant.reveal() == b"grant of batches/b1"
    grants.drop("batches", "b1")
    grants.drop("batches", "b1")
    await starter.give_up("batches", "b2")
    assert list(grants.due("batches")) == []
    assert grants.get("batches", "b1") is None


def test_the_grant_is_not_in_the_database_and_no_other_jobs_row_opens_it(grants: JobGrants, database: Database) -> None:
    for piece in ("b1", "b2"):
        grants.keep("batches", piece, ACCOUNT, SCOPE, "", KEY)
    with database.bookkeeping() as connection:
        sealed = connection.execute(select(job_grants.c.sealed).where(job_grants.c.piece == "b1")).scalar_one()
        assert b"grant" not in bytes(sealed)
        connection.execute(update(job_grants).where(job_grants.c.piece == "b2").values(sealed=sealed))
    with pytest.raises(Fault) as refused:
        grants.get("batches", "b2")
    assert refused.value.kind is FaultKind.UNAVAILABLE
    with database.bookkeeping() as connection:
        connection.execute(update(job_grants).where(job_grants.c.piece == "b1").values(account="/another"))
    with pytest.raises(Fault):
        grants.get("batches", "b1")


def test_an_account_has_so_many_jobs_and_others_are_not_kept_waiting(
    grants: JobGrants, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OF_ACCOUNT", 1)
    grants.keep("batches", "b1", ACCOUNT, SCOPE, "", KEY)
    with pytest.raises(Fault) as refused:
        grants.keep("batches", "b2", ACCOUNT, SCOPE, "", KEY)
    assert refused.value.kind is FaultKind.LIMIT
    grants.keep("batches", "b3", "/another", SCOPE, "", KEY)
    assert list(grants.due("batches")) == ["b1", "b3"]


def test_what_the_broker_refuses_is_not_kept(grants: JobGrants, broker: GrantsEverything) -> None:
    def refuse(*_: object) -> Secret:
        raise Fault(FaultKind.PERMISSION_DENIED, "no")

    broker.job_grant = refuse  # type: ignore[method-assign]
    with pytest.raises(Fault):
        grants.keep("batches", "b1", ACCOUNT, SCOPE, "", KEY)
    assert list(grants.due("batches")) == []
