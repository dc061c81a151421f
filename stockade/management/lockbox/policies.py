"""An account's Lockbox statement in ARM: proposed, put with signatures, bound to its data keys by the broker, and ended only by another one.

Broker and document change together: the broker wraps the account's data keys along with the statement, and what it returns is stored in the
transaction that asked for it. A statement that the broker has bound and that then was not stored is put again: it is the same one.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.stored import DATA_KEYS, LOCKBOX, data_keys_form, data_keys_of, statement_form, without_copies
from stockade.lockbox import signature, strict
from stockade.lockbox import statement as statements
from stockade.lockbox.signature import Signed
from stockade.lockbox.statement import Approver, BreakGlass, Callers, Statement
from stockade.management.cognitive_services.kinds import ACCOUNTS
from stockade.management.lockbox import approvers, bodies, documents
from stockade.management.lockbox.bodies import Policy, PolicyProperties
from stockade.management.lockbox.documents import CONTACTS, Protection
from stockade.management.resource_type import Call, Reply, display_id
from stockade.management.shape import respelled, typed
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json

TYPE: Final = "Stockade.Lockbox/policies"
REQUIRED: Final = "SignatureRequired"


class Draft(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """What the next statement is to say; None: as it is."""

    approvers: tuple[Approver, ...] | None = None
    threshold: int | None = None
    callers: Callers | None = None
    break_glass: BreakGlass | msgspec.UnsetType | None = msgspec.UNSET
    protected: bool | None = None


def show(call: Call, reader: Reader) -> Json:
    """Return the statement that is in force."""
    account = _account(call, reader)
    held = documents.protection(account)
    if held is None:
        raise _not_protected(account)
    return _shown(account, held)


def draft(call: Call, reader: Reader) -> Json:
    """Return the next statement, to be signed: what is in force with what the body changes."""
    account = _account(call, reader)
    try:
        wanted = msgspec.convert(respelled(call.body, Draft), Draft)
    except msgspec.ValidationError as failure:
        message = f"That is no draft of a statement: {failure}."
        raise Fault(FaultKind.INVALID, message, code="InvalidStatement") from failure
    return _proposed(call, account, wanted)


def put(call: Call, writer: Writer) -> Reply:
    """Bind a statement, or change whom requests are told to."""
    account, sent = _account(call, writer), _sent(call)
    given = bodies.signed(sent.payload, sent.signatures)
    held = documents.protection(account)
    if not given.payload and held is not None and sent.contacts is not None:
        return Reply(200, _shown(_with_contacts(writer, account, sent.contacts), held))
    if not given.payload or not given.signatures:
        raise _required(call, account, Draft(protected=True))
    stated = _checked(call, account, given)
    if not stated.protected:
        message = "The statement ends the protection. DELETE the policy with it."
        raise Fault(FaultKind.INVALID, message, code="InvalidStatement", target="protected")
    stored = _bound(call, writer, account, given)
    if sent.contacts is not None:
        stored = _with_contacts(writer, stored, sent.contacts)
    bound = documents.protection(stored)
    assert bound is not None
    return Reply(200 if held is not None else 201, _shown(stored, bound))


def delete(call: Call, writer: Writer) -> Reply:
    """End the protection, by a statement that says so and is signed as every other one."""
    account, sent = _account(call, writer), _sent(call)
    if documents.protection(account) is None:
        return Reply(204)
    given = bodies.signed(sent.payload, sent.signatures)
    if not given.payload or not given.signatures:
        raise _required(call, account, Draft(protected=False))
    if _checked(call, account, given).protected:
        message = "The statement does not end the protection (`protected` is true). PUT the policy with it."
        raise Fault(FaultKind.INVALID, message, code="InvalidStatement", target="protected")
    _bound(call, writer, account, given)
    return Reply(200)


def _account(call: Call, reader: Reader) -> Document:
    where = call.parameters
    arm_id = f"/subscriptions/{where['subscription']}/resourceGroups/{where['group']}/providers/{ACCOUNTS}/{where['account']}"
    found = reader.get(arm_id)
    if found is None:
        raise Fault(FaultKind.NOT_FOUND, f"The Resource '{ACCOUNTS}/{where['account']}' was not found.")
    return found


def _sent(call: Call) -> PolicyProperties:
    return typed(respelled(call.body, Policy), Policy).properties or PolicyProperties()


def _checked(call: Call, account: Document, given: Signed) -> Statement:
    """Return the statement, which continues the last one and is signed by whom it has to be; the broker asks all of it again."""
    stated = statements.read(given.payload)
    if {one.statement for one in data_keys_of(account.private)} == {statements.digest(given.payload)}:
        return stated  # the data keys are bound to it already: the document has lost it, and gets it again
    last = documents.last_statement(account)
    expected = _next(account, last)
    for name, found, wanted in (
        ("account", stated.account, account.id),
        ("account_guid", stated.account_guid, _internal_id(account)),
        ("sequence", stated.sequence, expected[0]),
        ("previous", stated.previous, expected[1]),
    ):
        if found != wanted:
            message = f"The statement's '{name}' does not continue what is in force. Ask for a draft, and sign that."
            raise Fault(FaultKind.CONFLICT, message, code="StatementDoesNotContinue", target=f"payload.{name}")
    known, threshold = _signers(stated, last)
    signers = signature.require(given, known, threshold)
    protects = last is not None and last.in_force
    if not protects and not approvers.is_signer(call.snapshot, call.credential, signers):
        message = (
            "A first statement is put by one of its approvers, who has signed it: none of the signatures is yours."
        )
        raise Fault(FaultKind.AUTHORIZATION_FAILED, message, code="NotASigner")
    return stated


def _bound(call: Call, writer: Writer, account: Document, given: Signed) -> Document:
    """Have the broker bind a statement, and store what it returns with it."""
    keys = call.platform.broker.bind_statement(account.id, given, call.evidence)
    private = {**account.private, DATA_KEYS: data_keys_form(keys), LOCKBOX: statement_form(given)}
    stated = statements.read(given.payload)
    # A key that the statement names is its holder's alone, so that no copy stays of any.
    names_keys = stated.protected and bool(stated.callers.keys)
    return _stored(writer, account, without_copies(private) if names_keys else private)


def _with_contacts(writer: Writer, account: Document, given: list[str]) -> Document:
    return _stored(writer, account, {**account.private, CONTACTS: bodies.contacts(given)})


def _stored(writer: Writer, account: Document, private: Json) -> Document:
    return writer.put(
        account.id,
        account.type,
        account.body,
        private,
        subscription=account.subscription,
        resource_group=account.resource_group,
    )


def _proposed(call: Call, account: Document, wanted: Draft) -> Json:
    last = documents.last_statement(account)
    before = last.statement if last is not None else None
    sequence, previous = _next(account, last)
    glass = wanted.break_glass
    if wanted.approvers is None and before is None:
        message = "The first statement names its 'approvers': [{id, principal, jwk or passkey}]."
        raise Fault(FaultKind.INVALID, message, code="InvalidStatement", target="approvers")
    made = Statement(
        account=account.id,
        account_guid=_internal_id(account),
        sequence=sequence,
        previous=previous,
        protected=True if wanted.protected is None else wanted.protected,
        approvers=wanted.approvers or (before.approvers if before is not None else ()),
        threshold=wanted.threshold or (before.threshold if before is not None else 1),
        callers=wanted.callers or (before.callers if before is not None else Callers(platform=True)),
        break_glass=(before.break_glass if before is not None else None) if glass is msgspec.UNSET else glass,
        issued_at=float(int(call.now)),
    )
    payload = statements.encode(made)
    known, threshold = _signers(statements.read(payload), last)
    return {
        "payload": strict.base64url(payload),
        "statement": msgspec.to_builtins(made),
        "digest": statements.digest(payload),
        "signers": {
            "approvers": [one.id for one in known],
            "threshold": threshold,
            "passkeys": [approvers.passkey(one) for one in known if one.passkey is not None],
        },
    }


def _required(call: Call, account: Document, wanted: Draft) -> Fault:
    """Return the 400 for who changes the statement without signing: what to sign, and by whom, where that can be said."""
    message = (
        "A statement is signed by the approvers of the one before it, the first by its own. Ask for a draft (POST .../policies/default/draft), sign "
        "its 'payload', and send 'payload' and 'signatures' in 'properties'; `stockade lockbox protect` and the console do."
    )
    try:
        information: Json | None = _proposed(call, account, wanted)
    except Fault:
        information = None
    details = {"additionalInfo": information} if information is not None else None
    return Fault(FaultKind.INVALID, message, code=REQUIRED, target="properties.signatures", details=details)


def _signers(stated: Statement, last: Protection | None) -> tuple[tuple[Approver, ...], int]:
    """Return who signs a statement: the approvers of the one before it; of the first, and after a protection that has ended, its own."""
    by = last.statement if last is not None and last.in_force else stated
    return by.approvers, by.threshold


def _next(account: Document, last: Protection | None) -> tuple[int, str]:
    return (last.statement.sequence + 1, last.digest) if last is not None else (1, "")


def _internal_id(account: Document) -> str:
    return str(account.body["properties"]["internalId"])


def _shown(account: Document, held: Protection) -> Json:
    return {
        "id": f"{display_id(account)}/providers/{TYPE}/default",
        "name": "default",
        "type": TYPE,
        "properties": {
            "state": "Protected",
            "digest": held.digest,
            "sequence": held.statement.sequence,
            "payload": strict.base64url(held.signed.payload),
            "statement": msgspec.to_builtins(held.statement),
            "signatures": [_signature(one) for one in held.signed.signatures],
            "contacts": list(documents.contacts(account)),
        },
    }


def _signature(one: signature.Signature) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(one)
    return found


def _not_protected(account: Document) -> Fault:
    message = f"The account '{account.name}' has no Lockbox statement: operators read nothing, and nobody can be asked."
    return Fault(FaultKind.NOT_FOUND, message, code="LockboxNotProtected")
