"""The ring: what is kept of a request, in which bounds, and what may go wrong with the file without anybody noticing."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from stockade.decisions import ring as module
from stockade.decisions.record import Decision, Refusal, UriSeen, decision, noted
from stockade.decisions.ring import findings
from stockade.decisions.store import DecisionStore
from stockade.gateway.app import Gateway
from stockade.kernel.control import Control
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.record import AuditRecord
from stockade.kernel.verdict import Deny
from stockade.settings import Decisions
from tests.factories import policy
from tests.factories.data_plane import CHAT, Account, Answer, DataPlane, ask
from tests.factories.engine import answers, engine, reply

OK = reply(b'{"choices":[]}')


class Plane(DataPlane):
    """A data plane whose ring is written when a test says so."""

    def kept(self, gateway: Gateway, account: Account) -> list[Decision]:
        gateway._decisions._flush()
        with DecisionStore(self.settings.data_dir, self.settings.decisions) as store:
            return [kept.decision for kept in store.newest(account.id, 1000)]


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with engine(answers(OK)) as running:
        yield Plane(tmp_path, f"http://127.0.0.1:{running.port}/v1", decisions=Decisions(keep_per_account=8, keep=20))


async def image(gateway: Gateway, account: Account, *urls: str) -> Answer:
    content = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    body = json.dumps({"messages": [{"role": "user", "content": content}]}).encode()
    return await ask(gateway, account.path(CHAT), ("api-key", account.key), body=body)


async def test_decision_holds_what_explains_it(plane: Plane) -> None:
    account, gateway = plane.account(), plane.gateway()
    answer = await ask(gateway, account.path(), ("api-key", account.key), ("user-agent", "agent/1"))
    [made] = plane.kept(gateway, account)
    assert (made.id, made.account, made.credential, made.slot) == (
        answer.headers["apim-request-id"],
        account.id,
        "key",
        "Key1",
    )
    assert (made.allowed, made.point, made.status, made.outcome) == (True, "body", 200, "success")
    assert (made.operation, made.deployment, made.address, made.agent) == (
        "ChatCompletions_Create",
        "chat",
        "127.0.0.1",
        "agent/1",
    )
    assert made.generation > 0


async def test_refusal_is_kept_with_its_grounds(plane: Plane) -> None:
    account, gateway = plane.account(networkAcls={"defaultAction": "Deny", "ipRules": []}), plane.gateway()
    await ask(gateway, account.path(), ("api-key", account.key))
    [made] = plane.kept(gateway, account)
    assert made.refusal is not None
    assert (made.refusal.rule, made.refusal.reason, made.refusal.control) == (
        "network",
        "NetworkDenied",
        Control.NETWORK,
    )
    assert made.refusal.because["address"] == "127.0.0.1"
    assert (made.point, made.allowed) == ("head", False)


async def test_token_is_kept_as_its_principal(plane: Plane) -> None:
    account, gateway = plane.account(), plane.gateway()
    principal, token = plane.caller("reader", role_name=None)
    await ask(gateway, account.path(), ("authorization", f"Bearer {token}"))
    [made] = plane.kept(gateway, account)
    assert (made.credential, made.principal, made.tenant) == ("token", principal.object_id, plane.world.tenant_id)
    assert made.refusal is not None
    assert made.refusal.because["smallestRole"]
    assert token not in str(msgspec.to_builtins(made))


async def test_of_a_uri_only_its_host_is_kept(plane: Plane) -> None:
    account = plane.account(restrictOutboundNetworkAccess=True, allowedFqdnList=["good.example"])
    gateway = plane.gateway()
    await image(
        gateway,
        account,
        "https://good.example/CANARY",
        "https://us3r:CANARY@evil.example:8443/CANARY?CANARY#CANARY",
        "CANARY",
    )
    [made] = plane.kept(gateway, account)
    assert [(uri.host, uri.port, uri.refused) for uri in made.uris if uri.place.endswith("url.url")] == [
        ("good.example", "", ""),
        ("evil.example", "8443", "credentials"),
        ("", "", "unreadable"),
    ]
    stored = b"".join(file.read_bytes() for file in plane.settings.data_dir.glob("decisions.db*"))
    assert b"evil.example" in stored
    assert b"CANARY" not in stored
    assert b"hello" not in stored


async def test_would_be_refusals_are_counted_by_who_and_what(plane: Plane) -> None:
    report = {"controls": {"network": "report", "dlp": "report"}}
    account = plane.account(
        networkAcls={"defaultAction": "Deny", "ipRules": []},
        restrictOutboundNetworkAccess=True,
        allowedFqdnList=[],
        stockade=report,
    )
    gateway = plane.gateway()
    for _ in range(3):
        assert (await image(gateway, account, "https://a.example/", "https://b.example/")).status == 200
    gateway._decisions._flush()
    with DecisionStore(plane.settings.data_dir, plane.settings.decisions) as store:
        hosts = store.findings(account.id, Control.DLP, 0)
        [network] = store.findings(account.id, Control.NETWORK, 0)
    assert {(finding.key.subject, finding.count) for finding in hosts} == {("a.example", 3), ("b.example", 3)}
    assert (network.key.mode, network.key.subject, network.key.slot, network.count) == (
        "report",
        "127.0.0.1",
        "Key1",
        3,
    )


async def test_ring_of_an_account_keeps_the_newest(plane: Plane) -> None:
    account, other, gateway = plane.account("a1"), plane.account("a2"), plane.gateway()
    asked = [
        (await ask(gateway, account.path(), ("api-key", account.key))).headers["apim-request-id"] for _ in range(20)
    ]
    await ask(gateway, other.path(), ("api-key", other.key))
    assert [made.id for made in plane.kept(gateway, account)] == asked[:-9:-1]
    assert len(plane.kept(gateway, other)) == 1


async def test_strangers_push_out_a_quarter_at_most(plane: Plane) -> None:
    account, gateway = plane.account(), plane.gateway()
    for _ in range(8):
        await ask(gateway, account.path(), ("api-key", account.key))
    plane.kept(gateway, account)
    for _ in range(50):
        await ask(gateway, account.path(), ("api-key", "wrong"))
        gateway._decisions._flush()
    kept = plane.kept(gateway, account)
    assert len(kept) == 8
    assert sum(made.known for made in kept) >= 6


async def test_all_rings_together_are_bounded(plane: Plane) -> None:
    accounts = [plane.account(f"a{number}") for number in range(5)]
    gateway = plane.gateway()
    for account in accounts:
        for _ in range(8):
            await ask(gateway, account.path(), ("api-key", account.key))
    assert sum(len(plane.kept(gateway, account)) for account in accounts) == 20


async def test_what_cannot_be_encoded_is_kept_all_the_same(plane: Plane) -> None:
    account, gateway = plane.account(), plane.gateway()
    await ask(gateway, account.path(), ("api-key", account.key), ("user-agent", "agent\udcff"))
    [made] = plane.kept(gateway, account)
    assert made.agent == "agent?"


async def test_queue_is_bounded_and_allowed_requests_do_not_push_out_refusals(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE_LIMIT", 4)
    account, gateway = plane.account(), plane.gateway()
    await ask(gateway, account.path(), ("api-key", "wrong"))
    for _ in range(10):
        await ask(gateway, account.path(), ("api-key", account.key))
    ring = gateway._decisions
    assert (len(ring._told), len(ring._allowed)) == (1, 4)
    assert sum(not made.allowed for made in plane.kept(gateway, account)) == 1


def test_a_request_counts_once_for_each_host() -> None:
    seen = [UriSeen(f"place{number}", "https", "evil.example", refused="host") for number in range(3)]
    told = Refusal("outbound", "OutboundDenied")
    made = Decision(
        id="i", time=1.0, account="a", address="192.0.2.1", uris=tuple(seen), refusal=told, reported=(told,)
    )
    assert [(key.mode, key.subject) for key in findings(made)] == [
        ("report", "evil.example"),
        ("enforce", "evil.example"),
    ]


def test_what_the_output_filter_found_is_kept_apart_from_what_rules_reported() -> None:
    fault = Fault(FaultKind.OUTBOUND_DENIED, "x")
    seen = {"host": "links.example", "path": "choices[0].delta.content", "why": "host", "count": 3, "action": "passed"}
    reported = (
        Deny("network", fault, {}),
        Deny("output", fault, seen),
        Deny("output", fault, {**seen, "action": "redacted"}),
    )
    record = AuditRecord(time=1.0, id="i", category="RequestResponse", phase="decision", operation="", decision="allow")
    account = policy.account()
    exchange = SimpleNamespace(
        method="POST", peer="", address_derivation="", account=account, credential=None, route=None, snapshot=None, private_endpoint=None,
        denied=None, reported=reported, uris=(), facts=None, point="body", ended_by="", admitted=None,
    )  # fmt: skip
    made = decision(noted(exchange, record))  # type: ignore[arg-type]
    assert [told.rule for told in made.reported] == ["network"]
    assert [(found.host, found.count, found.redacted) for found in made.output] == [
        ("links.example", 3, False),
        ("links.example", 3, True),
    ]
    assert [(key.control, key.mode, key.subject) for key in findings(made)][1:] == [
        ("output", "report", "links.example"),
        ("output", "enforce", "links.example"),
    ]


async def test_writer_goes_on_after_a_bug(plane: Plane, caplog: pytest.LogCaptureFixture) -> None:
    account, gateway = plane.account(), plane.gateway()
    await ask(gateway, account.path(), ("api-key", account.key))
    ring, write = gateway._decisions, gateway._decisions._store.write

    def broken(*_: Any) -> None:
        raise KeyError("bug")

    ring._store.write = broken  # type: ignore[method-assign]
    ring._flush()
    assert "decisions were lost" in caplog.text
    ring._store.write = write  # type: ignore[method-assign]
    await ask(gateway, account.path(), ("api-key", account.key))
    assert len(plane.kept(gateway, account)) == 1


async def test_locked_file_delays_nobody_and_memory_stays_bounded(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("stockade.decisions.store.WRITE_TIMEOUT_S", 0.05)
    monkeypatch.setattr(module, "QUEUE_LIMIT", 16)
    monkeypatch.setattr(module, "UNWRITTEN_LIMIT", 16)
    account, gateway = plane.account(), plane.gateway()
    await ask(gateway, account.path(), ("api-key", account.key))
    assert len(plane.kept(gateway, account)) == 1
    holder = sqlite3.connect(plane.settings.data_dir / "decisions.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    gateway._decisions.start()
    for _ in range(100):
        assert (await ask(gateway, account.path(), ("api-key", account.key))).status == 200
        assert len(gateway._decisions._allowed) <= 16
    while not gateway._decisions._failed:  # noqa: ASYNC110 - the writer is a thread
        await asyncio.sleep(0.01)
    assert len(gateway._decisions._rows) <= 16
    holder.execute("ROLLBACK")
    holder.close()
    await asyncio.to_thread(gateway._decisions.close)
    assert "requests go on" in caplog.text
    with DecisionStore(plane.settings.data_dir, plane.settings.decisions) as store:
        assert len(store.newest(account.id, 100)) == 8


def test_findings_of_an_unknown_account_are_none() -> None:
    assert list(findings(Decision(id="i", time=1.0))) == []
