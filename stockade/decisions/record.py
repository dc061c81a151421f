"""What is kept of a decision: enough to explain it and to take it again. Never a body, a secret, a key's digest, or more of a URI than its host."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec

from stockade.kernel.control import Control, Mode
from stockade.kernel.principal import Credential, KeyCredential, RejectedCredential, TokenCredential
from stockade.kernel.record import AuditRecord, FetchedContent
from stockade.kernel.verdict import Deny
from stockade.policy.facts import Facts
from stockade.policy.rules import ORDER, network, outbound
from stockade.policy.snapshot import AccountPolicy, Snapshot
from stockade.policy.uris.found import FoundUri
from stockade.policy.uris.loss_prevention import LossPrevention
from stockade.policy.uris.parse import DEFAULT_PORTS, parse

MAX_TEXT: Final = 512
MAX_URIS: Final = 32
"""URIs kept of one request; how many more there were is kept too."""
MAX_HELD: Final = 2_048
"""Characters of a request's URIs that may wait, whole and in memory alone, until its decision is written."""
MAX_REPORTED: Final = 32
OUTPUT: Final = "output"
"""The name under which the output filter reports; it is no rule, because a reply is not decided on."""
MAX_GROUPS: Final = 200
"""As many as Azure writes into a token."""

CONTROLS: Final[Mapping[str, Control]] = {
    **{rule.NAME: rule.CONTROL for rule in ORDER if rule.CONTROL is not None},
    outbound.EGRESS: Control.DLP,
}
"""The control that a rule belongs to, by the rule's name; rules without one are always enforced."""

CredentialKind: TypeAlias = Literal["none", "key", "token", "rejected"]


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", gc=False):
    """What a rule said, or would have said.

    reason: the fault's kind (`NetworkDenied`). because: what the rule gave as its grounds, values as text.
    """

    rule: str
    reason: str
    message: str = ""
    because: dict[str, str] = {}

    @property
    def control(self) -> Control | None:
        return CONTROLS.get(self.rule)


