"""The data keys of accounts and encryption scopes: made with them, and wrapped by the customer's key when one is bound.

A key is bound in three steps, and stored only after the third: everything that is wrong is told at once (`policy/key_preflight.py`), the data
keys are wrapped with it, and unwrapped with it again, both by the broker. All in the transaction of the PUT or PATCH: whatever fails, nothing is
changed.
Source: contracts, control-plane section 6.6.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.broker import Broker, WrappedDataKey
from stockade.keys.stored import DATA_KEYS, data_keys_form, data_keys_of
from stockade.management.cognitive_services.encryption import binding
from stockade.management.resource_type import Call, display_id
from stockade.policy import customer_key, remote_keys
from stockade.policy.key_preflight import Finding, preflight
from stockade.policy.key_remedies import remedy
from stockade.policy.snapshot import CustomerKey, DataKeyPolicy, DataKeysPolicy, Entry, RemoteKeyState, Snapshot
from stockade.settings import Settings
from stockade.storage.database import Writer
from stockade.storage.documents import Document, Json

REWRAPPED_AT: Final = "rewrappedAt"
FAILED: Final = "CustomerManagedKeyPreflightFailed"


@dataclass(frozen=True, slots=True)
class Owner:
    """What of an account says which keys it may use. id: of what the data keys belong to, an account's or a scope's; lower case."""

    id: str
    account_arm_id: str
    tenant_id: str
    location: str


def findings(call: Call, key: CustomerKey, owner: Owner) -> tuple[Finding, ...]:
    """Return everything that keeps a key from being bound. Changes nothing; of a vault elsewhere the broker is asked to try."""
    found = preflight(
        call.snapshot,
        key,
        tenant_id=owner.tenant_id,
        location=owner.location,
        now=call.now,
        strict=call.platform.settings.strict_parity,
    )
    if not elsewhere(call.snapshot, key, call.platform.settings):
        return found
    found = tuple(one for one in found if one.problem != "VaultNotFound")
    if found:
        return found
    try:
        call.platform.broker.new_data_key(owner.id, binding(key), call.evidence)
    except Fault as fault:
        if fault.kind is not FaultKind.CUSTOMER_KEY_UNAVAILABLE:
            raise
        return (_told(fault),)
    return ()


def elsewhere(snapshot: Snapshot, key: CustomerKey, settings: Settings) -> bool:
    """Say whether a key is in no vault of this platform, and its address none that one of ours could have."""
    ours = settings.vault_uri("x").partition(".")[2]
    return customer_key.vault_of(snapshot, key) is None and not key.vault_uri.endswith("." + ours)


def require_bindable(call: Call, key: CustomerKey, owner: Owner, target: str) -> None:
    """Refuse a key that cannot be bound, with all that is wrong and what to do about it."""
    found = findings(call, key, owner)
    if found:
        raise _refused(call.snapshot, key, owner, found, target)


def settle(
    call: Call,
    writer: Writer,
    document: Document,
    owner: Owner,
    before: CustomerKey | None,
    after: CustomerKey | None,
    target: str,
) -> Document:
    """Give a document its data keys, wrapped as `after` says; return it as then stored.

    before: as those that it has are wrapped. Fault(CUSTOMER_KEY_UNAVAILABLE) when the key that is to be left does not serve this once more.
    """
    broker, held = call.platform.broker, data_keys_of(document.private)
    if held and before is not None:
        gone = customer_key.unavailable(call.snapshot, owner.id, before, call.now)
        if gone is not None:
            message = f"The present customer-managed key has to open the data once more to be left, and cannot be used: {gone.message}"
            raise Fault(FaultKind.CUSTOMER_KEY_UNAVAILABLE, message, target=target, details={"problem": gone.problem})
    try:
        if held:
            shown = binding(before), binding(after), call.evidence
            made = tuple(broker.rewrap(owner.id, one, *shown) for one in held)
        else:
            made = (broker.new_data_key(owner.id, binding(after), call.evidence),)
    except Fault as fault:
        if fault.kind is not FaultKind.CUSTOMER_KEY_UNAVAILABLE or after is None:
            raise
        raise _refused(call.snapshot, after, owner, (_told(fault),), target) from fault
    if after is not None and elsewhere(call.snapshot, after, call.platform.settings):
        # Its vault has just used it. From here on the broker goes on asking there, and writes down what it finds.
        version = customer_key.version_in(made[-1].customer)
        state = RemoteKeyState(after.vault_uri, after.key_name.lower(), "", "", call.now, version)
        writer.put(remote_keys.state_id(owner.id), remote_keys.TYPE, remote_keys.state_body(owner.id, state))
    return store(writer, document, made, call.now if held else None)


def store(
    writer: Writer, document: Document, keys: tuple[WrappedDataKey, ...], rewrapped_at: float | None = None
) -> Document:
    """Put data keys into a document's private part."""
    private = {**document.private, DATA_KEYS: data_keys_form(keys)}
    if rewrapped_at is not None:
        private[REWRAPPED_AT] = rewrapped_at
    return writer.put(
        document.id,
        document.type,
        document.body,
        private,
        subscription=document.subscription,
        resource_group=document.resource_group,
        state=document.state,
        purge_at=document.purge_at,
    )


def compile_data_keys(document: Document, *, bound: bool) -> Iterator[Entry]:
    """Yield how a document's data keys are wrapped, and that it has a customer's key (bound)."""
    if bound:
        yield ("customer-key", document.id, display_id(document))
    held = data_keys_of(document.private)
    if held:
        keys = tuple(
            DataKeyPolicy(one.version, one.platform, one.customer, sha256(one.wrapped).hexdigest()[:16]) for one in held
        )
        yield ("data-keys", document.id, DataKeysPolicy(document.id, keys))


