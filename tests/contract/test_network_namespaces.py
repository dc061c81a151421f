"""Who gets in, proven on a network: a server, callers with several addresses, a router that says who came to it, and one who lies.

    outside 10.78.0.66 ── 10.78.0.1 router 10.77.0.21 ──┐
                                                        ├── server 10.77.0.1, fd77::1 (a switch), 10.77.0.40 for private endpoints
    inside  10.77.0.11, 10.77.0.19, fd77::11, fd77::12 ─┘

The server listens on `::`, so that it sees IPv4 callers as IPv4-mapped IPv6 addresses; nothing of that may be seen in any decision.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.factories.certificates import Certificates, certificates
from tests.factories.namespaces import Answer, Namespace, Net, Proxy, net
from tests.factories.private_link import Endpoint, decide, endpoint, network, stands, states
from tests.factories.streams import change
from tests.live import Live, finish, start, wait_for

pytestmark = pytest.mark.netns

SERVER, SERVER6, ROUTER, PRIVATE = "10.77.0.1", "fd77::1", "10.77.0.21", "10.77.0.40"
INSIDE, INSIDE6 = ("10.77.0.11", "10.77.0.19"), ("fd77::11", "fd77::12")
OUTSIDE, GATE = "10.78.0.66", "10.78.0.1"
SETTINGS = f"""\
trusted_proxies = ["{ROUTER}"]
[listen]
private_networks = ["10.77.0.0/24", "10.99.0.0/24"]
"""


@dataclass
class World:
    """The machines, the server that runs on one of them, and what callers trust."""

    server: Namespace
    inside: Namespace
    router: Namespace
    outside: Namespace
    live: Live
    proxies: Certificates
    private_port: int = 8446
    accounts: int = 0

    def account(self, **properties: Any) -> Caller:
        """Create an account and return the way to call it."""
        self.accounts += 1
        name = f"net{self.accounts}"

        def make() -> str:
            body = {"kind": "OpenAI", "sku": {"name": "S0"}, "location": self.live.location}
            body["properties"] = {"customSubDomainName": name, **properties}
            made = self.live.request("PUT", self.live.account_id(name), body)
            assert made.status_code in (200, 201), made.text
            return str(self.live.request("POST", f"{self.live.account_id(name)}/listKeys").json()["key1"])

        return Caller(self, name, self.server.run(make))

    def change(self, name: str, **properties: Any) -> None:
        self.server.run(lambda: change(self.live, name, **properties))

    def arm(self, method: str, path: str, body: Any = None, version: str = "2025-09-01") -> Any:
        return self.server.run(lambda: self.live.request(method, path, body, version=version))

    def record(self, answer: Answer) -> dict[str, Any]:
        """Return the audit record of an answered request."""
        wanted = answer.headers["apim-request-id"]

        def find() -> dict[str, Any] | None:
            for file in (self.live.data_dir / "audit").glob("*.jsonl"):
                for line in file.read_text().splitlines():
                    if wanted in line:
                        found: dict[str, Any] = json.loads(line)
                        return found
            return None

        found: dict[str, Any] = wait_for(find, "the record of the request is written")
        return found


@dataclass
class Caller:
    """An account, and its key."""

    world: World
    name: str
    key: str

    def get(
        self,
        machine: Namespace,
        source: str = "",
        *headers: tuple[str, str],
        at: str = "",
        port: int = 0,
        trust: Path | None = None,
        name: str = "",
    ) -> Answer:
        """Ask for the models from a machine, by one of its addresses."""
        live = self.world.live
        address = at or (SERVER6 if ":" in source else SERVER)
        path = f"/{name or self.name}/openai/models?api-version=2024-10-21"
        sent = [("api-key", self.key), *headers]
        return machine.ask(address, port or live.ports[0], path, sent, source=source, trust=trust or live.ca)

    def status(self, machine: Namespace, source: str = "", *headers: tuple[str, str], **more: Any) -> int:
        return self.get(machine, source, *headers, **more).status


def acls(*addresses: str, subnets: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "defaultAction": "Deny",
        "ipRules": [{"value": address} for address in addresses],
        "virtualNetworkRules": [{"id": subnet} for subnet in subnets],
    }


def forwarded(value: str) -> tuple[str, str]:
    return ("X-Forwarded-For", value)


def build(made: Net) -> tuple[Namespace, Namespace, Namespace, Namespace]:
    server, inside, router, outside = (made.machine(name) for name in ("server", "inside", "router", "outside"))
    switch = made.bridge(server)
    server.addresses(switch, f"{SERVER}/24", f"{PRIVATE}/24", f"{SERVER6}/64")
    inside.addresses(
        made.cable(server, inside, into=switch), *(f"{one}/24" for one in INSIDE), *(f"{one}/64" for one in INSIDE6)
    )
    router.addresses(made.cable(server, router, into=switch), f"{ROUTER}/24")
    away = made.cable(router, outside)
    router.addresses(away, f"{GATE}/24")
    outside.addresses(away, f"{OUTSIDE}/24")
    return server, inside, router, outside


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("network")
    with ExitStack() as stack:
        machines = build(stack.enter_context(net()))
        server = machines[0]
        live = server.run(lambda: start(folder / "data", "--workers", "2", "--host", "::", settings=SETTINGS))
        stack.callback(finish, live)
        yield World(*machines, live, certificates(folder / "proxy", addresses=(GATE,)))


def proxy(world: World, writes: Any = "append", port: int = 443, target: tuple[str, int] | None = None) -> Proxy:
    return Proxy(
        world.router,
        (GATE, port),
        target or (SERVER, world.live.ports[0]),
        world.proxies.server_context(),
        world.live.trust(),
        writes,
    )


def test_an_address_rule_admits_its_address_and_no_other(world: World) -> None:
    account = world.account(networkAcls=acls(INSIDE[0]))
    assert account.status(world.inside, INSIDE[0]) == 200
    refused = account.get(world.inside, INSIDE[1])
    assert refused.status == 403
    assert refused.headers["policy-id"] == "ThrowExceptionDueToTrafficDenied"
    assert refused.json["error"]["message"] == "Access denied due to Virtual Network/Firewall rules."
    assert [account.status(world.inside, source) for source in INSIDE6] == [403, 403]
    assert world.record(refused)["callerAddress"] == INSIDE[1]


def test_an_ipv6_rule_admits_its_address_and_no_other(world: World) -> None:
    account = world.account(networkAcls=acls(f"{INSIDE6[0]}/128"))
    assert [account.status(world.inside, source) for source in (*INSIDE6, *INSIDE)] == [200, 403, 403, 403]


def test_a_range_admits_what_lies_in_it(world: World) -> None:
    account = world.account(networkAcls=acls("10.77.0.0/27", "fd77::10/124"))
    assert {account.status(world.inside, source) for source in (*INSIDE, *INSIDE6)} == {200}
    world.change(account.name, networkAcls=acls("10.77.0.8/30"))
    assert [account.status(world.inside, source) for source in (*INSIDE, *INSIDE6)] == [200, 403, 403, 403]


def test_no_caller_is_ever_seen_in_mapped_form(world: World) -> None:
    account = world.account(networkAcls=acls("::ffff:10.77.0.11"))
    answer = account.get(world.inside, INSIDE[0])
    assert answer.status == 200
    assert world.record(answer)["callerAddress"] == INSIDE[0]
    # Asked over IPv6's socket interface, by the address that maps the server's: IPv4 on the wire, and the same rules.
    assert account.status(world.inside, at=f"::ffff:{SERVER}") == 200


def test_a_header_from_a_caller_is_worth_nothing(world: World) -> None:
    account = world.account(networkAcls=acls(INSIDE[0]))
    lies = [
        *(
            forwarded(value)
            for value in (INSIDE[0], f"{INSIDE[0]}, {ROUTER}", "127.0.0.1", f"[::ffff:{INSIDE[0]}]:80", "")
        ),
        ("X-Real-IP", INSIDE[0]),
        ("Forwarded", f"for={INSIDE[0]}"),
        ("X-Azure-ClientIP", INSIDE[0]),
        ("CF-Connecting-IP", INSIDE[0]),
    ]
    assert {account.status(world.inside, source, lie) for source in (INSIDE[1], INSIDE6[0]) for lie in lies} == {403}
    assert account.status(world.inside, INSIDE[0], forwarded(OUTSIDE)) == 200


@pytest.mark.parametrize("writes", ["append", "port", "second"])
def test_a_trusted_proxy_says_who_came_to_it(world: World, writes: str) -> None:
    account = world.account(networkAcls=acls(OUTSIDE))
    through = {"at": GATE, "port": 443, "trust": world.proxies.authority}
    with proxy(world, writes).running():
        admitted = account.get(world.outside, OUTSIDE, **through)
        assert admitted.status == 200
        assert world.record(admitted)["callerAddress"] == OUTSIDE
        world.change(account.name, networkAcls=acls(INSIDE[0]))
        for lie in (INSIDE[0], f"{INSIDE[0]}, {ROUTER}", f"{ROUTER}", "garbage", f"{INSIDE[0]}:80"):
            refused = account.get(world.outside, OUTSIDE, forwarded(lie), **through)
            assert (refused.status, world.record(refused)["callerAddress"]) == (403, OUTSIDE), lie


def test_a_rule_for_the_proxy_admits_nobody_behind_it(world: World) -> None:
    account = world.account(networkAcls=acls(ROUTER))
    with proxy(world).running():
        assert account.status(world.outside, at=GATE, port=443, trust=world.proxies.authority) == 403


def test_a_proxy_that_is_not_trusted_is_a_caller_like_any_other(world: World) -> None:
    account = world.account(networkAcls=acls(INSIDE[0]))
    untrusted = Proxy(
        world.inside,
        (INSIDE[1], 443),
        (SERVER6, world.live.ports[0]),
        world.proxies.server_context(),
        world.live.trust(),
    )
    with untrusted.running():
        answer = world.router.ask(
            INSIDE[1],
            443,
            f"/{account.name}/openai/models?api-version=2024-10-21",
            [("api-key", account.key), forwarded(INSIDE[0])],
            source=ROUTER,
            trust=world.proxies.authority,
        )
    assert answer.status == 403
    assert world.record(answer)["callerAddress"] in INSIDE6


def test_public_access_disabled_lets_nobody_in(world: World) -> None:
    account = world.account(publicNetworkAccess="Disabled", networkAcls=acls(*INSIDE, *INSIDE6))
    for source in (*INSIDE, *INSIDE6):
        refused = account.get(world.inside, source)
        assert refused.status == 403
        assert refused.json["error"]["message"] == "Public access is disabled. Please configure private endpoint."
    assert account.status(world.server, at="127.0.0.1") == 403
    world.change(account.name, publicNetworkAccess="Enabled")
    assert account.status(world.inside, INSIDE[0]) == 200


def test_a_subnet_rule_admits_the_subnets_callers(world: World) -> None:
    served = world.server.run(lambda: network(world.live, "served", "10.77.0.8/29", serves=True))
    unserved = world.server.run(lambda: network(world.live, "unserved", "10.77.0.16/29"))
    account = world.account(networkAcls=acls(subnets=(served,)))
    assert [account.status(world.inside, source) for source in (*INSIDE, *INSIDE6)] == [200, 403, 403, 403]
    lie = forwarded(INSIDE[0])
    assert account.status(world.inside, INSIDE[1], lie) == 403
    # A subnet without the service endpoint counts only where the rule says that it need not have one.
    ignoring = {"id": unserved, "ignoreMissingVnetServiceEndpoint": True}
    world.change(account.name, networkAcls={"defaultAction": "Deny", "virtualNetworkRules": [ignoring]})
    assert [account.status(world.inside, source) for source in (*INSIDE, *INSIDE6)] == [403, 200, 403, 403]


def test_a_private_endpoint_answers_on_an_address_that_exists_in_this_network_alone(world: World) -> None:
    account = world.account(publicNetworkAccess="Disabled")
    other = world.account()

    def make() -> Endpoint:
        subnet = network(world.live, "private", "10.77.0.32/27")
        made = endpoint(world.live, account.name, "pe", subnet, PRIVATE)
        stands(world.live, PRIVATE)
        return made

    made = world.server.run(make)
    there: dict[str, Any] = {"at": PRIVATE, "port": world.private_port}
    answer = account.get(world.inside, INSIDE[0], **there)
    assert answer.status == 200
    assert world.record(answer)["callerAddress"] == INSIDE[0]
    assert account.status(world.inside, INSIDE[0]) == 403
    assert other.status(world.inside, INSIDE[0], **there) == 404
    assert other.status(world.inside, INSIDE[0]) == 200
    with pytest.raises(OSError):
        account.status(world.outside, OUTSIDE, **there)
    # The router brings callers from outside to it; who they are is known, and the endpoint lets in whoever reaches it.
    with proxy(world, target=(PRIVATE, world.private_port)).running():
        through = account.get(world.outside, OUTSIDE, at=GATE, port=443, trust=world.proxies.authority)
        assert (through.status, world.record(through)["callerAddress"]) == (200, OUTSIDE)
    world.server.run(lambda: decide(world.live, made, "Rejected"))

    def refused() -> bool:
        try:
            return account.status(world.inside, INSIDE[0], **there) == 403
        except OSError:
            return True

    wait_for(refused, "the rejected endpoint answers no more")


def test_a_private_endpoint_outside_the_operators_networks_is_not_listened_for(world: World) -> None:
    account = world.account()

    def make() -> str:
        subnet = network(world.live, "strange", "10.88.0.0/24")
        endpoint(world.live, account.name, "pe-strange", subnet, "10.88.0.4")
        found = wait_for(lambda: [one for one in states(world.live) if one["address"] == "10.88.0.4"], "it is seen")
        return str(found[0]["reason"])

    assert "private_networks" in world.server.run(make)
    subnet = world.server.run(lambda: network(world.live, "absent", "10.99.0.0/24"))
    world.server.run(lambda: endpoint(world.live, account.name, "pe-absent", subnet, "10.99.0.4"))

    def seen() -> str:
        found = wait_for(lambda: [one for one in states(world.live) if one["address"] == "10.99.0.4"], "it is seen")
        return str(found[0]["reason"])

    assert "not an address of this machine" in world.server.run(seen)
    # The operator gives the machine the address: nothing else has to be done.
    world.server.addresses("br0", "10.99.0.4/24")
    world.server.run(lambda: stands(world.live, "10.99.0.4"))
    assert account.status(world.server, at="10.99.0.4", port=world.private_port) == 200


def test_who_cannot_reach_the_server_is_not_helped_by_any_rule(world: World) -> None:
    account = world.account()
    with pytest.raises(OSError):
        account.status(world.outside, OUTSIDE)
