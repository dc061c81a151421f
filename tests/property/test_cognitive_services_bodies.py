"""Whatever a caller with rights sends as an account or deployment, the answer is clear and what is stored is in force."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.kernel.faults import Fault
from stockade.management.cognitive_services.kinds import KINDS
from stockade.management.network.access_rules import normal_network
from tests.factories.arm import ACCOUNTS, Arm

ACCOUNT = f"{ACCOUNTS}/fuzzed"
MEMBERS = [
    "customSubDomainName",
    "publicNetworkAccess",
    "networkAcls",
    "disableLocalAuth",
    "restrictOutboundNetworkAccess",
    "allowedFqdnList",
    "encryption",
    "userOwnedStorage",
    "apiProperties",
    "restore",
    "defaultAction",
    "bypass",
    "ipRules",
    "virtualNetworkRules",
    "value",
    "id",
    "keySource",
    "resourceId",
    "model",
    "format",
    "name",
    "version",
    "scaleSettings",
    "capacity",
    "sku",
    "tier",
    "kind",
    "location",
    "identity",
    "type",
    "userAssignedIdentities",
    "tags",
    "properties",
]
WORDS = st.sampled_from(
    [
        *KINDS,
        "OpenAI",
        "local",
        "East US",
        "S0",
        "F0",
        "E0",
        "Allow",
        "Deny",
        "Enabled",
        "10.0.0.0/8",
        "::1",
        "SystemAssigned",
        "sub-1",
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
    | WORDS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(MEMBERS) | st.text(min_size=1, max_size=8), inner, max_size=5)
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from(MEMBERS), VALUES, max_size=6)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Arm:
    folder: Path = tmp_path_factory.mktemp("bodies")
    arm = Arm(folder)
    arm.account("parent")
    return arm


def check(arm: Arm, path: str, reply: Any) -> None:
    assert reply.status in (200, 201, 400, 403, 404, 409), reply
    if reply.status >= 400:
        assert reply.body["error"]["message"]
        return
    shown = arm.ok("GET", path)
    index = "deployment" if "/deployments/" in path else "account"
    key = (f"{ACCOUNTS}/parent".lower(), "fuzzed") if index == "deployment" else path.lower()
    assert arm.snapshot().only(index, key) is not None
    again = arm.send("PUT", path, {name: value for name, value in shown.items() if name != "etag"})
    assert again.status == 200, again.body


@settings(max_examples=60)
@given(body=OBJECTS, properties=OBJECTS)
def test_accounts(shared: Arm, body: Any, properties: Any) -> None:
    wanted = {"kind": "OpenAI", "location": "local", "sku": {"name": "S0"}, **body, "properties": properties}
    check(shared, ACCOUNT, shared.send("PUT", ACCOUNT, wanted))
    check(shared, ACCOUNT, shared.send("PATCH", ACCOUNT, body))


@settings(max_examples=60)
@given(body=OBJECTS, properties=OBJECTS)
def test_deployments(shared: Arm, body: Any, properties: Any) -> None:
    path = f"{ACCOUNTS}/parent/deployments/fuzzed"
    model = {"model": {"format": "OpenAI", "name": "smollm2-135m-instruct"}}
    check(shared, path, shared.send("PUT", path, {**body, "properties": {**model, **properties}}))
    check(shared, path, shared.send("PATCH", path, body))


@given(address=st.ip_addresses(), prefix=st.integers(0, 128))
def test_a_normalised_rule_admits_its_address_and_stays_as_it_is(address: Any, prefix: int) -> None:
    text = f"{address}/{min(prefix, address.max_prefixlen)}"
    normal = normal_network(text, strict=False)
    assert normal_network(normal, strict=False) == normal
    plain = getattr(address, "ipv4_mapped", None) or address
    network = ip_network(normal)
    assert network.version != plain.version or plain in network
    assert network.prefixlen >= min(prefix, address.max_prefixlen) - 96


@given(text=st.text(max_size=40))
def test_no_text_but_an_address_is_a_rule(text: str) -> None:
    try:
        normal = normal_network(text, strict=False)
    except Fault:
        return
    assert ip_address(ip_network(normal).network_address)
