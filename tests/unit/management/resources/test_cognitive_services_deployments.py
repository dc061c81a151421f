from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stockade.management.cognitive_services import models
from stockade.settings import Model, Settings, Upstream
from tests.factories.arm import ACCOUNTS, BY_SUBSCRIPTION, Arm

A1 = f"{ACCOUNTS}/a1"
CHAT = f"{A1}/deployments/chat"
MODEL = {"format": "OpenAI", "name": "smollm2-135m-instruct", "version": "1"}


def body(**changes: Any) -> Any:
    return {"sku": {"name": "Standard", "capacity": 5}, "properties": {"model": MODEL}, **changes}


@pytest.fixture(autouse=True)
def account(arm: Arm) -> None:
    arm.account()


def policy(arm: Arm, name: str = "chat") -> Any:
    return arm.snapshot().only("deployment", (A1.lower(), name))


def test_deployment_is_ready_at_once_and_in_force(arm: Arm) -> None:
    reply = arm.send("PUT", CHAT, body())
    assert reply.status == 201
    assert reply.body["properties"]["provisioningState"] == "Succeeded"
    assert reply.body["properties"]["rateLimits"] == [{"key": "request", "renewalPeriod": 60, "count": 30}]
    assert reply.body["properties"]["capabilities"]["chatCompletion"] == "true"
    found = policy(arm)
    assert (found.name, found.model, found.model_version, found.calls_per_minute) == ("chat", MODEL["name"], "1", 30)
    assert arm.snapshot().all("deployments-of", A1.lower()) == (found,)
    assert arm.send("PUT", CHAT, body()).status == 200


def test_the_same_put_twice_changes_nothing(arm: Arm) -> None:
    sent = body(
        tags={"a": "b"},
        properties={
            "model": MODEL,
            "raiPolicyName": "Microsoft.DefaultV2",
            "dynamicThrottlingEnabled": True,
            "later": 1,
        },
    )
    first = arm.ok("PUT", CHAT, sent)
    second = arm.ok("PUT", CHAT, first)
    for reply in (first, second):
        del reply["etag"], reply["systemData"]
    assert first == second


def test_defaults(arm: Arm) -> None:
    made = arm.ok("PUT", CHAT, {"properties": {"model": {"format": "openai", "name": "SmolLM2-135M-Instruct"}}})
    assert made["sku"] == {"name": "Standard", "capacity": 1}
    assert made["properties"]["model"] == MODEL
    assert made["properties"]["versionUpgradeOption"] == "OnceNewDefaultVersionAvailable"


def test_older_templates_send_scale_settings(arm: Arm) -> None:
    made = arm.ok(
        "PUT", CHAT, {"properties": {"model": MODEL, "scaleSettings": {"scaleType": "Standard", "capacity": 7}}}
    )
    assert made["sku"] == {"name": "Standard", "capacity": 7}


def test_patch_changes_capacity_alone(arm: Arm) -> None:
    arm.ok("PUT", CHAT, body(tags={"a": "b"}))
    patched = arm.ok("PATCH", CHAT, {"sku": {"name": "Standard", "capacity": "9"}})
    assert (patched["sku"]["capacity"], patched["tags"], patched["properties"]["model"]) == (9, {"a": "b"}, MODEL)
    assert policy(arm).calls_per_minute == 54
    arm.fails(404, "ResourceNotFound", "PATCH", f"{A1}/deployments/none", {"tags": {}})


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ({"properties": {}}, "InvalidResourceProperties"),
        ({"properties": {"model": {"name": "smollm2-135m-instruct"}}}, "InvalidResourceProperties"),
        ({"properties": {"model": {**MODEL, "name": "gpt-4o"}}}, "DeploymentModelNotSupported"),
        ({"properties": {"model": {**MODEL, "version": "2"}}}, "DeploymentModelNotSupported"),
        ({"properties": {"model": {**MODEL, "format": "Cohere"}}}, "DeploymentModelNotSupported"),
        ({"sku": {"name": "Imaginary"}}, "InvalidResourceProperties"),
        ({"sku": {"name": "Standard", "capacity": 0}}, "InvalidCapacity"),
        ({"sku": {"name": "Standard", "capacity": 10_001}}, "InvalidResourceProperties"),
        ({"properties": {"model": MODEL, "versionUpgradeOption": "Sometimes"}}, "InvalidResourceProperties"),
    ],
)
def test_refusals(arm: Arm, sent: Any, code: str) -> None:
    arm.fails(400, code, "PUT", CHAT, {**body(), **sent})
    assert policy(arm) is None


