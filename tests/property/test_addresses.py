"""Sets of addresses agree with `ipaddress`, whatever the rules and whoever asks."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from hypothesis import example, given
from hypothesis import strategies as st

from stockade.policy.addresses import AddressSet

Network = IPv4Network | IPv6Network
MAPPED = 0xFFFF << 32


def networks_around(version: int, base: int, bits: int) -> st.SearchStrategy[Network]:
    """Networks and callers close together, so that they meet."""
    shape = IPv4Network if version == 4 else IPv6Network
    numbers = st.integers(max(0, base), min((1 << bits) - 1, base + 4096))
    return st.builds(
        lambda number, prefix: shape((number >> (bits - prefix) << (bits - prefix), prefix)),
        numbers,
        st.integers(0, bits),
    )


NETWORKS = st.one_of(
    networks_around(4, 0xCB007000, 32), networks_around(6, 0x20010DB8 << 96, 128), networks_around(6, MAPPED | 0xCB007000, 128)
)  # fmt: skip
CALLERS = st.one_of(
    st.integers(0xCB006FF0, 0xCB008010).map(lambda number: str(ip_address(number))),
    st.integers(0xCB006FF0, 0xCB008010).map(lambda number: str(ip_address(MAPPED | number))),
    st.integers(-16, 4200).map(lambda number: str(ip_address((0x20010DB8 << 96) + number))),
    st.ip_addresses().map(str),
)


def plain(text: str) -> Network:
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.subnet_of(IPv6Network("::ffff:0:0/96")):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


@given(st.lists(NETWORKS.map(str), max_size=12), CALLERS)
@example(["203.0.113.0/24", "203.0.113.0/25", "203.0.113.128/25"], "203.0.113.200")
def test_membership_and_nearness_are_what_ipaddress_says(rules: list[str], caller: str) -> None:
    found, networks = AddressSet.of(rules), [plain(rule) for rule in rules]
    [single] = {plain(caller)}
    holding = [network for network in networks if network.version == single.version and single.subnet_of(network)]  # type: ignore[arg-type]
    assert found.contains(caller) is bool(holding)
    rule = found.rule_for(caller)
    if rule is not None:
        assert plain(rule) == min(holding, key=lambda network: network.prefixlen)
    near = found.nearest(caller)
    same = [network for network in networks if network.version == single.version]
    assert (near is None) is (not same)
    if near is not None:
        assert distance(plain(near), single) == min(distance(network, single) for network in same)


@given(st.lists(NETWORKS.map(str), max_size=8), st.lists(NETWORKS.map(str), max_size=8), CALLERS)
def test_union_holds_what_either_holds(left: list[str], right: list[str], caller: str) -> None:
    parts = AddressSet.of(left), AddressSet.of(right)
    assert AddressSet.union(parts).contains(caller) is any(part.contains(caller) for part in parts)
    assert AddressSet.union(parts) == AddressSet.of([*right, *left])


@given(st.text(max_size=30))
def test_what_is_no_address_is_in_no_set(text: str) -> None:
    try:
        ip_address(text)
    except ValueError:
        everything = AddressSet.of(["0.0.0.0/0", "::/0"])
        assert not everything.contains(text)
        assert everything.nearest(text) is None


def distance(network: Network, address: Network) -> int:
    first, last, number = int(network[0]), int(network[-1]), int(address[0])
    return max(first - number, number - last, 0)
