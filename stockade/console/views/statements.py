"""Accounts and their Lockbox statements: who may approve. A new one is drafted by ARM, signed by passkeys here, and bound to the keys by the broker.

A statement that more people have to sign than are here goes from one to the next as text: the draft, with the signatures it has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from stockade.console.arm import Arm, Json, Refused, below
from stockade.console.pages import Goto, Page, decoded
from stockade.console.views.signing import Key, signature_of
from stockade.console.visit import ROOT, View, Visit
from stockade.kernel.faults import Fault, FaultKind
from stockade.lockbox import attackers, signature, strict
from stockade.lockbox import statement as statements
from stockade.lockbox.signature import Signature, Signed
from stockade.lockbox.statement import MAX_APPROVERS, Approver, Passkey, Statement

ACCOUNTS: Final = "providers/Microsoft.CognitiveServices/accounts"
POLICY: Final = "providers/Stockade.Lockbox/policies/default"
MAX_STATES: Final = 100
"""Accounts whose statements are looked for on the list."""
_KEY_ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Draft(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A statement on its way from one signer to the next, as `stockade lockbox policy sign` reads it too.

    payload: base64url. contacts: None leaves them as they are. ends: it ends the protection.
    """

    account: str
    payload: str
    signatures: tuple[Signature, ...]
    contacts: tuple[str, ...] | None = None
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """An account and the statement in force for it."""

    id: str
    name: str
    policy: Json | None

    @property
    def statement(self) -> Statement | None:
        """None where there is none."""
        return statements.read(decoded(str(self.policy["payload"]))) if self.policy is not None else None


def account_of(visit: Visit) -> Account:
    """Return the account a page's path names, with its statement."""
    group = below("subscriptions", visit.subscription, "resourceGroups", visit.names["group"])
    found = visit.arm.get(group + below(ACCOUNTS, visit.names["account"]))
    return Account(str(found["id"]), str(found["name"]), policy_of(visit.arm, str(found["id"])))


def policy_of(arm: Arm, account_id: str) -> Json | None:
    """Return the properties of an account's Lockbox policy, None where there is none."""
    try:
        found: Json = arm.get(below(account_id, POLICY))["properties"]
    except Refused as refused:
        if refused.status == 404:
            return None
        raise
    return found if found.get("payload") else None


def page_of(account_id: str) -> str:
    """Return the path of an account's page."""
    _, _, subscription, _, group, *_, name = account_id.split("/")
    return ROOT + below("subscriptions", subscription, "accounts", group, name)


def _accounts(visit: Visit) -> Page:
    found, more = visit.arm.listed(below("subscriptions", visit.subscription, ACCOUNTS))
    found.sort(key=lambda one: str(one["name"]).lower())
    rows = [
        {"account": one, "page": page_of(str(one["id"])), "state": _state(visit.arm, str(one["id"]))}
        for one in found[:MAX_STATES]
    ]
    return Page("accounts.html", {"rows": rows, "more": more or len(found) > MAX_STATES})


def _state(arm: Arm, account_id: str) -> str:
    try:
        policy = policy_of(arm, account_id)
    except Refused as refused:
        if refused.status == 403:
            return "unknown"
        raise
    return "protected" if policy is not None else "open"


def _statement(visit: Visit, problem: str = "", status: int = 200) -> Page:
    account = account_of(visit)
    statement = account.statement
    values = {
        "account": account,
        "page": page_of(account.id),
        "statement": statement,
        "policy": account.policy,
        "stopped": attackers.stopped(statement.callers) if statement is not None else (),
        "passkey": _fresh(visit.session.passkey, statement),
        "named": free_name(visit.session.name, statement),
        "problem": problem,
        "form": visit.form,
        "room": statement is None or len(statement.approvers) < MAX_APPROVERS,
    }
    return Page("account.html", values, status)


def _draft(visit: Visit) -> Page:
    account = account_of(visit)
    statement = account.statement
    before = statement.approvers if statement is not None else ()
    approvers = [one for one in before if f"remove:{one.id}" not in visit.form]
    try:
        if "add" in visit.form:
            approvers.append(_new_approver(visit, before))
        if visit.form.get("theirs", "").strip():
            approvers.append(_sent_approver(visit))
        body: Json = {"approvers": [msgspec.to_builtins(one) for one in approvers], "threshold": _threshold(visit)}
        if statement is None:
            body["callers"] = {"platform": True}
        drafted = visit.arm.post(below(account.id, POLICY, "draft"), body)
        contacts = tuple(visit.form.get("contacts", "").replace(",", " ").split())[:MAX_APPROVERS]
        return _signing(visit, account, Draft(account.id, str(drafted["payload"]), (), contacts or None))
    except Fault as fault:
        return _statement(visit, fault.message, 400)
    except Refused as refused:
        return _statement(visit, refused.message, refused.status)


def _go_on(visit: Visit) -> Page:
    """Take up a draft that somebody else has begun."""
    account = account_of(visit)
    try:
        return _signing(visit, account, _sent_draft(visit))
    except Fault as fault:
        return _statement(visit, fault.message, 400)