def test_unknown_models_are_refused_by_naming_the_known_ones(arm: Arm) -> None:
    message = arm.fails(
        400, "DeploymentModelNotSupported", "PUT", CHAT, body(properties={"model": {**MODEL, "name": "gpt-4o"}})
    )
    assert "smollm2-135m-instruct (OpenAI, version 1)" in message


def test_kinds_without_models_have_no_deployments(arm: Arm) -> None:
    arm.account("f1", kind="Face")
    arm.fails(400, "InvalidResourceProperties", "PUT", f"{ACCOUNTS}/f1/deployments/chat", body())


def test_names_are_bounded(arm: Arm) -> None:
    arm.ok("PUT", f"{A1}/deployments/{'x' * 64}", body())
    arm.fails(400, "InvalidResourceName", "PUT", f"{A1}/deployments/{'x' * 65}", body())


def test_no_deployment_without_an_account(arm: Arm) -> None:
    arm.fails(404, "ParentResourceNotFound", "PUT", f"{ACCOUNTS}/none/deployments/chat", body())


def test_delete_and_list(arm: Arm) -> None:
    arm.ok("PUT", CHAT, body())
    arm.ok(
        "PUT", f"{A1}/deployments/embed", body(properties={"model": {"format": "OpenAI", "name": "all-minilm-l6-v2"}})
    )
    assert [entry["name"] for entry in arm.ok("GET", f"{A1}/deployments")["value"]] == ["chat", "embed"]
    assert arm.ok("GET", f"{CHAT}/skus")["value"][0]["sku"]["name"] == "Standard"
    arm.ok("DELETE", CHAT)
    assert arm.send("DELETE", CHAT).status == 204
    assert policy(arm) is None


def test_quota_is_counted_over_the_subscription(arm: Arm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "QUOTA", 10)
    arm.ok("PUT", CHAT, body())
    arm.account("a2")
    arm.fails(
        400,
        "InsufficientQuota",
        "PUT",
        f"{ACCOUNTS}/a2/deployments/chat",
        body(sku={"name": "Standard", "capacity": 6}),
    )
    arm.ok("PUT", f"{ACCOUNTS}/a2/deployments/chat", body())
    arm.ok("PUT", CHAT, body())  # its own share does not count against it
    usage = {
        entry["name"]["value"]: entry for entry in arm.ok("GET", f"{BY_SUBSCRIPTION}/locations/local/usages")["value"]
    }
    assert usage["OpenAI.Standard.smollm2-135m-instruct"]["currentValue"] == 10
    assert usage["OpenAI.Standard.all-minilm-l6-v2"]["currentValue"] == 0


def test_models_of_the_settings_can_be_deployed(tmp_path: Path) -> None:
    own = tuple(
        Model(name="llama", version=version, upstream=Upstream(url="http://127.0.0.1:9/v1")) for version in ("1", "2")
    )
    folder = tmp_path / "own"
    folder.mkdir()
    arm = Arm(folder, Settings(data_dir=folder, models=own))
    arm.account()
    made = arm.ok("PUT", CHAT, {"properties": {"model": {"format": "OpenAI", "name": "llama"}}})
    assert made["properties"]["model"]["version"] == "2"
    listed = {(m["name"], m["version"]): m for m in arm.ok("GET", f"{A1}/models")["value"]}
    assert (listed["llama", "1"]["isDefaultVersion"], listed["llama", "2"]["isDefaultVersion"]) == (False, True)
    assert "note" not in listed["llama", "2"]["capabilities"]
