"""How Lockbox's requests, statements and the tenant's opting in stand in the documents.

A request is `/subscriptions/{s}/providers/stockade.lockbox/requests/{GUID}`: body {"name", "asked", "course"}, private `Kept`. A statement is in its
account's private part (`keys/stored.py`), and the addresses of those who are told beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import is_guid
from stockade.keys.stored import statement_of
from stockade.lockbox import statement as statements
from stockade.lockbox import workflow
from stockade.lockbox.approval import Operator
from stockade.lockbox.signature import Signature, Signed
from stockade.lockbox.statement import Statement
from stockade.lockbox.workflow import Course
from stockade.policy.snapshot import Entry, Snapshot
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document

REQUESTS: Final = "stockade.lockbox/requests"
TENANTS: Final = "stockade.lockbox/tenants"
_TENANT_ID: Final = "/providers/stockade.lockbox/tenants/default"
CONTACTS: Final = "lockboxContacts"
NAME_PREFIX: Final = "LockboxRequest_"


class Asked(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What an operator asks for; none of it changes afterwards.

    account: the ARM id as it is shown. resource_type: its type. scope: as in `lockbox/approval.py`.
    """

    account: str
    resource_type: str
    scope: tuple[str, ...]
    reason: str
    case: str
    operator: Operator
    break_glass: bool = False


class Kept(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What nobody is shown as it is. payload: what is being signed, or has been; told: whether the broker knows that it is over."""

    payload: bytes = b""
    signatures: tuple[Signature, ...] = ()
    told: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it is stored. name: its GUID, in lower case."""

    name: str
    subscription: str
    asked: Asked
    course: Course
    kept: Kept

    @property
    def id(self) -> str:
        """Its ARM id as customers see it."""
        return f"/subscriptions/{self.subscription}/providers/Microsoft.CustomerLockbox/requests/{self.name}"

    @property
    def signed(self) -> Signed:
        return Signed(self.kept.payload, self.kept.signatures)

    def at(self, now: float) -> Request:
        """Return it as it stands at a time."""
        return replace(self, course=workflow.at(self.course, now))


def guid_of(text: str) -> str | None:
    """Return the GUID of a request's id or name, in lower case; None for something else."""
    found = text[len(NAME_PREFIX) :] if text.lower().startswith(NAME_PREFIX.lower()) else text
    return found.lower() if is_guid(found) else None


def find(reader: Reader, subscription: str, text: str) -> Request | None:
    """Return a request by its GUID or name."""
    name = guid_of(text)
    document = reader.get(_document_id(subscription, name)) if name is not None else None
    return _request(document) if document is not None else None


def required(reader: Reader, subscription: str, text: str) -> Request:
    """Return a request; Fault(NOT_FOUND) when there is none such."""
    found = find(reader, subscription, text)
    if found is None:
        message = f"The Lockbox request '{text[:80]}' was not found in the subscription '{subscription}'."
        raise Fault(FaultKind.NOT_FOUND, message)
    return found


def every(reader: Reader, subscription: str | None = None) -> list[Request]:
    """Return all requests, or a subscription's, the newest first."""
    found = [_request(document) for document in reader.list(REQUESTS, subscription=subscription)]
    return sorted(found, key=lambda one: (one.course.filed_at, one.name), reverse=True)


def put(writer: Writer, request: Request) -> None:
    """Store a request."""
    body = {
        "name": request.name,
        "asked": msgspec.to_builtins(request.asked),
        "course": workflow.stored(request.course),
    }
    private = msgspec.to_builtins(request.kept)
    writer.put(
        _document_id(request.subscription, request.name), REQUESTS, body, private, subscription=request.subscription
    )


def remove(writer: Writer, request: Request) -> None:
    """Remove a request, which is over; the log keeps what happened."""
    document = writer.get(_document_id(request.subscription, request.name))
    if document is not None:
        writer.remove(document)


# Statements


@dataclass(frozen=True, slots=True)
class Protection:
    """An account's statement. signed: exactly as it was; digest: what names it."""

    signed: Signed
    statement: Statement
    digest: str

    @property
    def in_force(self) -> bool:
        return self.statement.protected


def last_statement(account: Document) -> Protection | None:
    """Return an account's last statement, also one that ended the protection; None when there never was one."""
    signed = statement_of(account.private)
    if signed is None:
        return None
    return Protection(signed, statements.read(signed.payload), statements.digest(signed.payload))


def protection(account: Document) -> Protection | None:
    """Return what protects an account now."""
    found = last_statement(account)
    return found if found is not None and found.in_force else None


def contacts(account: Document) -> tuple[str, ...]:
    """Return the addresses of those who are told of requests for an account."""
    return tuple(account.private.get(CONTACTS, ()))


# The tenant


def is_opted_in(snapshot: Snapshot) -> bool:
    """Say whether the tenant has Lockbox on. Off: no operator reads anything."""
    return snapshot.only("lockbox", "tenant") is True


def opt(writer: Writer, *, opted_in: bool) -> bool:
    """Turn Lockbox on or off; say whether that changed anything."""
    before = writer.get(_TENANT_ID)
    if (before is not None and before.body["isOptedIn"] is True) == opted_in:
        return False
    writer.put(_TENANT_ID, TENANTS, {"name": "default", "isOptedIn": opted_in})
    return True


def compile_tenant(document: Document) -> Iterable[Entry]:
    """Yield that the tenant has opted in, where it has."""
    if document.body["isOptedIn"] is True:
        yield ("lockbox", "tenant", True)


def _document_id(subscription: str, name: str) -> str:
    return f"/subscriptions/{subscription}/providers/{REQUESTS}/{name}".lower()


def _request(document: Document) -> Request:
    body: Mapping[str, Any] = document.body
    return Request(
        name=str(body["name"]),
        subscription=document.subscription,
        asked=msgspec.convert(body["asked"], Asked),
        course=workflow.read(body["course"]),
        kept=msgspec.convert(document.private, Kept),
    )
