"""What jobs go on with when their starter has gone: grants of the key broker, sealed, in a table of their own.

The row is also what says that there is something to do. A grant opens content, so it lies sealed under a key that the processes of this
platform derive from the root key (or are given by the broker) and no other; bound to the job and its account.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import delete, func, insert, select

from stockade.kernel.clock import Clock
from stockade.kernel.evidence import Evidence
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.kernel.threads import BoundedThreads
from stockade.keys.broker import JobScope
from stockade.storage.database import Database
from stockade.storage.tables import job_grants

PURPOSE: Final = "jobs/grants/1"
MAX_OF_ACCOUNT: Final = 100
"""Jobs of one kind that an account may have at a time."""
_VERSION: Final = b"\x01"
_NONCE: Final = 12


class Grantor(Protocol):
    """The part of the key broker that is asked here."""

    def job_grant(self, account_id: str, job: str, scope: JobScope, data_action: str, evidence: Evidence) -> Secret:
        """As `Broker.job_grant`."""
        ...

    def purpose_key(self, purpose: str) -> Secret:
        """As `Broker.purpose_key`."""
        ...


@dataclass(frozen=True, slots=True)
class HeldGrant:
    """What one job goes on with."""

    account_id: str
    grant: Secret
    created_at: float
    expires_at: float


class JobGrants:
    """Keeps grants. Synchronous, for threads."""

    def __init__(self, database: Database, grantor: Grantor, clock: Clock) -> None:
        self._database, self._grantor, self._clock = database, grantor, clock

    def keep(
        self, kind: str, piece: str, account_id: str, scope: JobScope, data_action: str, evidence: Evidence
    ) -> None:
        """Have the broker grant a job what its starter may do now, and keep that: from here on the job is due.

        Fault(PERMISSION_DENIED) and others as the broker says; Fault(LIMIT) when the account has as many jobs of the kind as it may.
        """
        account = account_id.lower()
        grant = self._grantor.job_grant(account_id, f"{kind}/{piece}", scope, data_action, evidence)
        sealed = self._seal(grant, kind, piece, account)
        of_account = (job_grants.c.kind == kind) & (job_grants.c.account == account)
        with self._database.bookkeeping() as connection:
            count = connection.execute(select(func.count()).select_from(job_grants).where(of_account)).scalar_one()
            if count >= MAX_OF_ACCOUNT:
                message = f"This resource has {count} {kind} that have not ended; no more than {MAX_OF_ACCOUNT} can be."
                raise Fault(FaultKind.LIMIT, message, retry_after_s=60.0)
            connection.execute(
                insert(job_grants).values(
                    kind=kind,
                    piece=piece,
                    account=account,
                    sealed=sealed,
                    created_at=self._clock.now(),
                    expires_at=scope.expires_at,
                )
            )

    def due(self, kind: str, limit: int = 1000) -> Sequence[str]:
        """Return the jobs of a kind that have not ended, the oldest first."""
        query = (
            select(job_grants.c.piece)
            .where(job_grants.c.kind == kind)
            .order_by(job_grants.c.created_at, job_grants.c.piece)
        )
        with self._database.read() as reader:
            return list(reader.connection.execute(query.limit(limit)).scalars())

    def get(self, kind: str, piece: str) -> HeldGrant | None:
        """Return what a job goes on with; None when it has ended. Fault(UNAVAILABLE) when it cannot be opened."""
        query = select(job_grants).where(job_grants.c.kind == kind, job_grants.c.piece == piece)
        with self._database.read() as reader:
            row = reader.connection.execute(query).first()
        if row is None:
            return None
        grant = self._open(bytes(row.sealed), kind, piece, row.account)
        return HeldGrant(row.account, grant, row.created_at, row.expires_at)

    def drop(self, kind: str, piece: str) -> None:
        """Forget a job that has ended; done twice is done once."""
        with self._database.bookkeeping() as connection:
            connection.execute(delete(job_grants).where(job_grants.c.kind == kind, job_grants.c.piece == piece))

    def _seal(self, grant: Secret, kind: str, piece: str, account: str) -> bytes:
        nonce = os.urandom(_NONCE)
        cipher = AESGCM(self._grantor.purpose_key(PURPOSE).reveal())
        return _VERSION + nonce + cipher.encrypt(nonce, grant.reveal(), _bound_to(kind, piece, account))

    def _open(self, sealed: bytes, kind: str, piece: str, account: str) -> Secret:
        cipher = AESGCM(self._grantor.purpose_key(PURPOSE).reveal())
        start = len(_VERSION)
        try:
            if not sealed.startswith(_VERSION):
                raise InvalidTag
            nonce, rest = sealed[start : start + _NONCE], sealed[start + _NONCE :]
            return Secret(cipher.decrypt(nonce, rest, _bound_to(kind, piece, account)))
        except (InvalidTag, ValueError) as failure:
            raise Fault(FaultKind.UNAVAILABLE, "What a job goes on with could not be opened.") from failure


class JobStarter(Protocol):
    """Starts jobs for one caller, with what that caller may do at this moment. `Call.jobs` is one."""

    async def start(self, kind: str, piece: str, scope: JobScope) -> None:
        """Have a job done from now on; Fault as `JobGrants.keep`. piece: its id, which nobody else's job of the kind has."""
        ...

    async def give_up(self, kind: str, piece: str) -> None:
        """Take back a start whose rest failed."""
        ...


class Starter:
    """`JobStarter` for one caller, whose evidence the broker sees."""

    def __init__(
        self, grants: JobGrants, threads: BoundedThreads, account_id: str, evidence: Evidence, data_action: str
    ) -> None:
        self._grants, self._threads = grants, threads
        self._account_id, self._evidence, self._data_action = account_id, evidence, data_action

    async def start(self, kind: str, piece: str, scope: JobScope) -> None:
        account, action, evidence = self._account_id, self._data_action, self._evidence
        await self._threads.run(lambda: self._grants.keep(kind, piece, account, scope, action, evidence))

    async def give_up(self, kind: str, piece: str) -> None:
        await self._threads.run(lambda: self._grants.drop(kind, piece))


def _bound_to(kind: str, piece: str, account: str) -> bytes:
    return f"{kind}/{piece} {account}".encode()
