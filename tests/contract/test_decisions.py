"""Why, what if, and what would have been: asked of a real server by those who were refused, and made good by what they are told."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.live import Live, wait_for

if TYPE_CHECKING:
    from tests.factories.azure import Account, Answer, Azure

CANARY = "CANARY-7f3a"


def explain(live: Live, answer: Answer) -> Any:
    """Ask about an answer as its caller knows it, by the id in its header."""
    return json.loads(live.stockade("explain", answer.headers["apim-request-id"], "--format", "json"))


def outcome(told: Any, step: str) -> str:
    return str(next(one["outcome"] for one in told["steps"] if one["step"] == step))


def patch(azure: Azure, account: Account, **properties: Any) -> None:
    answer = azure.arm("PATCH", account.id, {"properties": properties}, "2025-09-01")
    assert answer.status == 200, answer.body


def chat(azure: Azure, account: Account, headers: Mapping[str, str], *hosts: str) -> Answer:
    """Send a chat request whose data sources lie on hosts, with canaries wherever a secret could stand."""
    sources = [
        {
            "type": "azure_search",
            "parameters": {"endpoint": f"https://{host}/{CANARY}?sig={CANARY}", "key": CANARY},
        }
        for host in hosts
    ]
    body = {
        "messages": [{"role": "user", "content": CANARY}],
        **({"data_sources": sources} if sources else {}),
        "max_tokens": 1,
    }
    url = f"{account.endpoint}openai/deployments/chat/chat/completions?api-version=2024-10-21"
    return azure.send("POST", url, {**headers, "user-agent": "who/1"}, body)


def key(account: Account) -> dict[str, str]:
    return {"api-key": account.key1}


def report(live: Live, account: Account, control: str, *flags: str, refused: int | None = None) -> Any:
    """Return a report once it counts so many refusals, real ones and would-be ones together."""

    def told() -> Any:
        found = json.loads(
            live.stockade("report", account.id, "--control", control, "--format", "json").split("\nApplied")[0]
        )
        return found if refused is None or found["refused"] + found["wouldRefuse"] >= refused else None

    seen = wait_for(told, f"{refused} refusals are counted")
    if flags:
        live.stockade("report", account.id, "--control", control, *flags)
    return seen


def test_refused_address_learns_the_rule_and_is_let_in_by_what_helps(live: Live, azure: Azure) -> None:
    rules = {"defaultAction": "Deny", "ipRules": [{"value": "127.0.1.0/24"}]}
    account = azure.new_account(networkAcls=rules)
    answer = azure.models(account, key(account))
    assert answer.status == 403
    told = explain(live, answer)
    assert (told["rule"], outcome(told, "network"), outcome(told, "credential")) == ("network", "refused", "notReached")
    assert any("127.0.1.0/24" in one["what"] for one in told["wouldHelp"])
    command = next(one["command"] for one in told["wouldHelp"] if "command" in one)
    words = shlex.split(command)
    assert words[:4] == ["az", "cognitiveservices", "account", "network-rule"]
    address = words[words.index("--ip-address") + 1]
    patch(azure, account, networkAcls={**rules, "ipRules": [*rules["ipRules"], {"value": address}]})
    assert azure.models(account, key(account)).status == 200
    assert explain(live, answer)["now"]["verdict"] == "allow"


def test_network_rules_are_learned_in_report_and_then_enforced(live: Live, azure: Azure, tmp_path: Path) -> None:
    account = azure.new_account(networkAcls={"defaultAction": "Deny", "ipRules": []})
    live.stockade("account", "controls", account.name, "--network", "report")
    answers = [azure.models(account, key(account)) for _ in range(3)]
    assert [answer.status for answer in answers] == [200] * 3
    assert outcome(explain(live, answers[-1]), "network") == "reported"
    found = report(live, account, "network", refused=3)
    assert (found["wouldRefuse"], found["refused"], found["proposal"]["adds"]) == (3, 0, ["127.0.0.1"])
    file = tmp_path / "patch.json"
    live.stockade("report", account.name, "--control", "network", "--patch", str(file))
    enforced = json.loads(file.read_text())
    enforced["properties"]["stockade"] = {"controls": {"network": "enforce"}}
    file.write_text(json.dumps(enforced))
    said = json.loads(
        live.stockade("what-if", "--account", account.name, "--last", "100", "--patch", str(file), "--format", "json")
    )
    assert (said["comparison"]["newlyRefused"], said["comparison"]["judged"]) == (0, 3)
    assert azure.arm("PATCH", account.id, enforced, "2025-09-01").status == 200
    assert azure.models(account, key(account)).status == 200


def test_hosts_are_learned_in_report_and_then_enforced(live: Live, azure: Azure) -> None:
    account = azure.new_account(
        capacities={"chat": 1000}, restrictOutboundNetworkAccess=True, allowedFqdnList=["known.example"]
    )
    refused = chat(azure, account, key(account), "one.example", "two.example")
    assert refused.json["error"]["innererror"]["code"] == "OutboundUriNotAllowed"
    told = explain(live, refused)
    assert outcome(told, "outbound") == "refused"
    assert {one["command"].rsplit(" ", 1)[-1] for one in told["wouldHelp"]} == {"one.example", "two.example"}, told[
        "wouldHelp"
    ]
    live.stockade("account", "controls", account.name, "--dlp", "report")
    assert "OutboundUriNotAllowed" not in str(chat(azure, account, key(account), "three.example").body)
    found = report(live, account, "dlp", refused=3)
    assert found["proposal"]["patch"]["properties"]["allowedFqdnList"] == [
        "known.example",
        "one.example",
        "three.example",
        "two.example",
    ]
    assert "Applied." in live.stockade("report", account.name, "--control", "dlp", "--apply", "--yes")
    live.stockade("account", "controls", account.name, "--dlp", "enforce")
    again = chat(azure, account, key(account), "one.example", "two.example", "three.example")
    assert "OutboundUriNotAllowed" not in str(again.body)
    assert explain(live, again)["verdict"] == "allow"


def test_missing_role_is_named_and_assigned(live: Live, azure: Azure) -> None:
    account, caller = azure.new_account(), azure.new_principal()
    bearer = {"authorization": f"Bearer {azure.token(caller)}"}
    answer = azure.models(account, bearer)
    assert answer.status == 401
    told = explain(live, answer)
    [step] = [one for one in told["steps"] if one["step"] == "credential"]
    assert (told["rule"], step["facts"]["principal"], step["facts"]["kind"]) == ("role", caller.object_id, "token")
    words = shlex.split(told["wouldHelp"][0]["command"])
    role = words[words.index("--role") + 1]
    draft = ["what-if", "--decision", told["id"], "--assign", f"{caller.object_id}={role}", "--format", "json"]
    assert json.loads(live.stockade(*draft))["comparison"]["newlyAllowed"] == 1
    azure.assign(role, words[words.index("--scope") + 1], caller.object_id)
    assert azure.models(account, bearer).status == 200


def test_roles_are_learned_in_report_and_applied(live: Live, azure: Azure) -> None:
    account, caller = azure.new_account(), azure.new_principal()
    live.stockade("account", "controls", account.name, "--rbac", "report")
    bearer = {"authorization": f"Bearer {azure.token(caller)}"}
    assert azure.models(account, bearer).status == 200
    found = report(live, account, "rbac", refused=1)
    assert [one["principalId"] for one in found["proposal"]["assignments"]] == [caller.object_id]
    live.stockade("report", account.name, "--control", "rbac", "--apply", "--yes")
    live.stockade("account", "controls", account.name, "--rbac", "enforce")
    assert azure.models(account, bearer).status == 200


def test_users_of_keys_are_found_before_keys_are_switched_off(live: Live, azure: Azure) -> None:
    account = azure.new_account()
    patch(azure, account, disableLocalAuth=True, stockade={"controls": {"localAuth": "report"}})
    assert azure.models(account, key(account)).status == 200
    assert azure.models(account, {"api-key": account.key2}).status == 200
    found = report(live, account, "localAuth", refused=2)
    assert sorted(one["key"] for one in found["proposal"]["adds"]) == ["Key1", "Key2"]
    assert all(one["role"] for one in found["proposal"]["adds"])
    live.stockade("account", "controls", account.name, "--local-auth", "enforce")
    answer = azure.models(account, key(account))
    assert answer.status == 403
    assert explain(live, answer)["rule"] == "local-auth"


def test_wrong_key_missing_credential_and_unknown_operation_are_explained(live: Live, azure: Azure) -> None:
    account = azure.new_account()
    wrong = explain(live, azure.models(account, {"api-key": "wrong"}))
    assert (wrong["rule"], wrong["wouldHelp"][0]["command"]) == ("credential", f"stockade keys show {account.name}")
    none = explain(live, azure.models(account, {}))
    assert none["wouldHelp"][0]["command"] == f"stockade env --account {account.name}"
    nothing = explain(live, azure.get(f"{account.endpoint}openai/nothing?api-version=2024-10-21", key(account)))
    assert nothing["rule"] == "operation"


def test_nobodys_address_is_explained_to_the_administrator(live: Live, azure: Azure) -> None:
    answer = azure.get(f"{live.data}/nobody-is-here/openai/models?api-version=2024-10-21")
    told = explain(live, answer)
    assert (answer.status, told["rule"], told["accountId"], told["now"]["verdict"]) == (404, "address", "", "unknown")


def test_explanation_is_readable(live: Live, azure: Azure) -> None:
    account = azure.new_account(networkAcls={"defaultAction": "Deny", "ipRules": []})
    answer = azure.models(account, key(account))
    text = live.stockade("explain", answer.headers["x-stockade-decision"])
    assert "refused by network: NetworkDenied, status 403" in text
    assert re.search(r"^  x Network ", text, re.MULTILINE)
    assert "Would help (Network)" in text
    # The server works for others too: a notice sent or a key wrapped anew is a newer policy.
    assert "(the policy is the same)" in text or "(the policy has changed since)" in text


def test_no_body_no_secret_and_no_rest_of_a_uri_is_kept_or_told(live: Live, azure: Azure) -> None:
    account = azure.new_account(
        capacities={"chat": 1000}, restrictOutboundNetworkAccess=True, allowedFqdnList=["good.example"]
    )
    answer = chat(azure, account, key(account), "good.example", "evil.example")
    told = json.dumps(explain(live, answer)) + live.stockade("explain", answer.headers["apim-request-id"])
    assert "evil.example" in told
    stored = b"".join(path.read_bytes() for path in live.data_dir.glob("decisions.db*"))
    assert b"evil.example" in stored
    for secret in (CANARY, account.key1, account.key2):
        assert secret not in told
        assert secret.encode() not in stored


@pytest.mark.parametrize(
    ("role", "status"), [("Reader", 403), ("Cognitive Services OpenAI User", 403), ("Contributor", 200)]
)
def test_only_who_may_explain_may_ask(live: Live, azure: Azure, role: str, status: int) -> None:
    from tests.factories.azure import ARM_SCOPE

    account, caller = azure.new_account(), azure.new_principal()
    azure.assign(role, account.id, caller.object_id)
    decision = azure.models(account, key(account)).headers["apim-request-id"]
    explain_as_administrator = live.stockade("explain", decision, "--format", "json")
    assert json.loads(explain_as_administrator)["accountId"].lower() == account.id.lower()
    token = azure.token(caller, ARM_SCOPE)
    for method, path in (("GET", "decisions"), ("GET", f"decisions/{decision}"), ("POST", "whatIf")):
        body = {"last": 1} if method == "POST" else None
        assert azure.arm(method, f"{account.id}/{path}", body, "2025-09-01", token).status == status
    anywhere = azure.arm("GET", f"/providers/Stockade.Policy/decisions/{decision}", None, "2025-09-01", token)
    assert anywhere.status == (200 if status == 200 else 404)


def test_who_has_no_role_here_learns_nothing(live: Live, azure: Azure) -> None:
    from tests.factories.azure import ARM_SCOPE

    account, caller = azure.new_account(), azure.new_principal()
    decision = azure.models(account, key(account)).headers["apim-request-id"]
    live.stockade("explain", decision)
    token = azure.token(caller, ARM_SCOPE)
    for known in (decision, "00000000-0000-4000-8000-000000000000"):
        answer = azure.arm("GET", f"/providers/Stockade.Policy/decisions/{known}", None, "2025-09-01", token)
        assert (answer.status, answer.json["error"]["code"]) == (404, "DecisionNotFound")


def test_what_if_of_a_described_request(live: Live, azure: Azure, tmp_path: Path) -> None:
    account = azure.new_account(capacities={"chat": 1})
    draft = tmp_path / "draft.json"
    draft.write_text(
        json.dumps({"properties": {"restrictOutboundNetworkAccess": True, "allowedFqdnList": ["a.example"]}})
    )
    flags = ["--account", account.name, "--operation", "ChatCompletions_Create", "--key", "Key1", "--patch", str(draft)]
    text = live.stockade("what-if", *flags, "--uri", "https://b.example/x")
    assert "now             allowed" in text
    assert "with the draft  refused by outbound" in text
    assert "with the draft  allowed" in live.stockade("what-if", *flags, "--uri", "https://a.example/x")
    properties = azure.cognitive.accounts.get(account.group, account.name).properties
    assert not properties.restrict_outbound_network_access


def test_what_makes_no_sense_ends_with_a_documented_code(live: Live, azure: Azure, tmp_path: Path) -> None:
    account = azure.new_account()
    live.stockade("explain", "no-id", fails=2)
    live.stockade("explain", "00000000-0000-4000-8000-000000000000", fails=4)
    live.stockade("what-if", "--last", "5", fails=2)
    (tmp_path / "no.json").write_text("[]")
    live.stockade("what-if", "--account", account.name, "--last", "5", "--patch", str(tmp_path / "no.json"), fails=2)
    live.stockade("report", account.name, "--control", "dlp", "--since", "ever", fails=7)
    live.stockade("report", account.name, "--control", "dlp", "--apply", "--yes", fails=4)


def test_decisions_outlive_a_restart(live_server: Any) -> None:
    from tests.factories.azure import Azure, models_url

    server = live_server("--workers", "1")
    azure = Azure(server)
    answer = azure.get(models_url(f"{server.data}/demo-openai/"), {"api-key": "wrong"})
    assert server.stop() == 0
    server.start_again()
    assert explain(server, answer)["rule"] == "credential"
