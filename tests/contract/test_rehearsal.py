"""A rehearsal on a platform whose time can be moved: asking for E0, the queue, what ends, what is overdue, what is purged.

With Azure's own clients and the command line, over TLS.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import msgspec
import pytest
import requests
from azure.core.exceptions import HttpResponseError
from azure.mgmt.cognitiveservices import CognitiveServicesManagementClient
from azure.mgmt.cognitiveservices.models import Account, Sku
from azure.mgmt.resource.resources import ResourceManagementClient
from azure.mgmt.resource.resources.models import GenericResource

from stockade.cli import outcome
from stockade.kernel.ids import new_guid
from stockade.lockbox.strict import from_base64url
from tests.factories.letterbox import Letterboxes, is_signed
from tests.factories.lockbox import Signer
from tests.live import Live, finish, start, wait_for

TYPE = "Microsoft.CognitiveServices/accounts"
VERSION = "2025-04-01"
DAY = 86_400
SETTINGS = "[access]\ne0_capacity = 1\nholidays = []\n"


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Letterboxes]:
    servers = Letterboxes(tmp_path_factory.mktemp("letters"))
    yield servers
    servers.close()


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory, boxes: Letterboxes) -> Iterator[Live]:
    folder, settings = tmp_path_factory.mktemp("rehearsal") / "data", SETTINGS + boxes.settings
    server = start(folder, "--workers", "1", "--simulation", settings=settings)
    yield server
    finish(server)


@pytest.fixture(scope="module")
def approver(rehearsal: Live) -> Mapping[str, str]:
    """The environment in which `stockade approvals` decides as somebody else."""
    made = rehearsal.identity("approver")
    rehearsal.stockade("identity", "assign", "approver", "Stockade Access Approver")
    return {"STOCKADE_APPROVER_ID": made["clientId"], "STOCKADE_APPROVER_SECRET": made["clientSecret"]}


@pytest.fixture
def clients(
    rehearsal: Live, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[CognitiveServicesManagementClient, ResourceManagementClient]]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(rehearsal.bundle))
    common: Any = {"base_url": rehearsal.arm, "retry_total": 0}
    with (
        rehearsal.credential() as credential,
        CognitiveServicesManagementClient(credential, rehearsal.subscription, **common) as cognitive,
        ResourceManagementClient(credential, rehearsal.subscription, **common) as resources,
    ):
        yield cognitive, resources


def request_id(live: Live, name: str) -> str:
    return f"/subscriptions/{live.subscription}/providers/Stockade.Access/skuRequests/{name}"


def shown(live: Live, name: str) -> Any:
    return live.request("GET", request_id(live, name)).json()["properties"]


def ask(live: Live, name: str, kind: str = "Face") -> None:
    asked = {"kind": kind, "location": live.location, "reason": "r", "contact": "ops@example.com"}
    assert live.request("PUT", request_id(live, name), {"properties": asked}).status_code == 201


def advance(live: Live, period: str) -> None:
    """Move time; the administrator's token has ended by then."""
    live.stockade("clock", "advance", period)
    live._token = ("", 0.0)


def key(live: Live, what: str, body: Any) -> Any:
    """Ask something of the key `brief` of the demonstration vault."""
    return requests.post(
        f"{live.arm}/keys/brief/{what}?api-version=7.4",
        json=body,
        headers={"Authorization": f"Bearer {live.token('https://vault.azure.net')}"},
        verify=str(live.bundle),
        timeout=30,
    )


def decider(live: Live, approver: Mapping[str, str]) -> str:
    """Return a token of somebody who decides."""
    with live.credential(approver["STOCKADE_APPROVER_ID"], approver["STOCKADE_APPROVER_SECRET"]) as credential:
        return str(credential.get_token("https://management.azure.com/.default").token)


def now(live: Live) -> float:
    """Return what time it is there, as every reply says."""
    reply = requests.get(f"{live.arm}/healthz", verify=str(live.bundle), timeout=10)
    return datetime.fromisoformat(reply.headers["x-stockade-simulated-time"]).timestamp()


