"""What an operator sees of an account without Lockbox: one table, which docs/lockbox.md, `stockade lockbox objects` and its ARM route follow.

None of it is what a customer has sent or a model answered: no body, no name that they gave, no metadata. Who may see which of it is a role's
business; what a test looks for is that nothing else is in it (`tests/contract/test_what_operators_see.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Member:
    """One thing that is shown of each kept object. member: in JSON; heading: in the table that is printed, "" for none; what: for the page."""

    member: str
    heading: str
    what: str


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing that can be seen, and where. name: what the test calls it that looks whether it is really shown."""

    name: str
    what: str
    where: str


OBJECT: Final = (
    Member("path", "Path", "its kind and id, which the platform made: `files/file-4f...`"),
    Member("kind", "", "`files`, `batches`, `responses` or `completions`"),
    Member("id", "", "the id alone"),
    Member("state", "State", "`pending` while it is written, `live`, `removing`"),
    Member("status", "Status", "of jobs: where they stand (`in_progress`, ...)"),
    Member("bytes", "Bytes", "how long the body is"),
    Member("createdAt", "Created", "when it was begun"),
    Member("updatedAt", "", "when it last changed"),
    Member("expiresAt", "Expires", "when it goes by itself"),
    Member("dataKey", "Data key", "which data key its metadata is sealed under, by version"),
)
"""Of each object that an account keeps."""

SEEN: Final = (
    Seen(
        "accounts",
        "accounts: name, kind, SKU, location, network rules, whether keys are taken",
        "`GET` of the account in ARM, `stockade account list`",
    ),
    Seen(
        "objects",
        "what an account keeps, object by object: kind, id, state, status, bytes, times, data key",
        "`stockade lockbox objects`, `GET {account}/providers/Stockade.Lockbox/objects`",
    ),
    Seen(
        "decisions",
        "how a request was decided on: operation, address, credential's kind, rule, status, time",
        "`stockade explain`, `stockade report`",
    ),
    Seen("records", "the same, and every change in ARM, as records", "`stockade audit search`, the activity log"),
    Seen("health", "whether the server, its engines and the key broker are well", "`stockade status`, `/healthz`"),
    Seen("requests", "requests of operators, and what became of them", "`stockade lockbox filed`"),
)
"""Everything, by the place where it is shown."""
