"""Where requests may come from, at the gateway: every mechanism, from the next request on and back again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stockade.gateway.app import Gateway
from stockade.management.routing import Registry
from tests.factories.data_plane import (
    CHAT,
    GROUP,
    HELLO,
    JSON_TYPE,
    SUB,
    VERSION,
    Account,
    Answer,
    DataPlane,
    Scope,
    ask,
)
from tests.factories.engine import Engine, answers, engine, reply

OK = reply(b'{"choices":[]}')
NETWORK = f"{GROUP}/providers/Microsoft.Network"
SUBNET = f"{NETWORK}/virtualNetworks/Net1/subnets/First"
LINE = f"{NETWORK}/networkSecurityPerimeters/Line1"
PROFILE = f"{LINE}/profiles/Main"
INSIDE, OUTSIDE = "203.0.113.5", "192.0.2.1"
DENIED = "Access denied due to Virtual Network/Firewall rules."


def rules(*values: str, subnets: Any = (), default: str = "Deny", **more: Any) -> Any:
    return {
        "defaultAction": default,
        "ipRules": [{"value": v} for v in values],
        "virtualNetworkRules": list(subnets),
        **more,
    }


class Networked:
    """An account that admits one network, its gateway and an engine that always answers."""

    def __init__(self, folder: Path, running: Engine) -> None:
        self.plane = DataPlane(folder, f"http://127.0.0.1:{running.port}/v1")
        self.account: Account = self.plane.account(networkAcls=rules("203.0.113.0/24"))
        self.gateway: Gateway = self.plane.gateway()

    def set(self, **properties: Any) -> None:
        self.plane.change(self.account, **properties)

    def put(self, path: str, properties: Any, private: Any = None) -> None:
        """Store a document of Microsoft.Network or of a connection, of the type its path names."""
        names = path.rpartition("/providers/")[2].split("/")
        kind = "/".join((names[0], *names[1::2])).lower()
        assert kind in Registry.load().compilers()
        with self.plane.world.database.write() as writer:
            writer.put(path, kind, {"id": path, "name": path.rsplit("/", 1)[-1], "properties": properties}, private)

    def remove(self, path: str) -> None:
        with self.plane.world.database.write() as writer:
            document = writer.get(path)
            assert document is not None
            writer.remove(document)

    async def call(
        self, address: str = OUTSIDE, *, token: str = "", account: Account | None = None, endpoint: str | None = None
    ) -> Answer:
        """Ask from an address, on the public listener or on that of a private endpoint connection."""
        account = account or self.account
        credential = ("authorization", f"Bearer {token}") if token else ("api-key", account.key)
        peer = f"[{address}]:5" if ":" in address else f"{address}:5"
        if endpoint is None:
            self.answer = await ask(self.gateway, account.path(CHAT), credential, client=peer)
            return self.answer
        answer = self.answer = Answer([HELLO])
        sent = [credential, JSON_TYPE, ("content-length", str(len(HELLO)))]
        scope = Scope(account.path(CHAT), "POST", VERSION, sent, peer, "localhost:8443")
        await self.gateway.handle(scope, answer, endpoint.lower())
        return answer

    def identity(self, *, role: bool = True, of: str | None = None) -> str:
        """Return a token of the managed identity of an account (or of another resource), which may have a role."""
        with self.plane.world.database.write() as writer:
            principal = self.plane.world.directory.create_managed_identity(
                writer, of or self.account.id + "2", "SystemAssigned"
            )
        if role:
            self.plane.grant(principal)
        return self.plane.world.token(principal)

    def record(self) -> dict[str, Any]:
        """Return the record of the last request."""
        return self.plane.record_of(self.gateway, self.answer)


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Networked]:
    async with engine(answers(OK)) as running:
        yield Networked(tmp_path, running)


async def test_refusal_is_azures_and_its_record_says_why(net: Networked) -> None:
    answer = await net.call("203.0.114.9")
    assert (answer.status, answer.code, answer.json["error"]["message"]) == (403, "403", DENIED)
    assert answer.headers["policy-id"] == "ThrowExceptionDueToTrafficDenied"
    assert answer.headers["x-stockade-decision"]
    because = net.record()["because"]
    assert {name: because[name] for name in ("address", "mechanism", "ipRules", "nearestRule")} == {
        "address": "203.0.114.9",
        "mechanism": "networkAcls",
        "ipRules": "1",
        "nearestRule": "203.0.113.0/24",
    }


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("203.0.113.5", 200),
        ("::ffff:203.0.113.5", 200),
        ("::ffff:cb00:7105", 200),
        ("::ffff:192.0.2.1", 403),
        ("::203.0.113.5", 403),
        ("64:ff9b::cb00:7105", 403),
        ("2002:cb00:7105::", 403),
        ("::ffff:0:203.0.113.5", 403),
        ("2001:db8::1", 403),
    ],
)
async def test_no_spelling_of_an_address_slips_past(net: Networked, address: str, status: int) -> None:
    assert (await net.call(address)).status == status


async def test_changes_count_from_the_next_request(net: Networked) -> None:
    assert (await net.call()).status == 403
    net.set(networkAcls=rules("192.0.2.0/24"))
    assert (await net.call()).status == 200
    assert net.record()["network"] == "ipRules 192.0.2.0/24"
    net.set(publicNetworkAccess="Disabled")
    answer = await net.call()
    assert (answer.status, answer.json["error"]["message"]) == (
        403,
        "Public access is disabled. Please configure private endpoint.",
    )
    net.set(publicNetworkAccess="Enabled", networkAcls=rules(default="Allow"))
    assert (await net.call()).status == 200
    assert "network" not in net.record()


async def test_ten_thousand_rules(net: Networked) -> None:
    net.set(networkAcls=rules(*(f"10.{n // 256}.{n % 256}.0/25" for n in range(10_000))))
    assert (await net.call("10.39.15.1")).status == 200
    assert (await net.call("10.39.15.129")).status == 403
    assert net.record()["because"]["nearestRule"] == "10.39.15.0/25"


async def test_subnet_admits_while_it_has_the_service_endpoint(net: Networked) -> None:
    served = {"addressPrefix": "192.0.2.0/24", "serviceEndpoints": [{"service": "Microsoft.CognitiveServices"}]}
    net.set(networkAcls=rules(subnets=[{"id": SUBNET}]))
    assert (await net.call()).status == 403
    net.put(SUBNET, served)
    assert (await net.call()).status == 200
    assert net.record()["network"] == "virtualNetworkRules 192.0.2.0/24 in Net1/First"
    net.put(SUBNET, {**served, "serviceEndpoints": []})
    assert (await net.call()).status == 403
    assert net.record()["because"]["subnetWithoutServiceEndpoint"] == "192.0.2.0/24 in Net1/First"
    net.set(networkAcls=rules(subnets=[{"id": SUBNET, "ignoreMissingVnetServiceEndpoint": True}]))
    assert (await net.call()).status == 200
    net.put(SUBNET, {**served, "addressPrefix": "198.51.100.0/24"})
    assert (await net.call()).status == 403
    net.remove(SUBNET)
    assert (await net.call("198.51.100.7")).status == 403


async def test_bypass_admits_a_trusted_services_identity_and_nothing_else_of_it(net: Networked) -> None:
    token, powerless = (
        net.identity(),
        net.identity(role=False, of=f"{GROUP}/providers/Microsoft.Search/searchServices/s"),
    )
    assert (await net.call(token=token)).status == 403
    net.set(networkAcls=rules("203.0.113.0/24", bypass="AzureServices"))
    assert (await net.call(token=token)).status == 200
    assert net.record()["network"] == f"bypass AzureServices: {net.account.id}2".replace(
        "Group1", "group1"
    ).lower().replace("bypass azureservices", "bypass AzureServices")
    refused = await net.call(token=powerless)
    assert (refused.status, refused.code) == (401, "PermissionDenied")
    assert (await net.call()).status == 403  # a key is no identity
    _, plain = net.plane.caller("plain")
    assert (await net.call(token=plain)).status == 403
    assert (await net.call(token=token[:-8] + "AAAAAAAA")).status == 403  # not verified
    other = net.identity(of=f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/u")
    assert (await net.call(token=other)).status == 403
    net.set(networkAcls=rules("203.0.113.0/24", bypass="None"))
    assert (await net.call(token=token)).status == 403


def associate(net: Networked, mode: str) -> None:
    net.put(
        f"{LINE}/resourceAssociations/Chat",
        {"privateLinkResource": {"id": net.account.id}, "profile": {"id": PROFILE}, "accessMode": mode},
    )


async def test_perimeter_adds_while_learning_and_decides_when_enforced(net: Networked) -> None:
    associate(net, "Learning")
    assert (await net.call(OUTSIDE)).status == 403
    net.put(f"{PROFILE}/accessRules/Office", {"addressPrefixes": ["192.0.2.0/24"], "subscriptions": []})
    assert [(await net.call(a)).status for a in (INSIDE, OUTSIDE, "198.18.0.1")] == [200, 200, 403]
    associate(net, "Enforced")
    assert [(await net.call(a)).status for a in (INSIDE, OUTSIDE, "198.18.0.1")] == [403, 200, 403]
    assert net.record()["because"]["mechanism"] == "perimeter"
    net.set(publicNetworkAccess="Disabled")
    assert (await net.call(OUTSIDE)).status == 200
    net.put(
        f"{PROFILE}/accessRules/Office", {"addressPrefixes": [], "subscriptions": [{"id": f"/subscriptions/{SUB}"}]}
    )
    assert (await net.call(OUTSIDE)).status == 403
    assert (await net.call(OUTSIDE, token=net.identity())).status == 200
    assert net.record()["network"].endswith(f"subscription of {net.account.id}2")
    net.remove(f"{LINE}/resourceAssociations/Chat")
    assert (await net.call(OUTSIDE, token=net.identity())).status == 403


def connect(net: Networked, status: str) -> str:
    path = f"{net.account.id}/privateEndpointConnections/Pe1.x"
    net.put(
        path,
        {"privateLinkServiceConnectionState": {"status": status}, "groupIds": ["account"]},
        {"address": "10.0.0.4"},
    )
    return path


async def test_private_endpoint_opens_its_own_account_while_approved(net: Networked) -> None:
    net.set(publicNetworkAccess="Disabled")
    path = connect(net, "Approved")
    assert (await net.call()).status == 403
    assert (await net.call(endpoint=path)).status == 200
    assert net.record()["network"] == f"privateEndpoint {path.lower()}"
    for status in ("Pending", "Rejected", "Disconnected"):
        connect(net, status)
        for mode in ("enforce", "report", "off"):
            net.set(stockade={"controls": {"network": mode}})
            assert (await net.call(endpoint=path)).status == 403
    net.remove(path)
    assert (await net.call(endpoint=path)).status == 404


@pytest.mark.parametrize("mode", ["enforce", "off"])
async def test_private_endpoint_does_not_say_which_other_accounts_there_are(net: Networked, mode: str) -> None:
    other = net.plane.account("b1", stockade={"controls": {"network": mode}})
    path = connect(net, "Approved")
    assert (await net.call(account=other)).status == 200
    nobody = Account("", "nobody", other.keys)
    known, unknown = await net.call(account=other, endpoint=path), await net.call(account=nobody, endpoint=path)
    assert (known.status, known.body) == (unknown.status, unknown.body)
    assert known.status == 404
    differing = {"apim-request-id", "x-stockade-decision", "x-ms-request-id", "x-request-id", "date"}
    assert {n: v for n, v in known.headers.items() if n not in differing} == {
        n: v for n, v in unknown.headers.items() if n not in differing
    }