def test_everything_says_that_time_is_simulated(rehearsal: Live) -> None:
    for origin in (rehearsal.arm, rehearsal.data):
        reply = requests.get(f"{origin}/healthz", verify=str(rehearsal.bundle), timeout=10)
        assert "x-stockade-simulated-time" in reply.headers
    reply = requests.get(f"{rehearsal.data}/demo-openai/openai/models", verify=str(rehearsal.bundle), timeout=10)
    assert reply.status_code >= 400 and "x-stockade-simulated-time" in reply.headers
    assert json.loads(rehearsal.stockade("status", "--format", "json"))["aheadSeconds"] == 0


def test_e0_is_asked_for_decided_and_used(
    rehearsal: Live,
    approver: Mapping[str, str],
    clients: tuple[CognitiveServicesManagementClient, ResourceManagementClient],
    boxes: Letterboxes,
) -> None:
    cognitive, resources = clients

    def available() -> tuple[bool | None, str | None, list[Any]]:
        answers = cognitive.check_sku_availability(rehearsal.location, skus=["E0"], kind="Face", type=TYPE).value
        assert answers is not None
        (sku,) = (one for one in cognitive.resource_skus.list() if (one.kind, one.name) == ("Face", "E0"))
        restricted = [
            one.reason_code for one in sku.restrictions or () if rehearsal.location.upper() in (one.values or ())
        ]
        return answers[0].sku_available, answers[0].reason, restricted

    def create(name: str) -> Any:
        account = Account(kind="Face", location=rehearsal.location, sku=Sku(name="E0"), properties={})
        return cognitive.accounts.begin_create(rehearsal.resource_group, name, account).result()

    assert available() == (False, "NotAvailableForSubscription", ["NotAvailableForSubscription"])
    with pytest.raises(HttpResponseError, match="stockade approvals request") as refused:
        create("face-e0")
    assert (refused.value.status_code, refused.value.error.code) == (403, "SkuNotApproved")

    asked = GenericResource(
        properties={
            "kind": "Face",
            "sku": "E0",
            "location": rehearsal.location,
            "reason": "faces under our own key",
            "contact": "ops@example.com",
        }
    )
    made = resources.resources.begin_create_or_update_by_id(
        request_id(rehearsal, "faces"), asked, api_version=VERSION
    ).result()
    assert made.properties["state"] == "Submitted"
    own = rehearsal.cli("approvals", "approve", "faces", check=False)
    assert own.returncode == outcome.REFUSED
    assert "nobody decides on a request of their own" in own.stderr
    assert "stockade identity create approver" in own.stderr
    rehearsal.cli("approvals", "review", "faces", **approver)
    rehearsal.cli("approvals", "approve", "faces", "--comment", "welcome", **approver)
    found = resources.resources.get_by_id(request_id(rehearsal, "faces"), api_version=VERSION)
    assert [entry["state"] for entry in found.properties["history"]] == ["Submitted", "UnderReview", "Approved"]
    assert available() == (True, None, [])
    assert create("face-e0").sku.name == "E0"
    assert available() == (False, "QuotaId", ["QuotaId"])
    assert [one.sku.name for one in cognitive.accounts.list_skus(rehearsal.resource_group, "face-e0").value] == ["E0"]
    with pytest.raises(HttpResponseError) as refused:
        cognitive.accounts.begin_update(rehearsal.resource_group, "face-e0", Account(sku=Sku(name="S0"))).result()
    assert (refused.value.status_code, refused.value.error.code) == (400, "InvalidSkuUpdate")

    wait_for(lambda: boxes.subjects("ops@example.com"), "the contact hears of it")
    assert boxes.subjects("boss@example.com") == [f"Request 'faces' (E0 for Face in {rehearsal.location}) was made"]
    assert boxes.subjects("ops@example.com") == [f"Request 'faces' (E0 for Face in {rehearsal.location}) is approved"]
    wait_for(lambda: len(boxes.hook.requests) == 2, "the webhook hears of both")
    assert all(is_signed(headers, body) for _, headers, body in boxes.hook.requests)

    # Who waits moves up when a deleted account is purged, which happens in the rehearsal's future.
    token = decider(rehearsal, approver)
    for name in ("second", "third"):
        ask(rehearsal, name)
        rehearsal.request("POST", f"{request_id(rehearsal, name)}/approve", {}, token=token)
    assert [shown(rehearsal, name).get("queuePosition") for name in ("second", "third")] == [1, 2]
    assert rehearsal.request("DELETE", rehearsal.account_id("face-e0")).status_code in (200, 202, 204)
    assert shown(rehearsal, "second")["state"] == "Queued"
    advance(rehearsal, "49h")
    wait_for(lambda: shown(rehearsal, "second")["state"] == "Approved", "the queue moves up")
    assert shown(rehearsal, "third")["queuePosition"] == 1
    deleted = f"/subscriptions/{rehearsal.subscription}/providers/Microsoft.CognitiveServices/deletedAccounts"
    assert rehearsal.request("GET", deleted).json()["value"] == []


