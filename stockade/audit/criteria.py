"""What records are searched by, and what a search says of them."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


class Indexed(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """What is searched by, of a record as it stands in the log (`kernel/record.py`)."""

    time: float = 0.0
    id: str = ""
    category: str = ""
    phase: str = ""
    operation: str = ""
    resource: str = ""
    principal: str = ""
    credential: str = ""
    decision: str = ""
    status: int = 0
    outcome: str = ""
    correlation: str = ""

    @property
    def who(self) -> str:
        """The principal's object id, or, where no token was shown, how the caller proved themselves: `Key1`, `none`."""
        return self.principal or self.credential

    @property
    def is_activity(self) -> bool:
        """Whether ARM's activity log shows it: what was done to resources or refused, as Azure does not what was only read."""
        operation = self.operation
        return self.category == "Audit" and "/" in operation and not operation.startswith("/") and _is_change(operation)


def _is_change(operation: str) -> bool:
    namespace, _, rest = operation.partition("/")
    # The key broker's records of keys that were used are no changes, and as many as the requests that want keys.
    return (
        "." in namespace and " " not in namespace and namespace != "Stockade.Keys" and not rest.lower().endswith("read")
    )


_decode = msgspec.json.Decoder(Indexed).decode


def read_record(line: bytes) -> Indexed:
    """Read what is searched by; a line that is no record has nothing of it."""
    try:
        return _decode(line)
    except msgspec.MsgspecError:
        return Indexed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is looked for; everything at once, nothing: all. Texts without regard to case.

    resource:    an ARM id; what is below it counts. who: as `Indexed.who`. operation, outcome: in full, or up to a final `*`.
    statuses:    HTTP status, from and to. since, until: epoch seconds, both included. decision_id, correlation: in full; a record without a
                 correlation of its own has its id for one.
    activity:    only what ARM's activity log shows.
    """

    resource: str = ""
    who: str = ""
    operation: str = ""
    outcome: str = ""
    decision: str = ""
    category: str = ""
    decision_id: str = ""
    correlation: str = ""
    statuses: tuple[int, int] | None = None
    since: float | None = None
    until: float | None = None
    activity: bool = False

    def fits(self, record: Indexed) -> bool:
        """Say whether a record is looked for. The index gives exactly these; this is what it means."""
        if self.resource and not _is_below(record.resource.lower(), self.resource.lower().rstrip("/")):
            return False
        if self.who and record.who.lower() != self.who.lower():
            return False
        if not _matches(record.operation, self.operation) or not _matches(record.outcome, self.outcome):
            return False
        if self.decision and record.decision != self.decision:
            return False
        if self.category and record.category != self.category:
            return False
        if self.decision_id and record.id.lower() != self.decision_id.lower():
            return False
        if self.correlation and (record.correlation or record.id).lower() != self.correlation.lower():
            return False
        if self.statuses is not None and not self.statuses[0] <= record.status <= self.statuses[1]:
            return False
        if (self.since is not None and record.time < self.since) or (
            self.until is not None and record.time > self.until
        ):
            return False
        return record.is_activity or not self.activity


def _is_below(text: str, scope: str) -> bool:
    return text == scope or text.startswith(scope + "/")


def _matches(text: str, wanted: str) -> bool:
    if wanted.endswith("*"):
        return text.lower().startswith(wanted[:-1].lower())
    return not wanted or text.lower() == wanted.lower()
