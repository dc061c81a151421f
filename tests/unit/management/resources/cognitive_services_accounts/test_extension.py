"""`properties.stockade`: read strictly, kept by clients that do not know it, compiled into the modes of the controls."""

from __future__ import annotations

from typing import Any

import pytest

from stockade.kernel.control import Control
from stockade.policy.snapshot import AccountPolicy
from stockade.settings import Settings
from tests.factories.arm import ACCOUNTS, Arm, account_body
from tests.factories.control_plane import CONTRIBUTOR, RG, ControlPlane

A1 = f"{ACCOUNTS}/a1"


def policy(arm: Arm) -> AccountPolicy:
    found: AccountPolicy = arm.snapshot().only("account", A1.lower())
    return found


def extended(arm: Arm, stockade: Any, **properties: Any) -> Any:
    return arm.account(properties={"customSubDomainName": "a1", "stockade": stockade, **properties})


def test_modes_reach_the_policy_and_everything_else_is_enforced(arm: Arm) -> None:
    body = extended(arm, {"controls": {"network": "report", "localAuth": "off", "dlp": "enforce"}})
    assert body["properties"]["stockade"] == {"controls": {"network": "report", "localAuth": "off", "dlp": "enforce"}}
    found = policy(arm)
    assert {control: found.mode(control) for control in Control} == {
        Control.NETWORK: "report",
        Control.DLP: "enforce",
        Control.OUTPUT: "off",
        Control.LOCAL_AUTH: "off",
        Control.RBAC: "enforce",
    }


def test_output_is_reported_where_outbound_access_is_restricted_unless_the_account_says_otherwise(arm: Arm) -> None:
    extended(arm, {}, restrictOutboundNetworkAccess=True, allowedFqdnList=["a.example"])
    assert policy(arm).mode(Control.OUTPUT) == "report"
    assert policy(arm).output is not None
    arm.ok("PATCH", A1, {"properties": {"stockade": {"controls": {"output": "off"}}}})
    assert policy(arm).output is None
    arm.ok("PATCH", A1, {"properties": {"stockade": {"controls": {"output": "enforce"}}}})
    assert policy(arm).mode(Control.OUTPUT) == "enforce"
    assert policy(arm).output is not None


def test_what_is_kept_is_said_by_the_extension_and_by_azures_own_property(arm: Arm) -> None:
    arm.account(properties={"customSubDomainName": "a1"})
    assert (policy(arm).keeps_content, policy(arm).keeps_completions) == (True, True)
    extended(arm, {"content": {"store": "off"}}, storedCompletionsDisabled=True)
    arm.account(properties={"customSubDomainName": "a1"})  # a PUT that does not name them
    assert (policy(arm).keeps_content, policy(arm).keeps_completions) == (False, False)
    arm.ok("PATCH", A1, {"properties": {"stockade": {"content": {"store": "on"}}, "storedCompletionsDisabled": False}})
    assert (policy(arm).keeps_content, policy(arm).keeps_completions) == (True, True)
    assert "storedCompletionsDisabled" in arm.fails(
        400, "InvalidRequestContent", "PATCH", A1, {"properties": {"storedCompletionsDisabled": "yes"}}
    )


def test_loss_prevention_that_is_off_looks_at_nothing(arm: Arm) -> None:
    extended(arm, {"controls": {"dlp": "off"}}, restrictOutboundNetworkAccess=True)
    assert policy(arm).outbound is None


@pytest.mark.parametrize(("said", "deep", "inline"), [(None, True, True), (False, False, False), (True, True, True)])
def test_depth_of_loss_prevention_is_set_per_account(arm: Arm, said: bool | None, deep: bool, inline: bool) -> None:
    dlp = {} if said is None else {"deepScan": said, "inlineContent": said}
    extended(arm, {"dlp": dlp}, restrictOutboundNetworkAccess=True)
    outbound = policy(arm).outbound
    assert outbound is not None
    assert (outbound.deep_scan, outbound.inline) == (deep, inline)


@pytest.mark.parametrize(
    ("stockade", "place"),
    [
        ({"control": {}}, ""),
        ({"controls": {"netwrok": "report"}}, ".controls"),
        ({"content": {"store": False}}, ".content.store"),
        ({"content": {"stored": "off"}}, ".content"),
        ({"controls": {"network": "Report"}}, ".controls.network"),
        ({"controls": {"rbac": True}}, ".controls.rbac"),
        ({"controls": []}, ".controls"),
        ({"dlp": {"deepScan": "yes"}}, ".dlp.deepScan"),
        ({"dlp": {"deepscan": True}}, ".dlp"),
    ],
)
def test_what_it_does_not_know_is_refused_and_changes_nothing(arm: Arm, stockade: Any, place: str) -> None:
    extended(arm, {"controls": {"network": "report"}})
    message = arm.fails(400, "InvalidRequestContent", "PATCH", A1, {"properties": {"stockade": stockade}})
    assert f"properties.stockade{place}'" in message
    assert policy(arm).mode(Control.NETWORK) == "report"


@pytest.mark.parametrize("strict", [False, True])
def test_clients_that_do_not_know_it_keep_it(tmp_path: Any, strict: bool) -> None:
    arm = Arm(tmp_path, Settings(data_dir=tmp_path, strict_parity=strict))
    extended(arm, {"controls": {"network": "report"}})
    arm.account(properties={"customSubDomainName": "a1"}, tags={"written": "by an older client"})
    assert policy(arm).mode(Control.NETWORK) == "report"
    arm.ok("PATCH", A1, {"properties": {"publicNetworkAccess": "Disabled"}})
    assert policy(arm).mode(Control.NETWORK) == "report"
    sent_back = arm.ok("GET", A1)
    arm.ok("PUT", A1, sent_back)
    assert policy(arm).mode(Control.NETWORK) == "report"
    arm.ok("PATCH", A1, {"properties": {"stockade": None}})
    assert policy(arm).mode(Control.NETWORK) == "enforce"


def test_lifting_the_role_check_needs_the_right_to_assign_roles(plane: ControlPlane) -> None:
    path = f"{RG}/providers/Microsoft.CognitiveServices/accounts/a1"
    writer = plane.principal("writer", (CONTRIBUTOR, RG))

    def set_to(mode: str) -> Any:
        return {"properties": {"stockade": {"controls": {"rbac": mode}}}}

    def mode() -> str:
        found: AccountPolicy = plane.source.current().only("account", path.lower())
        return found.mode(Control.RBAC)

    plane.ok("PUT", path, account_body({"customSubDomainName": "a1"}), by=writer)
    message = plane.fails(403, "AuthorizationFailed", "PATCH", path, set_to("report"), by=writer)
    assert "Microsoft.Authorization/roleAssignments/write" in message
    assert mode() == "enforce"
    plane.ok("PATCH", path, set_to("report"))
    assert mode() == "report"
    # Left as it is, and put back, it needs no more than any other change; going further does.
    plane.ok("PATCH", path, set_to("report"), by=writer)
    plane.fails(403, "AuthorizationFailed", "PATCH", path, set_to("off"), by=writer)
    plane.ok("PATCH", path, set_to("enforce"), by=writer)
    assert mode() == "enforce"


def test_same_put_twice_changes_nothing(arm: Arm) -> None:
    first = extended(arm, {"controls": {"network": "report"}, "dlp": {"deepScan": True}})
    second = arm.ok("PUT", A1, account_body(first["properties"]))
    assert second["properties"]["stockade"] == first["properties"]["stockade"]