def check_body(call: Call, key: CustomerKey | None, owner: Owner) -> Json:
    """Return what `checkEncryption` answers: whether the key could be bound now, and what is wrong. Nothing is changed."""
    if key is None:
        return {"keySource": "Microsoft.CognitiveServices", "ready": True, "problems": []}
    found = findings(call, key, owner)
    return {
        "keySource": "Microsoft.KeyVault",
        "ready": not found,
        "keyVaultUri": key.vault_uri,
        "keyName": key.key_name,
        "keyVersion": key.key_version or serving(call.snapshot, owner.id, key, call.now),
        "principalId": key.principal_id,
        "problems": [_problem(call.snapshot, key, one, owner) for one in found],
    }


def status_body(call: Call, document: Document, key: CustomerKey | None, owner: Owner) -> Json:
    """Return what `encryptionStatus` answers: the key in use, whether it serves, and how far data keys follow its newest version."""
    held = data_keys_of(document.private)
    newest = serving(call.snapshot, owner.id, key, call.now)
    platform = _platform_key(call.platform.broker)
    behind = [one for one in held if is_behind(one, newest, platform)]
    status: Json = {
        "keySource": "Microsoft.CognitiveServices" if key is None else "Microsoft.KeyVault",
        "state": "Available",
        "dataKeys": [_data_key(one) for one in held],
        "rewrap": {
            "state": "Pending" if behind else "Current",
            "done": len(held) - len(behind),
            "of": len(held),
            "lastRewrap": iso(at) if (at := document.private.get(REWRAPPED_AT)) is not None else None,
        },
    }
    if key is None:
        return status
    status |= {
        "keyVaultUri": key.vault_uri,
        "keyName": key.key_name,
        "keyVersion": key.key_version or newest,
        "followsNewestVersion": not key.key_version,
        "principalId": key.principal_id,
        "statelessInference": "blocked" if key.guards_stateless else "allowed",
    }
    gone = customer_key.unavailable(call.snapshot, owner.id, key, call.now)
    if gone is not None:
        status["state"] = "Unavailable"
        status["problems"] = [_problem(call.snapshot, key, Finding(gone.problem, gone.message), owner)]
    return status


def _platform_key(broker: Broker) -> str:
    """Return the version of the platform's key that wraps now; "" while nobody can say, which keeps no status from being told."""
    try:
        return broker.status().platform_key
    except Fault:
        return ""


def rewrapped(broker: Broker, document: Document, key: CustomerKey | None) -> tuple[WrappedDataKey, ...]:
    """Return a document's data keys wrapped anew, with the newest versions of the platform's key and the customer's.

    key: what the document binds as it is stored, which needs nobody to ask for it.
    """
    held = data_keys_of(document.private)
    return tuple(broker.rewrap(document.id, one, binding(key), binding(key), None) for one in held)


def is_behind(key: WrappedDataKey | DataKeyPolicy, newest: str, platform: str) -> bool:
    """Say whether a data key is wrapped with other versions than the newest of the customer's and the platform's key; "": not known."""
    other = bool(newest and key.customer and customer_key.version_in(key.customer) != newest)
    return other or bool(platform and key.platform != platform)


def serving(snapshot: Snapshot, owner_id: str, key: CustomerKey | None, now: float) -> str:
    """Return the version that serves, of a vault elsewhere as the broker last saw it; "" when none does, none is wanted or it is not known."""
    if key is None:
        return ""
    if customer_key.vault_of(snapshot, key) is None:
        state = customer_key.remote_state(snapshot, owner_id, key)
        return "" if state is None or state.failure else key.key_version.lower() or state.version
    version = customer_key.serving_version(snapshot, key, now)
    return "" if isinstance(version, customer_key.Unavailable) else version.version


def _data_key(key: WrappedDataKey) -> Json:
    shown: Json = {"version": key.version, "createdAt": iso(key.created_at), "platformKeyVersion": key.platform}
    return {**shown, "customerKeyId": key.customer} if key.customer else shown


def _told(fault: Fault) -> Finding:
    problem = str(fault.details.get("problem") or "VaultUnreachable")
    return Finding(problem, fault.message)


def _problem(snapshot: Snapshot, key: CustomerKey, found: Finding, owner: Owner) -> Json:
    helps = remedy(snapshot, key, found.problem, owner.account_arm_id)
    body = {"code": found.problem, "message": found.message, "help": helps.what}
    return {**body, "command": helps.command} if helps.command else body


def _refused(snapshot: Snapshot, key: CustomerKey, owner: Owner, found: tuple[Finding, ...], target: str) -> Fault:
    problems = [_problem(snapshot, key, one, owner) for one in found]
    # In the message too, because the SDKs show nothing else of a refusal.
    numbered = " ".join(f"({number}) {_sentence(one)}" for number, one in enumerate(problems, 1))
    details = [{"code": one["code"], "message": _sentence(one), "target": target} for one in problems]
    return Fault(
        FaultKind.INVALID,
        f"The key '{key.key_name}' in {key.vault_uri} cannot be bound, and nothing was changed. {numbered}",
        code=FAILED,
        target=target,
        details={"details": details},
    )


def _sentence(problem: Mapping[str, Any]) -> str:
    command = f" Run: {problem['command']}" if problem.get("command") else ""
    return f"{problem['message']} {problem['help']}{command}"