def test_of_two_deciders_at_once_one_decides(rehearsal: Live, approver: Mapping[str, str]) -> None:
    ask(rehearsal, "race", "LUIS")
    token = decider(rehearsal, approver)

    def decide(action: str) -> int:
        path = f"{request_id(rehearsal, 'race')}/{action}"
        return int(rehearsal.request("POST", path, {"comment": "x"}, token=token).status_code)

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(decide, ("approve", "deny", "approve", "deny"))) == [200, 409, 409, 409]
    assert len(shown(rehearsal, "race")["history"]) == 2


def test_after_a_jump_tokens_have_ended_and_what_nobody_answered_is_overdue_until_time_is_set_back(
    rehearsal: Live, boxes: Letterboxes
) -> None:
    ask(rehearsal, "slow")
    token, before = rehearsal.token(), now(rehearsal)
    version = key(rehearsal, "create", {"kty": "EC", "crv": "P-256", "attributes": {"exp": int(before) + 5 * DAY}})
    path_of_key = version.json()["key"]["kid"].split("/keys/brief/")[1]
    digest = {"alg": "ES256", "value": "A" * 43}
    signed = key(rehearsal, f"{path_of_key}/sign", digest)
    assert signed.status_code == 200, signed.text
    path = request_id(rehearsal, "slow")
    assert rehearsal.request("GET", path, token=token).json()["properties"]["overdue"] is False
    advance(rehearsal, "10d")
    assert 10 * DAY - 60 < now(rehearsal) - before < 10 * DAY + 600
    assert rehearsal.request("GET", path, token=token).status_code == 401
    assert shown(rehearsal, "slow")["overdue"] is True
    ended = key(rehearsal, f"{path_of_key}/sign", digest)
    assert (ended.status_code, ended.json()["error"]["code"]) == (403, "Forbidden"), ended.text
    made = {"alg": "ES256", "digest": digest["value"], "value": signed.json()["value"]}
    assert key(rehearsal, f"{path_of_key}/verify", made).json() == {"value": True}
    assert "OVERDUE" in rehearsal.stockade("approvals", "list")
    wait_for(
        lambda: any("'slow'" in one and "is overdue" in one for one in boxes.subjects("boss@example.com")),
        "operators hear of it",
    )
    rehearsal.stockade("clock", "reset")
    assert abs(now(rehearsal) - time.time()) < 60
    rehearsal._token = ("", 0.0)
    assert shown(rehearsal, "slow")["overdue"] is False


