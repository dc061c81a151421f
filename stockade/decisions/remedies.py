"""What would have let a refused request pass, each with the command that does it: the narrowest change first."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from stockade.decisions.record import Decision, Refusal
from stockade.kernel.resource_id import ResourceId
from stockade.policy import rbac
from stockade.policy.key_remedies import remedy
from stockade.policy.rules import customer_key, outbound
from stockade.policy.snapshot import AccountPolicy, Snapshot

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Help:
    """One thing that would have helped. command: ready to be run by whoever may; "" when there is none."""

    what: str
    command: str = ""

    def body(self) -> Json:
        return {"what": self.what, "command": self.command} if self.command else {"what": self.what}


def helps(told: Refusal, made: Decision, snapshot: Snapshot) -> Iterator[Help]:
    """Yield what would let such a request pass, the narrowest first, with the command that does it."""
    account: AccountPolicy | None = snapshot.only("account", made.account) if made.account else None
    match told.rule:
        case "network":
            yield from _network_help(told, made)
        case "credential":
            yield from _credential_help(told, made, account)
        case "local-auth":
            yield Help(
                "Call with an identity that has a data role, instead of a key.",
                "stockade identity create NAME",
            )
            yield Help("Or take keys again.", _update(made, "properties.disableLocalAuth=false"))
        case "role":
            yield from _role_help(told, made, snapshot)
        case "outbound":
            yield from _uri_help(told, made, snapshot)
        case customer_key.NAME:
            yield from _key_help(told, made, account, snapshot)
        case outbound.EGRESS:
            yield _egress_help(told)
        case "operation":
            yield Help(
                f"No service of kind {made.kind or 'this'} answers {told.because.get('method', '')} at this path; check path and api-version."
            )
        case "address":
            yield Help("No account answers at this address. See what there is.", "stockade account list")
        case "quota":
            yield Help(
                "Come back after the seconds that Retry-After names, or raise the SKU or the deployment's capacity."
            )


def _network_help(told: Refusal, made: Decision) -> Iterator[Help]:
    if told.reason == "PublicAccessDisabled":
        yield Help(
            "Call by an approved private endpoint of the account: no rule admits anybody while public access is disabled."
        )
        yield Help(
            "Or open public access, to those whom the rules admit.",
            _update(made, "properties.publicNetworkAccess=Enabled"),
        )
        return
    near = told.because.get("nearestRule")
    if told.because.get("mechanism") == "privateEndpoint":
        yield Help("The private endpoint's connection has to be approved, and be this account's.")
        return
    if told.because.get("mechanism") == "perimeter":
        yield Help(
            "An inbound rule of the network security perimeter's profile; the account's own rules are not asked while it is enforced."
        )
        return
    if "subnetWithoutServiceEndpoint" in told.because:
        subnet = told.because["subnetWithoutServiceEndpoint"]
        yield Help(
            f"The service endpoint Microsoft.CognitiveServices on the subnet {subnet}: a rule for it is there already."
        )
    if near is not None:
        yield Help(f"The nearest rule is {near}.")
    resource = _resource(made)
    if resource is not None:
        where = f"-g {shlex.quote(resource.resource_group or '')} -n {shlex.quote(resource.name)}"
        command = f"az cognitiveservices account network-rule add {where} --ip-address {made.address}"
        yield Help(f"A rule for {made.address}.", command)


def _credential_help(told: Refusal, made: Decision, account: AccountPolicy | None) -> Iterator[Help]:
    name = shlex.quote(account.name) if account is not None else "ACCOUNT"
    reason = told.because.get("reason", "")
    if told.reason == "SubdomainRequired":
        yield Help(
            "Tokens need the account's own address: give it a custom subdomain, and call it there.",
            f"stockade env --account {name}",
        )
    elif told.reason == "KeyRejected":
        yield Help("The key is not this account's, or was regenerated. See its keys.", f"stockade keys show {name}")
    elif told.reason == "ConflictingCredentials":
        yield Help("Send one credential: a key or a token, not both.")
    elif reason == "no_credential":
        yield Help("Send a key, or a token.", f"stockade env --account {name}")
    elif reason == "key_regenerated":
        yield Help("The key that the session token stands for was regenerated: ask for a new one.")
    else:
        yield Help(
            f"The token does not hold ({reason}). Ask for one for the audience https://cognitiveservices.azure.com."
        )


def _role_help(told: Refusal, made: Decision, snapshot: Snapshot) -> Iterator[Help]:
    if "denyAssignment" in told.because:
        yield Help(
            f"The deny assignment '{told.because['denyAssignment']}' has to go, or exclude the principal; a role does not help."
        )
        return
    action = told.because.get("dataAction", "")
    role = rbac.smallest_role(snapshot, action, data=True) if action else None
    if role is not None and made.principal:
        yield Help(
            f"The role '{role.name}' on the account, the smallest that gives the data action.",
            assign_command(made, snapshot, role.name),
        )


def _key_help(told: Refusal, made: Decision, account: AccountPolicy | None, snapshot: Snapshot) -> Iterator[Help]:
    key = account.customer_key if account is not None else None
    if key is None:
        yield Help("Nothing any more: the account has the platform's key again.")
        return
    found = remedy(snapshot, key, told.because.get("problem", ""), made.account_id)
    yield Help(found.what, found.command)
    if made.stores != "customer-content":
        yield Help(
            "Or let what keeps nothing go on without the key.",
            _update(made, "properties.stockade.customerKey.statelessInference=allowed"),
        )


def assign_command(made: Decision, snapshot: Snapshot, role: str) -> str:
    """Return the `az` command that assigns a role on the account to the request's principal."""
    known = snapshot.only("principal", made.principal)
    kind = known.type if known is not None else "ServicePrincipal"
    who = f"--assignee-object-id {made.principal} --assignee-principal-type {kind}"
    return f"az role assignment create {who} --role {shlex.quote(role)} --scope {shlex.quote(made.account_id)}"


