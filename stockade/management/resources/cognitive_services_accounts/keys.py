"""The two subscription keys of an account: made, shown, regenerated, and who uses them.

In the account's private part, per slot: the keyed digest the gateway finds the key by, the key itself sealed for `listKeys`, and when
it was made. A slot's seal is bound to the account's id and the slot's name, so that a stored value cannot be moved to another account.

A key can be made without a copy being kept: it is shown once, and its SHA-256 stands where the sealed one would. Only such a key can be named in
a Lockbox statement (`callers.keys`), because only it is nobody's but its holder's, in backups too. Where a statement names keys, none is
kept from then on: regenerate with "forget", sign the SHA-256 into the next statement, and the new key opens what the account keeps.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Literal

from sqlalchemy import delete, select

from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys import subscription
from stockade.keys.root import RootKey
from stockade.keys.stored import statement_of
from stockade.keys.subscription import DIGEST_PURPOSE, KeyDigester
from stockade.lockbox import statement as statements
from stockade.management.resource_type import Call
from stockade.policy.snapshot import Entry, KeyPolicy
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json
from stockade.storage.tables import key_callers

Slot = Literal["Key1", "Key2"]
SLOTS: tuple[Slot, ...] = ("Key1", "Key2")
MAX_CALLERS = 200
NAMED_CALLERS = 5
"""Callers named in a refusal; all of them are in `listKeyUsage`."""
LONGEST_GUARD_MINUTES = 60 * 24 * 31


def new_keys(root_key: RootKey, account_id: str, now: float) -> Json:
    """Return the private part of two fresh keys. account_id: in lower case."""
    return {slot: new_slot(root_key, account_id, slot, now) for slot in SLOTS}


def new_slot(root_key: RootKey, account_id: str, slot: Slot, now: float) -> Json:
    """Return the private part of one fresh key."""
    key = subscription.generate()
    sealed = root_key.seal(key, _binding(account_id, slot))
    return {**_found_by(root_key, key, now), "sealed": base64.b64encode(sealed).decode()}


def list_keys(call: Call, reader: Reader, document: Document) -> Json:
    """Answer `listKeys`. Refused while local authentication is off.

    Source: as Azure answers (Azure/terraform-azurerm-avm-res-cognitiveservices-account, issue 130).
    """
    if document.body["properties"].get("disableLocalAuth"):
        raise Fault(FaultKind.INVALID, "Failed to list key. disableLocalAuth is set to be true", code="BadRequest")
    shown = _api_keys(call.platform.root_key, document)
    if not shown:
        message = (
            "No copy was kept of this resource's keys: their holders have them, and nobody else. Regenerate one (regenerateKey), "
            "which shows it once."
        )
        raise Fault(FaultKind.CONFLICT, message, code="KeysNotKept")
    return shown


def regenerate_key(call: Call, writer: Writer, document: Document) -> Json:
    """Answer `regenerateKey`: the named slot gets a new key, the other stays. Allowed while local authentication is off.

    Beyond Azure, the body may hold `ifUnusedForMinutes` (refuse with 409 KeyInUse when the key was used within so many minutes; default:
    the setting limits.key_rotation_guard_minutes), `force` (true: regenerate all the same) and `forget` (true: the new key is in this answer
    and nowhere else; always so where the Lockbox statement names keys). A key that no copy was kept of is not in the answer.
    """
    slot, forget = _slot(call.body), _flag(call.body, "forget") or _names_keys(document)
    if not _flag(call.body, "force"):
        _refuse_key_in_use(call, writer, document, slot, _guard_minutes(call))
    keys, fresh = dict(document.private["keys"]), subscription.generate()
    if forget:
        keys[slot] = _forgotten(call.platform.root_key, fresh, call.now)
    else:
        keys[slot] = new_slot(call.platform.root_key, document.id, slot, call.now)
    stored = writer.put(
        document.id,
        document.type,
        document.body,
        {**document.private, "keys": keys},
        subscription=document.subscription,
        resource_group=document.resource_group,
    )
    in_force = [entry["digest"] for entry in keys.values()]
    writer.connection.execute(
        delete(key_callers).where(key_callers.c.account == document.id, key_callers.c.digest.not_in(in_force))
    )
    shown = _api_keys(call.platform.root_key, stored)
    return {**shown, slot.lower(): fresh.reveal_text()} if forget else shown


def list_key_usage(call: Call, reader: Reader, document: Document) -> Json:
    """Answer `listKeyUsage`: per slot when the key was made, when it was last used, and by whom. Never a key.

    The gateway writes its counts every second, so the newest calls may be missing for that long. A client that lost the answer to
    `regenerateKey` reads from `createdAt` whether the change was made.
    """
    return {"value": [_usage(reader, document, slot) for slot in SLOTS]}


def forget_callers(writer: Writer, account_id: str) -> None:
    """Drop what is known of an account's callers."""
    writer.connection.execute(delete(key_callers).where(key_callers.c.account == account_id))


