"""How explanations and drafts are printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from stockade.cli import decisions
from stockade.cli.account import is_wanted, mode_of

STEP = {
    "step": "network",
    "title": "Network",
    "outcome": "reported",
    "says": "Access denied.",
    "facts": {},
    "mode": "report",
}
URIS = [
    {"place": "a.url", "scheme": "https", "host": "good.example", "declared": True},
    {"place": "b.url", "scheme": "https", "host": "evil.example", "port": "8443", "declared": True, "refused": "host"},
    {"place": "c.url", "scheme": "", "host": "", "declared": True, "refused": "unreadable"},
]
TOLD: dict[str, Any] = {
    "id": "i", "time": "t", "accountId": "/a", "verdict": "deny", "rule": "outbound", "reason": "OutboundDenied", "status": 400,
    "steps": [STEP, {"step": "outbound", "title": "URIs in the request", "outcome": "refused", "says": "No.", "facts": {"uris": URIS}}],
    "wouldHelp": [{"rule": "outbound", "what": "List evil.example.", "command": "az x"}, {"rule": "network", "what": "A rule."}],
    "now": {"verdict": "unknown", "because": "nobody looked", "policyChanged": True},
}  # fmt: skip


def test_explanation_marks_each_step_and_groups_what_helps() -> None:
    assert list(decisions.explanation(TOLD)) == [
        "i  t  refused by outbound: OutboundDenied, status 400",
        "Account  /a",
        "  ! Network              Access denied.  [report]",
        "  x URIs in the request  No.",
        "                         a.url: good.example allowed",
        "                         b.url: evil.example:8443 not allowed (host)",
        "                         c.url: unreadable not allowed (unreadable)",
        "Would help (URIs in the request)",
        "  List evil.example.",
        "    az x",
        "Would help (Network)",
        "  A rule.",
        "Now  cannot be told: nobody looked (the policy has changed since)",
    ]


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (
            {"verdict": "allow", "reported": [], "policyChanged": False},
            "the same request would be allowed (the policy is the same)",
        ),
        (
            {"verdict": "allow", "reported": [{"rule": "network"}], "policyChanged": True},
            "the same request would be allowed, reported by network (the policy has changed since)",
        ),
        (
            {"verdict": "deny", "rule": "role", "reason": "PermissionDenied", "reported": [], "policyChanged": True},
            "the same request would be refused by role: PermissionDenied (the policy has changed since)",
        ),
    ],
)
def test_what_would_be_now_is_said(now: dict[str, Any], said: str) -> None:
    *_, last = decisions.explanation({**TOLD, "now": now})
    assert last == f"Now  {said}"


def test_draft_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "draft.json"
    file.write_text(json.dumps({"properties": {}}))
    assert decisions.read_patch(file) == {"properties": {}}
    for wrong in ("[]", "{", '"x"'):
        file.write_text(wrong)
        with pytest.raises(typer.BadParameter):
            decisions.read_patch(file)
    with pytest.raises(typer.BadParameter):
        decisions.read_patch(tmp_path / "nothing.json")


@pytest.mark.parametrize("text", ["principal", "=role", "principal="])
def test_assignment_names_a_principal_and_a_role(text: str) -> None:
    assert decisions._assignment("p=Some Role") == {"principalId": "p", "role": "Some Role"}
    with pytest.raises(typer.BadParameter):
        decisions._assignment(text)


def test_modes_are_told_as_they_are_in_force() -> None:
    assert [mode_of(name, {}) for name in ("network", "output")] == ["enforce", "off"]
    restricted = {"restrictOutboundNetworkAccess": True, "stockade": {"controls": {"dlp": "report"}}}
    assert [mode_of(name, restricted) for name in ("dlp", "output", "rbac")] == ["report", "report", "enforce"]
    assert [is_wanted(name, restricted) for name in ("dlp", "network", "localAuth", "rbac")] == [
        True,
        False,
        False,
        True,
    ]
    assert is_wanted("network", {"publicNetworkAccess": "Disabled"})