def _uri_help(told: Refusal, made: Decision, snapshot: Snapshot) -> Iterator[Help]:
    hosts = sorted({uri.host for uri in made.uris if uri.refused == "host" and uri.host})
    if not hosts and told.because.get("why") == "host":
        hosts = [told.because["host"]]
    yield from _listing(made, hosts, snapshot)
    if not hosts:
        yield Help(
            "No entry of the list helps: what stands there is not readable as a URI, or breaks a rule for path or query."
        )


def helps_of_output(made: Decision, snapshot: Snapshot) -> Iterator[Help]:
    """Yield what would let the URIs of the reply pass."""
    yield from _listing(made, {found.host for found in made.output if found.reason == "host" and found.host}, snapshot)


def _listing(made: Decision, hosts: Iterable[str], snapshot: Snapshot) -> Iterator[Help]:
    account: AccountPolicy | None = snapshot.only("account", made.account)
    outbound = account.outbound.allowed if account is not None and account.outbound is not None else None
    present = outbound or (account.output if account is not None else None)
    command = f"az resource update --ids {shlex.quote(made.account_id)}"
    named = sorted(hosts)
    if named and (present is None or not present.entries):  # az adds to a list only where there is one
        change = shlex.quote(f"properties.allowedFqdnList={json.dumps(named)}")
        yield Help(f"List {', '.join(named)}.", f"{command} --set {change}")
        return
    for host in named:
        yield Help(f"List {host}.", f"{command} --add properties.allowedFqdnList {shlex.quote(host)}")


def _egress_help(told: Refusal) -> Help:
    why, host = told.because.get("why", ""), told.because.get("host", "")
    if why.startswith("address"):
        return Help(
            f"The host {host} leads to an address of the kind '{why.removeprefix('address: ')}'. Where that is meant, the operator admits its "
            "network with egress.allowed_networks in the settings."
        )
    if why == "scheme" and host:
        return Help(f"Name it by https, or list http://{host} where http is meant.")
    return Help("Name the place where the content itself is, by https and without a user name.")


def _update(made: Decision, change: str) -> str:
    return f"az resource update --ids {shlex.quote(made.account_id)} --set {change}"


def _resource(made: Decision) -> ResourceId | None:
    return ResourceId.parse(made.account_id) if made.account_id else None
