"""The network rule admits by addresses exactly whom a plain reading of the rules admits, whatever they are."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from stockade.policy.addresses import AddressSet
from stockade.policy.rules import network
from stockade.policy.snapshot import NetworkPolicy, PerimeterAssociation, PerimeterRule, SubnetPolicy, SubnetRule
from tests.factories import policy

PROFILE = "/p/profiles/f"
NETWORKS = st.builds(
    lambda base, prefix: str(ip_network(f"{ip_address(base)}/{prefix}", strict=False)),
    st.integers(0x0A000000, 0x0A0003FF),
    st.integers(22, 32),
)
SUBNETS = st.tuples(NETWORKS, st.booleans(), st.booleans())
"""Prefix, whether it has the service endpoint, whether the rule ignores that."""
CALLERS = st.integers(0x0A000000 - 2, 0x0A000402).map(lambda number: str(ip_address(number)))


def within(address: str, networks: list[str]) -> bool:
    return any(ip_address(address) in ip_network(one) for one in networks)


@given(
    rules=st.lists(NETWORKS, max_size=5), subnets=st.lists(SUBNETS, max_size=5),
    perimeter=st.none() | st.tuples(st.lists(NETWORKS, max_size=3), st.booleans()),
    public=st.booleans(), default=st.booleans(), caller=CALLERS, mapped=st.booleans(),
)  # fmt: skip
def test_admitted_are_whom_the_rules_name(
    rules: list[str],
    subnets: list[tuple[str, bool, bool]],
    perimeter: tuple[list[str], bool] | None,
    public: bool,
    default: bool,
    caller: str,
    mapped: bool,
) -> None:
    entries = [(f"/s{n}", *one) for n, one in enumerate(subnets)]
    account = policy.account(
        network=NetworkPolicy(
            public_access=public,
            admit_by_default=default,
            addresses=AddressSet.of(rules),
            subnets=tuple(SubnetRule(subnet_id, ignored) for subnet_id, _, _, ignored in entries),
        )
    )
    known = [("subnet", i, SubnetPolicy(i, AddressSet.of([prefix]), served)) for i, prefix, served, _ in entries]
    if perimeter is not None:
        known.append(("perimeter", account.id, PerimeterAssociation("/a", "/p", PROFILE, account.id, perimeter[1])))
        known.append(("perimeter-rule", PROFILE, PerimeterRule("/r", AddressSet.of(perimeter[0]), frozenset())))
    own = public and (
        default
        or within(caller, rules)
        or within(caller, [prefix for prefix, served, ignored in subnets if served or ignored])
    )
    expected = own if perimeter is None else within(caller, perimeter[0]) or (own and not perimeter[1])
    asked = f"::ffff:{caller}" if mapped else caller
    facts = policy.facts(account=account, address=asked)
    snapshot = policy.snapshot(*known)
    assert (network.decide(snapshot, facts) is None) is expected
    named = network.admitted_by(snapshot, account, asked, facts.credential, None)
    assert expected or not named
