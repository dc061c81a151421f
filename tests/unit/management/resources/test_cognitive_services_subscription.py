from __future__ import annotations

from pathlib import Path

import pytest

from stockade.settings import Settings
from tests.factories.arm import ACCOUNTS, BY_SUBSCRIPTION, Arm, account_body

TYPE = "Microsoft.CognitiveServices/accounts"
LOCAL = f"{BY_SUBSCRIPTION}/locations/local"


def test_skus_name_every_kind_and_restrict_e0(arm: Arm) -> None:
    skus = arm.ok("GET", f"{BY_SUBSCRIPTION}/skus")["value"]
    openai = [entry for entry in skus if entry["kind"] == "OpenAI"]
    assert [(entry["name"], entry["tier"]) for entry in openai] == [("S0", "Standard"), ("E0", "Standard")]
    assert openai[0]["restrictions"] == []
    assert {"LOCAL", "EASTUS"} <= set(openai[0]["locations"])
    closed = [entry for entry in skus if entry["name"] == "E0"]
    assert {entry["kind"] for entry in closed} == {entry["kind"] for entry in skus}
    for entry in closed:
        assert [restriction["reasonCode"] for restriction in entry["restrictions"]] == ["NotAvailableForSubscription"]
        assert entry["restrictions"][0]["values"] == entry["locations"]


def test_in_strict_parity_e0_is_where_azure_has_it(tmp_path: Path) -> None:
    arm = Arm(tmp_path, Settings(data_dir=tmp_path, strict_parity=True))
    skus = arm.ok("GET", f"{BY_SUBSCRIPTION}/skus")["value"]
    closed = {entry["kind"] for entry in skus if entry["name"] == "E0"}
    assert closed == {"ContentModerator", "Face", "LUIS", "LUIS.Authoring", "Personalizer"}
    asked = {"skus": ["E0"], "kind": "OpenAI", "type": TYPE}
    assert arm.ok("POST", f"{LOCAL}/checkSkuAvailability", asked)["value"][0]["reason"] == "NotAvailable"
    arm.fails(400, "SkuNotAvailable", "PUT", f"{ACCOUNTS}/a1", account_body(sku={"name": "E0"}))


def test_models_say_what_they_are(arm: Arm) -> None:
    listed = arm.ok("GET", f"{LOCAL}/models")["value"]
    assert {(entry["kind"], entry["model"]["name"]) for entry in listed} == {
        (kind, model) for kind in ("OpenAI", "AIServices") for model in ("smollm2-135m-instruct", "all-minilm-l6-v2")
    }
    assert all(entry["description"].startswith("built-in ") for entry in listed)


def test_unknown_locations_are_refused(arm: Arm) -> None:
    arm.fails(400, "LocationNotAvailableForResourceType", "GET", f"{BY_SUBSCRIPTION}/locations/atlantis/models")
    assert arm.ok("GET", f"{BY_SUBSCRIPTION}/locations/EastUS/usages")["value"]


def test_sku_availability(arm: Arm) -> None:
    asked = {"skus": ["S0", "E0", "X9"], "kind": "Face", "type": TYPE}
    answers = arm.ok("POST", f"{LOCAL}/checkSkuAvailability", asked)["value"]
    assert [(answer["skuName"], answer["skuAvailable"], answer.get("reason")) for answer in answers] == [
        ("S0", True, None),
        ("E0", False, "NotAvailableForSubscription"),
        ("X9", False, "NotAvailable"),
    ]
    arm.fails(400, "BadRequest", "POST", f"{LOCAL}/checkSkuAvailability", {"kind": "Face", "type": TYPE})


@pytest.mark.parametrize(
    ("name", "free"),
    [("fresh-name", True), ("taken", False), ("Taken", False), ("openai", False), ("x", False), ("a_b", False)],
)
def test_domain_availability(arm: Arm, name: str, free: bool) -> None:
    arm.account(properties={"customSubDomainName": "taken"})
    answer = arm.ok(
        "POST", f"{BY_SUBSCRIPTION}/checkDomainAvailability", {"subdomainName": name, "type": TYPE, "kind": "OpenAI"}
    )
    assert answer["isSubdomainAvailable"] is free
    assert ("reason" in answer) is not free
    assert (answer["subdomainName"], answer["type"], answer["kind"]) == (name, TYPE, "OpenAI")


def test_capacity_questions(arm: Arm) -> None:
    model = {"format": "OpenAI", "name": "smollm2-135m-instruct", "version": "1"}
    asked = {"model": model, "skuName": "Standard", "workloads": [{"requestPerMinute": 13}]}
    assert arm.ok("POST", f"{BY_SUBSCRIPTION}/calculateModelCapacity", asked)["estimatedCapacity"] == {
        "value": 3,
        "deployableValue": 3,
    }
    query = "?modelFormat=OpenAI&modelName=smollm2-135m-instruct&modelVersion=1"
    assert (
        arm.ok("GET", f"{BY_SUBSCRIPTION}/modelCapacities{query}")["value"][0]["properties"]["availableCapacity"]
        == 100_000
    )
    assert arm.ok("GET", f"{LOCAL}/modelCapacities{query}")["value"][0]["location"] == "local"
    assert arm.ok("GET", f"{LOCAL}/modelCapacities?modelFormat=OpenAI&modelName=none") == {"value": []}


def test_operations_are_read_from_the_shelf(arm: Arm) -> None:
    names = {entry["name"] for entry in arm.ok("GET", "/providers/Microsoft.CognitiveServices/operations")["value"]}
    assert {
        f"{TYPE}/read",
        f"{TYPE}/listKeys/action",
        f"{TYPE}/deployments/write",
        f"{TYPE}/listKeyUsage/action",
    } <= names
    assert f"{TYPE}/networkSecurityPerimeterConfigurations/write" not in names


def test_lists_of_what_there_is_not(arm: Arm) -> None:
    for path in (
        f"{BY_SUBSCRIPTION}/commitmentPlans",
        f"{ACCOUNTS.removesuffix('/accounts')}/commitmentPlans",
        f"{LOCAL}/commitmentTiers",
    ):
        assert arm.ok("GET", path) == {"value": []}
    assert arm.ok("GET", f"{LOCAL}/raiContentFilters") == {"value": []}


def test_purging_takes_a_right_at_the_subscription(arm: Arm) -> None:
    arm.account()
    arm.ok("DELETE", f"{ACCOUNTS}/a1")
    reply = arm.send(
        "DELETE", f"{LOCAL}/resourceGroups/rg1/deletedAccounts/a1", as_principal="33333333-3333-4333-8333-333333333333"
    )
    assert reply.status == 403
    assert arm.ok("GET", f"{BY_SUBSCRIPTION}/deletedAccounts")["value"]
