"""The decision at the head: who is addressed, by whom, and may they. Also taken again, for requests under way, when policy has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from stockade.gateway.address import AddressBook, Located
from stockade.gateway.credential import Credentials, Presented
from stockade.gateway.exchange import Exchange
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import Credential, KeyCredential, RejectedCredential
from stockade.kernel.verdict import Allow, Deny
from stockade.policy.decide import decide
from stockade.policy.facts import Facts
from stockade.policy.snapshot import AccountPolicy, Snapshot
from stockade.services.routing import Route, Router, is_api_version

MAX_REMEMBERED_PLACE = 256
"""Longer addresses are looked up every time: what is remembered is chosen by callers, and its size must not be."""


class Place(NamedTuple):
    """Where a request is sent to, as it came. A tuple: it is the name under which answers are remembered."""

    method: str
    host: str
    path: str
    query: str


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that the rules at the head let pass."""

    account: AccountPolicy
    route: Route
    credential: Credential | None
    regional: bool
    reported: tuple[Deny, ...]


class Admission:
    """Takes the decision at the head."""

    def __init__(self, book: AddressBook, router: Router, credentials: Credentials) -> None:
        self._book, self._router, self._credentials = book, router, credentials

    def admit(
        self, exchange: Exchange, snapshot: Snapshot, place: Place, query: Mapping[str, str], presented: Presented
    ) -> Admitted:
        """Locate the account, read the credential and decide at the head; raises the fault of whoever refuses.

        That a key is admitted follows from the snapshot, the place, the client's address and the key alone: no head rule asks the clock of
        a key. So the answer is remembered with the snapshot, under the key's digest. Refusals and tokens are worked out every time, and what
        is asked of accounts with a key of their customer's: that may expire.
        """
        # A query string that holds a key must not become the name of anything remembered.
        memorable = not presented.in_query and sum(map(len, place)) <= MAX_REMEMBERED_PLACE
        name: tuple[Any, ...] | None = None
        if memorable and presented.key and not presented.bearer and not presented.conflicting:
            digest = self._credentials.digest(presented.key)
            name = ("admitted", place, exchange.address, exchange.private_endpoint, digest)
            known: Admitted | None = snapshot.memo.get(name)
            if known is not None:
                exchange.account, exchange.credential, exchange.route = known.account, known.credential, known.route
                exchange.reported = known.reported
                return known
        if memorable:
            located, route = snapshot.remembered(place, lambda: self._find(snapshot, place, query))
        else:
            located, route = self._find(snapshot, place, query)
        account = located.account
        credential = self._credentials.read(
            snapshot, presented, account, bearer_key=route is not None and route.operation.bearer_key, now=exchange.now
        )
        if located.regional and isinstance(credential, KeyCredential):
            account = snapshot.only("account", credential.account_id)
            route = self._route(place.method, located.path, account.kind if account is not None else None, query)
        exchange.account, exchange.credential, exchange.route = account, credential, route
        facts = exchange.facts = head_facts(exchange, account, credential, located.path, regional=located.regional)
        verdict = decide(snapshot, facts, "head")
        exchange.take(verdict)
        if route is None or account is None:  # the rules have refused it; a rule that forgot must not open the way
            raise Fault(FaultKind.NOT_FOUND, "Resource not found")
        admitted = Admitted(account, route, credential, located.regional, verdict.reported)
        if name is not None and isinstance(credential, KeyCredential) and account.customer_key is None:
            snapshot.remembered(name, lambda: admitted)
        return admitted

    def again(self, exchange: Exchange, snapshot: Snapshot, now: float) -> Deny | None:
        """Decide anew on an admitted request that is still under way; None when it would be admitted now too.

        A key must still be the account's: one that was regenerated ends what it had begun. A token's lifetime is not asked for again.
        """
        admitted = exchange.admitted
        if admitted is None:
            return None
        account: AccountPolicy | None = snapshot.only("account", admitted.account.id)
        credential = admitted.credential
        if isinstance(credential, KeyCredential):
            found = snapshot.only("key", credential.digest)
            if found is None or found.account_id != credential.account_id:
                credential = RejectedCredential("key", "unknown_key")
        if account is not None and account.subdomain != admitted.account.subdomain:
            account = None
        facts = head_facts(exchange, account, credential, admitted.route.operation.path, regional=admitted.regional)
        facts.now = now
        match decide(snapshot, facts, "head"):
            case Deny() as denied:
                return denied
            case Allow():
                return None

    def _find(self, snapshot: Snapshot, place: Place, query: Mapping[str, str]) -> tuple[Located, Route | None]:
        located = self._book.locate(snapshot, place.host, place.path)
        kind = located.account.kind if located.account is not None else None
        return located, self._route(place.method, located.path, kind, query)

    def _route(self, method: str, path: str, kind: str | None, query: Mapping[str, str]) -> Route | None:
        route = self._router.match(method, path, kind)
        if route is not None and route.operation.versioned and not is_api_version(query.get("api-version")):
            return None
        return route


def head_facts(
    exchange: Exchange, account: AccountPolicy | None, credential: Credential | None, path: str, *, regional: bool
) -> Facts:
    """Return what the rules at the head may know of a request."""
    operation = exchange.route.operation if exchange.route is not None else None
    facts = Facts(exchange.now, exchange.address, account, regional, credential, operation, path, exchange.method)
    facts.private_endpoint = exchange.private_endpoint
    return facts