def compile_keys(document: Document) -> Iterable[Entry]:
    """Yield where each key belongs."""
    for slot in SLOTS:
        yield ("key", bytes.fromhex(document.private["keys"][slot]["digest"]), KeyPolicy(document.id, slot))


def _api_keys(root_key: RootKey, document: Document) -> Json:
    kept = [slot for slot in SLOTS if "sealed" in document.private["keys"][slot]]
    return {slot.lower(): _reveal(root_key, document, slot) for slot in kept}


def _found_by(root_key: RootKey, key: Secret, now: float) -> Json:
    digest = KeyDigester(root_key.derive(DIGEST_PURPOSE)).digest(key.reveal())
    return {"digest": digest.hex(), "createdAt": now}


def _forgotten(root_key: RootKey, key: Secret, now: float) -> Json:
    return {**_found_by(root_key, key, now), "sha256": sha256(key.reveal()).hexdigest()}


def _names_keys(document: Document) -> bool:
    signed = statement_of(document.private)
    stated = statements.read(signed.payload) if signed is not None else None
    return stated is not None and stated.protected and bool(stated.callers.keys)


def _reveal(root_key: RootKey, document: Document, slot: Slot) -> str:
    sealed = base64.b64decode(document.private["keys"][slot]["sealed"])
    return root_key.unseal(sealed, _binding(document.id, slot)).reveal_text()


def _binding(account_id: str, slot: Slot) -> str:
    return f"subscription-key|{account_id}|{slot}"


def _slot(body: Mapping[str, Any]) -> Slot:
    name = next((value for member, value in body.items() if member.lower() == "keyname"), None)
    for slot in SLOTS:
        if isinstance(name, str) and name.lower() == slot.lower():
            return slot
    raise Fault(
        FaultKind.INVALID, "The property 'keyName' must be 'Key1' or 'Key2'.", code="InvalidKeyName", target="keyName"
    )


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise Fault(FaultKind.INVALID, f"The property '{name}' must be true or false.", target=name)
    return value


def _guard_minutes(call: Call) -> float:
    value = call.body.get("ifUnusedForMinutes", call.platform.settings.limits.key_rotation_guard_minutes)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST_GUARD_MINUTES:
        message = f"The property 'ifUnusedForMinutes' must be a number from 0 to {LONGEST_GUARD_MINUTES}."
        raise Fault(FaultKind.INVALID, message, target="ifUnusedForMinutes")
    return float(value)


def _refuse_key_in_use(call: Call, reader: Reader, document: Document, slot: Slot, minutes: float) -> None:
    since = call.now - minutes * 60
    recent = [caller for caller in _callers(reader, document, slot) if caller["last"] > since] if minutes else []
    if not recent:
        return
    named = "; ".join(
        f"{caller['address']} ({caller['client'] or 'unknown client'})" for caller in recent[:NAMED_CALLERS]
    )
    more = f" and {len(recent) - NAMED_CALLERS} more" if len(recent) > NAMED_CALLERS else ""
    message = (
        f"{slot} was used within the last {minutes:g} minutes by {named}{more}. Regenerating it locks these callers out at once: "
        'move them to the other key first, or repeat the request with "force": true.'
    )
    raise Fault(FaultKind.CONFLICT, message, code="KeyInUse", target="keyName")


def _usage(reader: Reader, document: Document, slot: Slot) -> Json:
    callers = _callers(reader, document, slot)
    return {
        "keyName": slot,
        "createdAt": iso(document.private["keys"][slot]["createdAt"]),
        "lastUsed": iso(max(caller["last"] for caller in callers)) if callers else None,
        "callers": [
            {
                "address": caller["address"],
                "client": caller["client"],
                "count": caller["count"],
                "firstSeen": iso(caller["first"]),
                "lastSeen": iso(caller["last"]),
            }
            for caller in callers
        ],
    }


def _callers(reader: Reader, document: Document, slot: Slot) -> list[Json]:
    column = key_callers.c
    query = (
        select(column.address, column.client, column.count, column.first_seen, column.last_seen)
        .where(column.digest == document.private["keys"][slot]["digest"])
        .order_by(column.last_seen.desc(), column.address, column.client)
        .limit(MAX_CALLERS)
    )
    names = ("address", "client", "count", "first", "last")
    return [dict(zip(names, row, strict=True)) for row in reader.connection.execute(query)]
