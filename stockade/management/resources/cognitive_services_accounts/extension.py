"""`properties.stockade`: what Stockade adds to an account. Azure's clients carry it along untouched.

    {"controls": {"network": "report", "rbac": "enforce", ...}, "dlp": {"deepScan": true, "inlineContent": true,
     "refuseSecrets": true, "refuseEmails": true, "uriRules": [...]}, "content": {"store": "off"},
     "customerKey": {"statelessInference": "blocked"}}

It is read strictly, other than the rest of an account: a misspelled control that was kept as an unknown member would look accepted and not be
in force. A PUT that does not name it keeps it, in strict parity too: Azure has no such property, so a client of Azure's cannot mean to remove it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from stockade.kernel.control import Control, Mode
from stockade.kernel.faults import Fault, FaultKind
from stockade.management.resource_type import Call
from stockade.management.resources.cognitive_services_accounts.uri_rules import WrittenRules, check_uri_rules
from stockade.policy import rbac
from stockade.storage.documents import Json

NAME = "stockade"
TARGET = f"properties.{NAME}"
GRANTS_ROLES = "Microsoft.Authorization/roleAssignments/write"


class Controls(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """The mode of each control; one that is not named is enforced (`output`: reported where outbound access is restricted, else off)."""

    network: Mode | None = None
    dlp: Mode | None = None
    output: Mode | None = None
    local_auth: Mode | None = None
    rbac: Mode | None = None


class Dlp(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """How far loss prevention goes beyond host names in declared fields."""

    deep_scan: bool | None = None
    inline_content: bool | None = None
    refuse_secrets: bool | None = None
    refuse_emails: bool | None = None
    uri_rules: WrittenRules | None = None


class Content(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """What is kept of what callers send and models answer. store `off`: nothing; what has been kept stays until it is deleted or expires."""

    store: Literal["on", "off"] | None = None


class OfCustomerKey(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """What is refused while the customer's key does not serve, beside what is stored: inference that keeps nothing, unless it is allowed."""

    stateless_inference: Literal["blocked", "allowed"] | None = None


class Extension(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """The whole of it."""

    controls: Controls | None = None
    dlp: Dlp | None = None
    content: Content | None = None
    customer_key: OfCustomerKey | None = None


def planned_extension(call: Call, wanted: Mapping[str, Any], before: Mapping[str, Any] | None) -> Json:
    """Return the extension as it is stored; Fault(INVALID) for anything it does not know.

    Whoever lifts the role check gives every identity of the tenant what roles would give, and so needs the right to assign roles.
    """
    read = _read(wanted)
    if read.dlp is not None and read.dlp.uri_rules is not None:
        check_uri_rules(read.dlp.uri_rules)
    now, was = _mode(read, Control.RBAC), _mode(_read(before or {}), Control.RBAC)
    if now not in ("enforce", was):
        credential, scope = call.credential, call.id.key
        access = rbac.check(call.snapshot, credential.object_id, credential.groups, GRANTS_ROLES, scope, now=call.now)
        if not isinstance(access, rbac.Granted):
            message = (
                f"Setting {TARGET}.controls.rbac to '{now}' lets identities in without a role, and so needs the action '{GRANTS_ROLES}' "
                f"over scope '{call.id.text}'."
            )
            raise Fault(FaultKind.AUTHORIZATION_FAILED, message, target=f"{TARGET}.controls.rbac")
    stored: Json = msgspec.to_builtins(read)
    return stored


def modes(properties: Mapping[str, Any]) -> dict[Control, Mode]:
    """Return how the controls of a stored account stand; those enforced are left out."""
    read = _read(properties.get(NAME) or {})
    found = {control: _mode(read, control) for control in Control}
    if read.controls is None or read.controls.output is None:
        found[Control.OUTPUT] = "report" if properties.get("restrictOutboundNetworkAccess") is True else "off"
    return {control: mode for control, mode in found.items() if mode != "enforce"}


def dlp(properties: Mapping[str, Any]) -> Dlp:
    """Return how a stored account's loss prevention is set up."""
    return _read(properties.get(NAME) or {}).dlp or Dlp()


def keeps_content(properties: Mapping[str, Any]) -> bool:
    """Say whether a stored account keeps anything."""
    content = _read(properties.get(NAME) or {}).content
    return content is None or content.store != "off"


def guards_stateless(properties: Mapping[str, Any]) -> bool:
    """Say whether a stored account refuses inference that keeps nothing, too, while the customer's key does not serve."""
    found = _read(properties.get(NAME) or {}).customer_key
    return found is None or found.stateless_inference != "allowed"


def _mode(extension: Extension, control: Control) -> Mode:
    controls = extension.controls or Controls()
    mode: Mode | None = getattr(controls, _FIELDS[control])
    return mode or "enforce"


_FIELDS = {
    Control.NETWORK: "network",
    Control.DLP: "dlp",
    Control.OUTPUT: "output",
    Control.LOCAL_AUTH: "local_auth",
    Control.RBAC: "rbac",
}


def _read(value: Mapping[str, Any]) -> Extension:
    try:
        return msgspec.convert(dict(value), Extension)
    except msgspec.ValidationError as failure:
        problem, _, where = str(failure).partition(" - at `$")
        target = TARGET + where.rstrip("`")
        message = f"The property '{target}' is invalid: {problem}."
        raise Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target=target) from failure