def _sign(visit: Visit) -> Page | Goto:
    account, draft = account_of(visit), _sent_draft(visit)
    payload = decoded(draft.payload)
    wanted = statements.read(payload)
    signers, threshold = _signers(account, wanted)
    try:
        made = signature_of(visit.form.get("assertion", ""), _passkeys(signers))
        signed = Signed(payload, (*(one for one in draft.signatures if one.key != made.key), made))
        people = {one.principal for one in signature.verified(signed, signers)}
    except Fault as fault:
        return _signing(visit, account, draft, fault.message, 400)
    further = msgspec.structs.replace(draft, signatures=signed.signatures)
    if len(people) < threshold:
        return _signing(visit, account, further)
    properties: Json = {"payload": further.payload, "signatures": msgspec.to_builtins(further.signatures)}
    if further.contacts is not None and wanted.protected:
        properties["contacts"] = list(further.contacts)
    try:
        visit.arm.call("PUT" if wanted.protected else "DELETE", below(account.id, POLICY), {"properties": properties})
    except Refused as refused:
        return _signing(visit, account, draft, refused.message, refused.status)
    visit.session.tell(
        "The statement is in force. Operators read nothing of this account unless its approvers sign for it."
        if wanted.protected
        else "The protection has ended."
    )
    return Goto(page_of(account.id))


def _signing(visit: Visit, account: Account, draft: Draft, problem: str = "", status: int = 200) -> Page:
    payload = decoded(draft.payload)
    wanted = statements.read(payload)
    if wanted.account != account.id.lower():
        raise Fault(FaultKind.INVALID, "That draft is for another account.")
    before = account.statement
    known = before.approvers if before is not None else ()
    signers, threshold = _signers(account, wanted)
    signed = {one.key for one in draft.signatures}
    here = [
        key for key in _passkeys(signers) if key.relying_party == visit.address.relying_party and key.id not in signed
    ]
    values = {
        "account": account,
        "page": page_of(account.id),
        "before": before,
        "wanted": wanted,
        "added": [one for one in wanted.approvers if one not in known],
        "removed": [one for one in known if one not in wanted.approvers],
        "payload": draft.payload,
        "digest": statements.digest(payload),
        "challenge": strict.base64url(signature.challenge(payload)),
        "draft": msgspec.json.encode(draft).decode(),
        "keys": here,
        "signers": signers,
        "signed": signed,
        "threshold": threshold,
        "relying_party": visit.address.relying_party,
        "stopped": attackers.stopped(wanted.callers) if wanted.protected else (),
        "problem": problem,
    }
    return Page("statement.html", values, status, script=bool(here))


def _signers(account: Account, wanted: Statement) -> tuple[tuple[Approver, ...], int]:
    """Return who signs a statement, and how many people: the approvers of the one before it, of the first its own."""
    by = account.statement or wanted
    return by.approvers, by.threshold


def _passkeys(approvers: Iterable[Approver]) -> list[Key]:
    return [
        Key(one.id, one.passkey.credential_id, one.passkey.rp_id, one.principal)
        for one in approvers
        if one.passkey is not None
    ]


def _new_approver(visit: Visit, before: Iterable[Approver]) -> Approver:
    passkey, name = visit.session.passkey, visit.form.get("key", "").strip()
    if passkey is None:
        raise Fault(FaultKind.INVALID, "The passkey was registered in another session; register it again.")
    if _KEY_ID.fullmatch(name) is None:
        raise Fault(FaultKind.INVALID, "A key's name has lower-case letters, digits, '.', '_' and '-', at most 64.")
    if any(one.id == name for one in before):
        raise Fault(FaultKind.INVALID, f"The statement has a key '{name}' already. Give this one another name.")
    return Approver(name, visit.session.object_id, passkey=passkey)


def _sent_approver(visit: Visit) -> Approver:
    """Return the key that somebody has made for themselves and given to whoever drafts; what is in it ARM and the broker check."""
    try:
        return msgspec.json.decode(visit.form["theirs"].strip(), type=Approver)
    except (msgspec.MsgspecError, ValueError, RecursionError) as failure:
        raise Fault(FaultKind.INVALID, "That is no key of an approver's, as the console gives them out.") from failure


def _threshold(visit: Visit) -> int:
    sent = visit.form.get("threshold", "1")
    if not sent.isascii() or not sent.isdecimal() or not 1 <= int(sent[:4]) <= MAX_APPROVERS:
        raise Fault(FaultKind.INVALID, f"How many have to sign is a number from 1 to {MAX_APPROVERS}.")
    return int(sent)


def _sent_draft(visit: Visit) -> Draft:
    try:
        return msgspec.json.decode(visit.form.get("draft", "").strip(), type=Draft)
    except (msgspec.MsgspecError, ValueError, RecursionError) as failure:
        raise Fault(FaultKind.INVALID, "That is no draft of a statement.") from failure


def _fresh(passkey: Passkey | None, statement: Statement | None) -> Passkey | None:
    """Return the session's passkey unless it stands in the statement already. It may stand in several accounts'."""
    known = [one.passkey for one in statement.approvers] if statement is not None else []
    return passkey if passkey not in known else None


def free_name(name: str, statement: Statement | None) -> str:
    """Return a name for somebody's key that the statement does not have yet."""
    stem = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")[:40] or "approver"
    taken = {one.id for one in statement.approvers} if statement is not None else set()
    numbered = (f"{stem}-passkey{suffix}" for suffix in ("", *(f"-{number}" for number in range(2, MAX_APPROVERS + 2))))
    return next(one for one in numbered if one not in taken)


_ACCOUNT: Final = "/subscriptions/{subscription}/accounts/{group}/{account}"
VIEWS: Final = (
    View("GET", "/subscriptions/{subscription}/accounts", _accounts),
    View("GET", _ACCOUNT, _statement),
    View("POST", f"{_ACCOUNT}/draft", _draft),
    View("POST", f"{_ACCOUNT}/continue", _go_on),
    View("POST", f"{_ACCOUNT}/sign", _sign),
)
