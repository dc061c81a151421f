"""Taking a decision again: the same `decide()` on another snapshot, with the facts that were kept.

Nothing is guessed. Where a fact is missing that the other policy asks for (the URIs of a request that nobody looked at, the rest of a URI), the
answer is that it cannot be told, and why. One thing is taken for granted: of calls a minute, those count that were counted then, and none where
none were, because how many there would have been hangs on all the other requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from stockade.decisions.record import MAX_GROUPS, Decision, UriSeen, rest_rules
from stockade.kernel.control import Control
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.operation import Operation
from stockade.kernel.principal import Credential, KeyCredential, RejectedCredential, TokenCredential
from stockade.kernel.verdict import Allow, Deny, Verdict
from stockade.policy.decide import decide
from stockade.policy.facts import Facts
from stockade.policy.rules import outbound
from stockade.policy.snapshot import AccountPolicy, Snapshot
from stockade.policy.uris.found import FoundUri
from stockade.policy.uris.loss_prevention import RULE, SECRET

URIS_NOT_LOOKED_AT: Final = "the request's URIs were not looked at, because the account did not restrict them then"
URIS_NOT_SEARCHED: Final = "only declared fields were searched for URIs then"
TOO_MANY_URIS: Final = "it carried more URIs than are kept"
REST_OF_URI: Final = "rules for path and query need the rest of a URI, which is not kept"
TOO_MANY_GROUPS: Final = "its token named more groups than are kept"
ADDRESS_NOT_KEPT: Final = "it was sent to no account's address, and what it was sent to is not kept"
BODY_NOT_READ: Final = "its body was not read then, so its URIs and deployment are not known"


@dataclass(frozen=True, slots=True)
class Replayed:
    """What the other policy says.

    verdict: None when it cannot be told; `unknown` says why then. With an allowed verdict, `unknown` says why it cannot be told whether a control
    in `report` would have reported it.
    """

    verdict: Verdict | None
    unknown: str = ""


def replay(made: Decision, snapshot: Snapshot, *, keys_made: Mapping[str, float] | None = None) -> Replayed:
    """Decide on a past request by another policy.

    keys_made: when each slot's present key was made, epoch seconds; a request with an older one would be refused for its key.
    """
    if made.refusal is not None and made.refusal.rule == "address" and not made.account:
        return Replayed(None, ADDRESS_NOT_KEPT)
    account: AccountPolicy | None = snapshot.only("account", made.account) if made.account else None
    facts = _facts(made, snapshot, account, keys_made or {})
    head = decide(snapshot, facts, "head")
    if isinstance(head, Deny):
        return Replayed(None, TOO_MANY_GROUPS) if head.rule == "role" and made.more_groups else Replayed(head)
    if made.point == "head" and (made.refusal is not None or made.outcome.startswith("failed")):
        # It did not get as far as its body. What the rules there would have said hangs on what nobody has seen.
        return _allowed(head, account, BODY_NOT_READ if account is not None and account.outbound is not None else "")
    body = decide(snapshot, facts, "body")
    reported = (*head.reported, *body.reported)
    spoke = {one.rule for one in reported} | ({body.rule} if isinstance(body, Deny) else set())
    missing, rest = ("", None) if outbound.NAME in spoke else _rest(made, account)
    if rest is not None and account is not None and account.mode(Control.DLP) == "enforce":
        return Replayed(replace(rest, reported=reported))
    if rest is not None:
        reported = (*reported, rest)
    if isinstance(body, Deny):
        return Replayed(replace(body, reported=reported))
    return _allowed(Allow(reported), account, missing)


def _allowed(verdict: Allow, account: AccountPolicy | None, missing: str) -> Replayed:
    """Return that it would be allowed, if that does not hang on what is missing of its URIs."""
    mode = account.mode(Control.DLP) if account is not None else "off"
    if not missing or mode == "off":
        return Replayed(verdict)
    return Replayed(None if mode == "enforce" else verdict, missing)


def _rest(made: Decision, account: AccountPolicy | None) -> tuple[str, Deny | None]:
    """Return what is missing of the URIs to say that they may be carried, their hosts being allowed; or what refused the rest of one.

    What follows a host was judged when the request came. That still holds where the rules for it are the same.
    """
    if account is None or account.outbound is None or account.mode(Control.DLP) == "off":
        return "", None
    if not made.looked:
        return URIS_NOT_LOOKED_AT, None
    if account.outbound.deep_scan and not made.deep:
        return URIS_NOT_SEARCHED, None
    if made.more_uris:
        return TOO_MANY_URIS, None
    rules = rest_rules(account.outbound)
    judged = [uri for uri in made.uris if uri.scheme != "data"]
    if not rules or not judged:
        return "", None
    if rules != made.rest_rules or any(uri.refused not in ("", SECRET, RULE) for uri in judged):
        return REST_OF_URI, None
    if any(uri.refused for uri in judged):
        known = [told for told in (made.refusal, *made.reported) if told is not None and told.rule == outbound.NAME]
        message, because = (known[0].message, known[0].because) if known else ("", {})
        return "", Deny(outbound.NAME, Fault(FaultKind.OUTBOUND_DENIED, message), because)
    return "", None


def _facts(made: Decision, snapshot: Snapshot, account: AccountPolicy | None, keys_made: Mapping[str, float]) -> Facts:
    operation = None
    if made.operation and made.template:
        operation = Operation(made.operation, made.method, made.template, made.data_action, stores=made.stores)
    if account is not None and account.outbound is not None:
        # Judged by host alone, which is what is kept of a URI; `_rest` says what can be said of the rest.
        by_host = replace(account.outbound, refuse_secrets=False, refuse_emails=False, rules=())
        account = replace(account, outbound=by_host)
    facts = Facts(
        now=made.time,
        address=made.address,
        account=account,
        regional=made.regional,
        credential=credential_of(made, keys_made),
        operation=operation,
        path=made.template,
        method=made.method,
        private_endpoint=made.private_endpoint,
    )
    if account is not None and made.deployment:
        facts.deployment = snapshot.only("deployment", (account.id, made.deployment.lower()))
    facts.calls_this_minute, facts.deployment_calls_this_minute = made.calls, made.deployment_calls
    facts.uris = tuple(_uri(seen) for seen in made.uris)
    return facts


def credential_of(made: Decision, keys_made: Mapping[str, float]) -> Credential | None:
    """Return the credential as the rules know it. They never ask for a key's digest, which is not kept."""
    match made.credential:
        case "key" if made.slot:
            if keys_made.get(made.slot, 0.0) > made.time:
                return RejectedCredential("key", "unknown_key")
            return KeyCredential(made.key_account or made.account, made.slot, b"", made.via_token)
        case "token":
            return TokenCredential(
                tenant_id=made.tenant,
                object_id=made.principal,
                app_id=made.application or None,
                audience=made.audience,
                issuer=made.issuer,
                expires_at=made.time,
                groups=made.groups[:MAX_GROUPS],
            )
        case "rejected" if made.rejected_form:
            return RejectedCredential(made.rejected_form, made.rejected)
    return None


def _uri(seen: UriSeen) -> FoundUri:
    """Return a URI on which a list says what it said of the one that was seen; what it was refused for beside its host is put back."""
    host = f"[{seen.host}]" if ":" in seen.host else seen.host
    port = f":{seen.port}" if seen.port else ""
    text = ""
    match seen.refused, seen.scheme:
        case _, "data":
            text = "data:,"
        case ("unreadable", _) | (_, ""):
            pass
        case _, "//":
            text = f"//{host}{port}/"
        case "credentials", scheme:
            text = f"{scheme}://user@{host}{port}/"
        case "ambiguous", scheme:
            text = f"{scheme}:\\\\{host}{port}/"
        case _, scheme:
            text = f"{scheme}://{host}{port}/" if host else f"{scheme}:x"
    return FoundUri(seen.place, text, seen.declared)