class UriSeen(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", gc=False):
    """A URI that stood in the request, without its path, query, user and fragment.

    place:   where, in the caller's terms (`messages[0].content[1].image_url.url`).
    scheme:  lower case; `//` where it has none; "" when the value cannot be read as a URI.
    refused: the code of why the account does not allow it (`host`, `unreadable`, `credentials`), "" when it does.
    """

    place: str
    scheme: str = ""
    host: str = ""
    port: str = ""
    declared: bool = True
    refused: str = ""


class OutputSeen(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", gc=False):
    """A URI of a reply that the account's list does not allow: its host, "" when it could not be read, and where it stood."""

    host: str
    place: str = ""
    reason: str = "host"
    count: int = 1
    redacted: bool = False


class Decision(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", kw_only=True, gc=False):
    """One data-plane request after it has ended.

    time: epoch seconds, UTC. account: lower-case id, "" when no account was found; account_id: as it is spelled.
    generation: of the policy it was decided on. template, data_action: the operation's. point: how far the rules were asked.
    derivation: how the address was worked out from the peer's. modes: the controls that are not enforced.
    looked: the request's URIs were gathered, `deep` also those outside declared fields.
    """

    id: str
    time: float
    account: str = ""
    account_id: str = ""
    kind: str = ""
    sku: str = ""
    modes: dict[str, Mode] = {}
    generation: int = 0

    method: str = ""
    operation: str = ""
    template: str = ""
    data_action: str | None = None
    stores: Literal["nothing", "on-request", "customer-content"] = "nothing"
    deployment: str = ""
    regional: bool = False

    address: str = ""
    peer: str = ""
    derivation: str = ""
    private_endpoint: str | None = None
    network_by: str = ""
    """The network rule that let the address in, `ipRules 203.0.113.0/24`; "" where all are let in, and for refusals."""
    agent: str = ""

    credential: CredentialKind = "none"
    slot: Literal["Key1", "Key2", ""] = ""
    via_token: bool = False
    key_account: str = ""
    """The account the key belongs to, where that is another one; lower-case id."""
    rejected_form: Literal["key", "token", "several", ""] = ""
    rejected: str = ""
    principal: str = ""
    application: str = ""
    tenant: str = ""
    issuer: str = ""
    audience: str = ""
    groups: tuple[str, ...] = ()
    more_groups: int = 0
    granted_by: str = ""
    """The role that admitted a token and where it is assigned, `Reader at /subscriptions/...`."""

    allowed: bool = False
    point: Literal["head", "body"] = "head"
    refusal: Refusal | None = None
    reported: tuple[Refusal, ...] = ()
    ended_by: str = ""

    looked: bool = False
    rest_rules: str = ""
    """A fingerprint of the rules for path and query that the URIs were judged by; "" when there were none."""
    deep: bool = False
    uris: tuple[UriSeen, ...] = ()
    more_uris: int = 0
    fetched: tuple[FetchedContent, ...] = ()
    output: tuple[OutputSeen, ...] = ()

    calls: int = 0
    calls_limit: int | None = None
    deployment_calls: int = 0
    deployment_limit: int | None = None

    status: int = 0
    outcome: str = ""
    duration_ms: float = 0.0

    @property
    def known(self) -> bool:
        """The caller had proven who it is."""
        return self.credential in ("key", "token")

    def mode(self, control: Control | None) -> Mode:
        """Return how a control stood on the account when this was decided."""
        return self.modes.get(control.value, "enforce") if control is not None else "enforce"


class Exchange(Protocol):
    """What the gateway knows of a request when it has ended."""

    method: str
    peer: str
    address_derivation: str
    account: AccountPolicy | None
    credential: Credential | None
    route: Any
    snapshot: Snapshot | None
    private_endpoint: str | None
    denied: Deny | None
    reported: tuple[Deny, ...]
    uris: tuple[FoundUri, ...]
    facts: Facts | None
    point: Literal["head", "body"]
    ended_by: Any
    admitted: Any


class Noted(msgspec.Struct, frozen=True, gc=False):
    """An ended request as it waits to be written: references to what lives anyway.

    uris: of a request that nothing refused the URIs themselves, if they are short: what is kept of them is worked out when the decision is
    written, because most decisions of a busy account never are. Otherwise what is kept.
    """

    record: AuditRecord
    account: AccountPolicy | None
    operation: Any
    credential: Credential | None
    denied: Deny | None
    reported: tuple[Deny, ...]
    method: str
    peer: str
    derivation: str
    private_endpoint: str | None
    snapshot: Snapshot | None
    regional: bool
    deployment: Any
    calls: int
    deployment_calls: int
    point: Literal["head", "body"]
    ended_by: str
    uris: tuple[UriSeen, ...] | tuple[FoundUri, ...]
    more_uris: int


def noted(exchange: Exchange, record: AuditRecord) -> Noted:
    """Take from an ended request what its decision is made of. On the request path, so it copies nothing but what must not be held on to."""
    facts, route, found = exchange.facts, exchange.route, exchange.uris
    return Noted(
        record,
        exchange.account,
        route.operation if route is not None else None,
        exchange.credential,
        exchange.denied,
        exchange.reported,
        exchange.method,
        exchange.peer,
        exchange.address_derivation,
        exchange.private_endpoint,
        exchange.snapshot,
        facts.regional if facts is not None else exchange.admitted is not None and exchange.admitted.regional,
        facts.deployment if facts is not None else None,
        facts.calls_this_minute if facts is not None else 0,
        facts.deployment_calls_this_minute if facts is not None else 0,
        exchange.point,
        exchange.ended_by,
        _held(exchange, found[:MAX_URIS]) if found else (),
        max(0, len(found) - MAX_URIS),
    )


def decision(note: Noted) -> Decision:
    """Return the decision of a request, every text cut to its bound."""
    record, account, operation, deployment = note.record, note.account, note.operation, note.deployment
    outbound = account.outbound if account is not None else None
    looked = note.point == "body" and outbound is not None
    reported, output = _parted(note.reported[:MAX_REPORTED])
    return Decision(
        id=record.id,
        time=record.time,
        account=account.id if account is not None else "",
        account_id=account.arm_id if account is not None else "",
        kind=account.kind if account is not None else "",
        sku=account.sku if account is not None else "",
        modes={control.value: mode for control, mode in account.modes.items()} if account is not None else {},
        generation=note.snapshot.generation if note.snapshot is not None else 0,
        method=note.method[:20],
        operation=record.operation,
        template=operation.path if operation is not None else "",
        data_action=operation.data_action if operation is not None else None,
        stores=operation.stores if operation is not None else "nothing",
        deployment=deployment.name if deployment is not None else "",
        regional=note.regional,
        address=record.caller_address[:64],
        peer=note.peer[:80],
        derivation=note.derivation[:MAX_TEXT],
        private_endpoint=note.private_endpoint,
        network_by=_network_by(note),
        agent=record.client,
        granted_by=record.rule if note.denied is None else "",
        allowed=record.decision == "allow",
        point=note.point,
        refusal=_refusal(note.denied) if note.denied is not None else None,
        reported=reported,
        ended_by=note.ended_by,
        looked=looked,
        rest_rules=rest_rules(outbound) if outbound is not None and note.uris else "",
        deep=looked and outbound is not None and outbound.deep_scan,
        fetched=tuple(record.fetched or ())[:MAX_URIS],
        uris=_seen(account, note.uris),
        more_uris=note.more_uris,
        output=output,
        calls=note.calls,
        calls_limit=account.calls_per_minute if account is not None else None,
        deployment_calls=note.deployment_calls,
        deployment_limit=deployment.calls_per_minute if deployment is not None else None,
        status=record.status,
        outcome=record.outcome,
        duration_ms=record.duration_ms,
        **_who(note.credential, account.id if account is not None else ""),
    )


def _network_by(note: Noted) -> str:
    if note.record.decision == "allow":
        return note.record.network[:MAX_TEXT]
    snapshot, account = note.snapshot, note.account
    if (
        snapshot is None
        or account is None
        or any(told.rule == network.NAME for told in (note.denied, *note.reported) if told is not None)
    ):
        return ""
    address, private = note.record.caller_address, note.private_endpoint
    return network.admitted_by(snapshot, account, address, note.credential, private)[:MAX_TEXT]


def _who(credential: Credential | None, account: str) -> dict[str, Any]:
    match credential:
        case KeyCredential(account_id=owner, slot=slot, via_token=via_token):
            other = owner if owner != account else ""
            return {"credential": "key", "slot": slot, "via_token": via_token, "key_account": other}
        case TokenCredential() as token:
            return {
                "credential": "token",
                "principal": token.object_id[:MAX_TEXT],
                "application": (token.app_id or "")[:MAX_TEXT],
                "tenant": token.tenant_id[:MAX_TEXT],
                "issuer": token.issuer[:MAX_TEXT],
                "audience": token.audience[:MAX_TEXT],
                "groups": token.groups[:MAX_GROUPS],
                "more_groups": max(0, len(token.groups) - MAX_GROUPS),
            }
        case RejectedCredential(form=form, reason=reason):
            return {"credential": "rejected", "rejected_form": form, "rejected": reason[:MAX_TEXT]}
    return {}


def _parted(reported: tuple[Deny, ...]) -> tuple[tuple[Refusal, ...], tuple[OutputSeen, ...]]:
    """Return what rules reported, and what the output filter found."""
    output = []
    for one in reported:
        if one.rule == OUTPUT:
            because = _refusal(one).because
            host, place, why, count = (because.get(name, "") for name in ("host", "path", "why", "count"))
            redacted = because.get("action") == "redacted"
            output.append(OutputSeen(host, place, why, int(count) if count.isdigit() else 1, redacted))
    return tuple(_refusal(one) for one in reported if one.rule != OUTPUT), tuple(output)


def _refusal(denied: Deny) -> Refusal:
    because = {name: str(value)[:MAX_TEXT] for name, value in denied.because.items()}
    return Refusal(denied.rule, denied.fault.kind.value, denied.fault.message[:MAX_TEXT], because)


def _held(exchange: Exchange, found: tuple[FoundUri, ...]) -> tuple[UriSeen, ...] | tuple[FoundUri, ...]:
    if exchange.denied is not None or exchange.reported or sum(len(uri.uri) for uri in found) > MAX_HELD:
        return _seen(exchange.account, found)
    # What the deep scan found knows its place by the whole body, which must not be held on to: of an allowed one the place is not kept.
    return tuple(uri if uri.declared else FoundUri("", uri.uri, declared=False) for uri in found)


def _seen(account: AccountPolicy | None, found: tuple[UriSeen, ...] | tuple[FoundUri, ...]) -> tuple[UriSeen, ...]:
    """Return the URIs without what may be secret in them."""
    outbound = account.outbound if account is not None else None
    seen = []
    for uri in found:
        if isinstance(uri, UriSeen):
            seen.append(uri)
            continue
        refused = outbound.refuse(uri) if outbound is not None else None
        scheme, host, port = parts(uri.uri, declared=uri.declared)
        reason = refused.reason if refused is not None else ""
        seen.append(UriSeen(uri.path[:MAX_TEXT], scheme, host, port, uri.declared, reason))
    return tuple(seen)


def rest_rules(outbound: LossPrevention) -> str:
    """Return a fingerprint of an account's rules for what follows a URI's host, the same in every process; "" for no rules."""
    if not (outbound.refuse_secrets or outbound.refuse_emails or outbound.rules):
        return ""
    told = [repr((outbound.refuse_secrets, outbound.refuse_emails))]
    for rule in outbound.rules:
        hosts = rule.hosts.entries if rule.hosts is not None else None
        parameters = sorted(rule.allowed_parameters) if rule.allowed_parameters is not None else None
        limits = (rule.max_query_length, rule.max_query_entropy, rule.max_path_length)
        told.append(repr((hosts, rule.paths, parameters, limits, rule.refuse_secrets, rule.refuse_emails)))
    return blake2b("\n".join(told).encode(), digest_size=12).hexdigest()


def parts(uri: str, *, declared: bool = True) -> tuple[str, str, str]:
    """Return scheme, host and port of a URI, all that is ever kept or shown of it; "" for what is not there or not readable.

    A reference without a scheme counts in undeclared text, as it does for `LossPrevention.refuse`; its scheme is `//`.
    """
    if uri[:5].lower() == "data:":
        return "data", "", ""
    relative = not declared and uri[:1] in ("/", "\\")
    read = parse(f"https:{uri}" if relative else uri)
    if read is None:
        return "", "", ""
    usual = read.port is None or read.port == DEFAULT_PORTS.get(read.scheme)
    return "//" if relative else read.scheme[:40], read.host[:256], "" if usual else str(read.port)