def test_a_notice_outlives_the_process_that_was_delivering_it(rehearsal: Live, boxes: Letterboxes) -> None:
    """Killed when the receiver has it and has not said so: it comes again, as the same notice, and is noted once."""
    boxes.hook.answers = ["", "204 No Content"]
    before = len(boxes.hook.requests)
    ask(rehearsal, "survivor", "LUIS")
    wait_for(lambda: len(boxes.hook.requests) > before, "the receiver has it")
    killed = jobs_process(rehearsal)
    assert killed is not None
    os.kill(killed, signal.SIGKILL)

    def arrived() -> list[Any]:
        found = [one for one in boxes.hook.notices()[before:] if one["subject"].endswith("/survivor")]
        return found if len(found) > 1 else []

    first, second = wait_for(arrived, "it comes again")
    assert first == second
    path = f"/subscriptions/{rehearsal.subscription}/providers/Stockade.Access/notices"

    def noted() -> Any:
        found = rehearsal.request("GET", path).json()["value"]
        (one,) = (one for one in found if one["to"] == "webhook" and one["subject"].endswith("/survivor"))
        return one if one["state"] == "Delivered" else None

    assert wait_for(noted, "its delivery is noted")["attempts"] == 1
    assert "Delivered" in rehearsal.stockade("approvals", "notices")


def test_customers_hear_of_what_operators_ask_and_of_what_they_did_not_answer_in_four_days(
    rehearsal: Live, boxes: Letterboxes
) -> None:
    """After time was set back: the key broker does not go back behind the machine's time, which was never moved."""
    who, engineer = rehearsal.identity("keeper"), rehearsal.identity("engineer")
    rehearsal.stockade("identity", "assign", "keeper", "Owner")
    rehearsal.stockade("identity", "assign", "engineer", "Stockade Support Engineer")
    account = rehearsal.account_id("demo-openai")
    policy, key_of_keeper = f"{account}/providers/Stockade.Lockbox/policies/default", Signer("keeper", who["objectId"])

    def send(sender: Mapping[str, str], method: str, path: str, body: Any = None) -> Any:
        with rehearsal.credential(sender["clientId"], sender["clientSecret"]) as credential:
            token = credential.get_token("https://management.azure.com/.default").token
        reply = rehearsal.request(method, path, body, token=token)
        assert reply.status_code < 300, reply.text
        return reply.json()

    lockbox = "/providers/Microsoft.CustomerLockbox"
    assert rehearsal.request("POST", f"{lockbox}/enableLockbox").status_code == 200
    approvers = [msgspec.to_builtins(key_of_keeper.approver)]
    payload = send(who, "POST", f"{policy}/draft", {"approvers": approvers})["payload"]
    signature = msgspec.to_builtins(key_of_keeper.sign(from_base64url(payload)))
    bound = {"payload": payload, "signatures": [signature], "contacts": ["secops@example.com"]}
    send(who, "PUT", policy, {"properties": bound})
    name = new_guid()
    asked = {"account": account, "scope": ["files/*"], "reason": "case 7"}
    path = f"/subscriptions/{rehearsal.subscription}/providers/Stockade.Lockbox/requests/{name}"
    send(engineer, "PUT", path, {"properties": asked})

    def told(what: str) -> None:
        wait_for(
            lambda: any(name in one and what in one for one in boxes.subjects("secops@example.com")),
            f"the customer hears that it {what}",
        )

    told("waits for your decision")
    advance(rehearsal, "4d")
    found = rehearsal.request("GET", f"/subscriptions/{rehearsal.subscription}{lockbox}/requests/{name}").json()
    assert found["properties"]["status"] == "Expired"
    told("has lapsed")


def jobs_process(live: Live) -> int | None:
    found = subprocess.run(
        ["ps", "--ppid", str(live.pid), "-o", "pid=,args="], capture_output=True, text=True, check=False
    ).stdout
    return next((int(line.split()[0]) for line in found.splitlines() if "stockade.serve.jobs" in line), None)


def test_elsewhere_time_cannot_be_moved(live: Live) -> None:
    refused = live.cli("clock", "advance", "4d", check=False)
    assert refused.returncode == outcome.CONFLICT
    assert "was not made for rehearsals" in refused.stderr
    reply = requests.get(f"{live.arm}/healthz", verify=str(live.bundle), timeout=10)
    assert "x-stockade-simulated-time" not in reply.headers
