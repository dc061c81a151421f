"""One admitted request, and what answers it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote, urlencode

import msgspec

from stockade.kernel.clock import Clock
from stockade.kernel.evidence import CallerToken
from stockade.kernel.secret import Secret
from stockade.keys.broker import Broker
from stockade.keys.broker_async import AsyncBroker, BrokerInThreads
from stockade.keys.material import Use
from stockade.policy.snapshot import Snapshot, VaultPolicy
from stockade.settings import Settings
from stockade.storage.database import Database
from stockade.vault.keys import Keys
from stockade.vault.lifecycle import MAX_PAGE
from stockade.vault.secrets import Secrets
from stockade.vault.wire import bad_parameter

BODY_LIMIT: Final = 128 * 1024
RESTORE_LIMIT: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Shop:
    """What answers may use. One per control plane."""

    settings: Settings
    database: Database
    broker: Broker
    async_broker: AsyncBroker
    """The same broker, for the event loop."""
    clock: Clock
    keys: Keys
    secrets: Secrets


def shop_of(
    settings: Settings, database: Database, broker: Broker, clock: Clock, async_broker: AsyncBroker | None = None
) -> Shop:
    """Return what a process that answers for vaults, or works on them, has."""
    keys, secrets = Keys(settings, database, broker, clock), Secrets(settings, database, broker, clock)
    return Shop(settings, database, broker, async_broker or BrokerInThreads(broker), clock, keys, secrets)


class Asked(msgspec.Struct, frozen=True):
    """A request of somebody who may do what is asked.

    base: the vault's address as the caller spelled it, `https://demo-vault.vault.stockade.localhost:8444`: ids in replies begin with it.
    name, version: of the key or secret, "" where the path has none; a version in lower case.
    """

    operation: Operation
    snapshot: Snapshot
    vault: VaultPolicy
    base: str
    name: str
    version: str
    query: Mapping[str, str]
    content: bytes
    token: str
    now: float

    @property
    def evidence(self) -> CallerToken:
        return CallerToken(Secret(self.token))

    @property
    def asked_by(self) -> str:
        return f"vault {self.operation.name}"


Answer: TypeAlias = Callable[[Shop, Asked], Mapping[str, Any] | None]
"""Returns the reply's JSON; None: 204 without a body."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing a vault can be asked.

    name:       as Azure's diagnostic logs call it, `KeySign`.
    path:       `{name}` and `{version}` stand for one segment each; other segments compare without case.
    permission: in an access policy's words, with what it is about: `keys/sign`.
    changes:    it changes something: recorded before it is done.
    use:        a use of a key, which needs no documents: it may be answered on the event loop, by `key_operations.used`.
    """

    name: str
    method: Literal["GET", "PUT", "POST", "PATCH", "DELETE"]
    path: tuple[str, ...]
    permission: str
    answer: Answer
    changes: bool = False
    body_limit: int = BODY_LIMIT
    use: Use | None = None

    def match(self, parts: tuple[str, ...]) -> Mapping[str, str] | None:
        """Return what a path captures; None when it is not this operation's."""
        if len(parts) != len(self.path):
            return None
        captured = {}
        for pattern, part in zip(self.path, parts, strict=True):
            if pattern.startswith("{"):
                captured[pattern.strip("{}")] = part
            elif pattern != part.lower():
                return None
        return captured


def page_of(asked: Asked) -> tuple[str, int]:
    """Return what a page begins after, and how many entries it has; Fault(INVALID)."""
    text = asked.query.get("maxresults", "")
    size = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if text and not 1 <= size <= MAX_PAGE:
        raise bad_parameter(f"maxresults is a number from 1 to {MAX_PAGE}.", "maxresults")
    token = asked.query.get("$skiptoken", "")
    try:
        after = base64.urlsafe_b64decode(token.encode("ascii")).decode("ascii") if token else ""
    except (binascii.Error, ValueError) as failure:
        raise bad_parameter("The $skiptoken is not one of ours.", "$skiptoken") from failure
    return after, size or MAX_PAGE


def page_body(asked: Asked, values: list[dict[str, Any]], after: str, path: str) -> dict[str, Any]:
    """Return a page. after: the name that the next one begins after, "" for the last. path: of the collection."""
    link = None
    if after:
        query = {name: value for name, value in asked.query.items() if name in ("api-version", "maxresults")}
        query["$skiptoken"] = base64.urlsafe_b64encode(after.encode()).decode()
        link = f"{asked.base}/{quote(path)}?{urlencode(query)}"
    return {"value": values, "nextLink": link}
