"""What may be asked of content: which objects there can be, which of them a data action touches, and what a job may be granted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from stockade.broker.customer_keys import refusal
from stockade.broker.evidence import Proven, check_action
from stockade.broker.grants import LONGEST_S, MAX_PATHS, Grant
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import KeyCredential, TokenCredential
from stockade.keys import content_actions
from stockade.keys.broker import Access, JobScope, ObjectRef
from stockade.keys.broker_wire import MAX_OBJECTS
from stockade.policy.customer_key import unavailable
from stockade.policy.snapshot import AccountPolicy, Snapshot

_PATH: Final = re.compile(r"[a-z]{1,32}/[0-9A-Za-z._-]{1,200}")
_VERSION: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
_PATTERN: Final = re.compile(r"[a-z]{1,32}/(?:\*|[0-9A-Za-z._-]{1,200})")


def account_of(snapshot: Snapshot, account_id: str) -> AccountPolicy:
    """Return an account by its lower-case id; Fault(NOT_FOUND) when there is none in force."""
    account: AccountPolicy | None = snapshot.only("account", account_id)
    if account is None:
        raise Fault(FaultKind.NOT_FOUND, "There is no such resource.")
    return account


def check_customer_key(snapshot: Snapshot, account: AccountPolicy, now: float) -> None:
    """Raise Fault(CUSTOMER_KEY_UNAVAILABLE) when the account depends on a key that does not serve now."""
    if account.customer_key is not None:
        found = unavailable(snapshot, account.id, account.customer_key, now)
        if found is not None:
            raise refusal(found)


def check_refs(objects: Sequence[ObjectRef]) -> None:
    """Raise Fault(INVALID) for what can be no object of ours, and for too many."""
    if not 0 < len(objects) <= MAX_OBJECTS:
        raise Fault(FaultKind.INVALID, f"Between 1 and {MAX_OBJECTS} objects can be asked for at once.")
    for ref in objects:
        if not _PATH.fullmatch(ref.path) or not _VERSION.fullmatch(ref.version):
            raise Fault(FaultKind.INVALID, "That is no object's path and version.")
        if ref.data_key and not _VERSION.fullmatch(ref.data_key):
            raise Fault(FaultKind.INVALID, "That is no data key's version.")


def check_path(proven: Proven, path: str, access: Access, data_action: str) -> None:
    """Raise Fault(PERMISSION_DENIED) for an object that the data action does not touch so, or the job was not granted."""
    if not content_actions.permits(path.partition("/")[0], access, data_action):
        message = f"The data action `{content_actions.relative(data_action)}` does not {access} `{path}`."
        raise Fault(FaultKind.PERMISSION_DENIED, message)
    if isinstance(proven, Grant) and not proven.permits(path, access):
        raise Fault(FaultKind.PERMISSION_DENIED, f"The job was not granted to {access} `{path}`.")


def check_scope(job: str, scope: JobScope, now: float) -> None:
    """Raise Fault(INVALID) for what no job can be granted, whoever asks."""
    if not 0 < len(job) <= 200:
        raise Fault(FaultKind.INVALID, "A job has a name of up to 200 characters.")
    if not now < scope.expires_at <= now + LONGEST_S:
        raise Fault(FaultKind.INVALID, f"A job's grant ends within {LONGEST_S / 86_400:.0f} days.")
    if len(scope.reads) + len(scope.writes) > MAX_PATHS:
        raise Fault(FaultKind.INVALID, f"A job reads and writes at most {MAX_PATHS} paths.")
    if not all(_PATTERN.fullmatch(pattern) for pattern in (*scope.reads, *scope.writes)):
        raise Fault(FaultKind.INVALID, "That is no object's path.")


def check_scope_rights(
    snapshot: Snapshot,
    account: AccountPolicy,
    proven: KeyCredential | TokenCredential,
    scope: JobScope,
    data_action: str,
    now: float,
) -> None:
    """Let a job have what its starter has: what the data action itself touches, and for everything else that is read the right to read it."""
    for pattern in scope.writes:
        check_path(proven, pattern, "write", data_action)
    for pattern in scope.reads:
        check_path(proven, pattern, "read", data_action)
    for kind in {pattern.partition("/")[0] for pattern in scope.reads}:
        needs = content_actions.KINDS[kind].needs
        if needs.rpartition("/")[0] != content_actions.relative(data_action).rpartition("/")[0]:
            check_action(snapshot, account, proven, needs, now)
