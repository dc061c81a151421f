"""Controls that are tried before they bite: `properties.stockade.controls`, on the data plane and through Azure's own clients."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from azure.mgmt.cognitiveservices.models import Account as ArmAccount
from azure.mgmt.cognitiveservices.models import AccountProperties, Sku
from azure.mgmt.resource.resources.models import GenericResource

from stockade.gateway.app import Gateway
from tests.factories.azure import Azure, new_name
from tests.factories.data_plane import CHAT, Account, Answer, DataPlane, ask
from tests.factories.engine import Engine, answers, engine, reply
from tests.live import Live

OK = reply(b'{"choices":[]}')


class Tried:
    """An account, its gateway, and one kind of caller each control refuses."""

    def __init__(self, folder: Path, running: Engine) -> None:
        self.running = running
        self.plane = DataPlane(folder, f"http://127.0.0.1:{running.port}/v1")
        self.account: Account = self.plane.account(
            networkAcls={"defaultAction": "Deny", "ipRules": [{"value": "192.0.2.1"}], "virtualNetworkRules": []},
            disableLocalAuth=True,
            restrictOutboundNetworkAccess=True,
            allowedFqdnList=["images.example.com"],
        )
        self.gateway: Gateway = self.plane.gateway()

    def set(self, **controls: str) -> None:
        self.plane.change(self.account, stockade={"controls": controls, "dlp": {"inlineContent": False}})

    async def call(
        self, *, url: str = "https://images.example.com/", token: str = "", client: str = "192.0.2.1:5"
    ) -> Answer:
        content = [{"type": "image_url", "image_url": {"url": url}}]
        body = json.dumps({"messages": [{"role": "user", "content": content}]}).encode()
        credential = ("authorization", f"Bearer {token}") if token else ("api-key", self.account.key)
        self.answer = await ask(self.gateway, self.account.path(CHAT), credential, body=body, client=client)
        return self.answer

    def last_record(self) -> dict[str, Any]:
        return self.plane.record_of(self.gateway, self.answer)


@pytest.fixture
async def tried(tmp_path: Path) -> AsyncIterator[Tried]:
    async with engine(answers(OK)) as running:
        yield Tried(tmp_path, running)


async def test_each_control_refuses_lets_pass_and_reports_or_is_not_asked(tried: Tried) -> None:
    _, insider = tried.plane.caller("insider")
    _, outsider = tried.plane.caller("outsider", None)
    cases: dict[str, tuple[str, dict[str, str], int]] = {
        "network": ("network", {"token": insider, "client": "198.51.100.9:5"}, 403),
        "dlp": ("outbound", {"token": insider, "url": "https://evil.example/?s3cr3t"}, 400),
        "localAuth": ("local-auth", {}, 403),
        "rbac": ("role", {"token": outsider}, 401),
    }
    for control, (rule, request, status) in cases.items():
        tried.set()
        refused = await tried.call(**request)
        assert (refused.status, tried.last_record()["rule"]) == (status, rule), control
        tried.set(**{control: "report"})
        assert (await tried.call(**request)).status == 200, control
        record = tried.last_record()
        assert (record["decision"], [one["rule"] for one in record["reported"]]) == ("allow", [rule])
        assert "s3cr3t" not in json.dumps(record)
        tried.set(**{control: "off"})
        assert (await tried.call(**request)).status == 200, control
        assert "reported" not in tried.last_record()


async def test_what_is_reported_at_the_head_is_recorded_for_every_request_and_not_only_for_the_first(
    tried: Tried,
) -> None:
    tried.set(localAuth="report")
    for _ in range(3):
        assert (await tried.call()).status == 200
        assert [one["rule"] for one in tried.last_record()["reported"]] == ["local-auth"]


async def test_control_in_report_does_not_loosen_another(tried: Tried) -> None:
    tried.set(network="report")
    refused = await tried.call(client="198.51.100.9:5")
    assert (refused.status, refused.code) == (403, "AuthenticationTypeDisabled")
    record = tried.last_record()
    assert (record["rule"], [one["rule"] for one in record["reported"]]) == ("local-auth", ["network"])


async def test_report_does_not_let_in_whose_credential_does_not_hold(tried: Tried) -> None:
    tried.set(network="report", dlp="report", localAuth="report", rbac="report")
    wrong = await ask(tried.gateway, tried.account.path(CHAT), ("api-key", "wrong"))
    assert wrong.status == 401
    assert (await ask(tried.gateway, tried.account.path(CHAT))).status == 401


def test_azures_management_clients_set_the_extension_and_carry_it_along_untouched(live: Live, azure: Azure) -> None:
    group, name = azure.new_group(), new_name("controls")
    wanted = {"controls": {"network": "report"}, "dlp": {"deepScan": True}}
    accounts, resources = azure.cognitive.accounts, azure.resources.resources
    account = ArmAccount(
        kind="OpenAI",
        location=live.environment["STOCKADE_LOCATION"],
        sku=Sku(name="S0"),
        properties=AccountProperties(custom_sub_domain_name=name),
    )
    made = accounts.begin_create(group, name, account).result()
    assert made.id is not None

    def stored() -> Any:
        return resources.get_by_id(str(made.id), api_version="2025-09-01").properties["stockade"]

    # The client for any resource sets it; the one for accounts does not know it, and loses it on neither of its ways to write.
    resources.begin_update_by_id(
        made.id, GenericResource(properties={"stockade": wanted}), api_version="2025-09-01"
    ).result()
    assert stored() == wanted
    read = accounts.get(group, name)
    read.tags = {"seen": "by the client"}
    accounts.begin_create(group, name, read).result()
    assert stored() == wanted
    change = ArmAccount(properties=AccountProperties(public_network_access="Disabled"))
    accounts.begin_update(group, name, change).result()
    assert stored() == wanted
    assert accounts.get(group, name).tags == {"seen": "by the client"}
