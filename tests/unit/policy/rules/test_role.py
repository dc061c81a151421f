"""Keys carry every data action, tokens need a role."""

from __future__ import annotations

from stockade.kernel.faults import FaultKind
from stockade.kernel.operation import Operation
from stockade.kernel.principal import EVERYONE
from stockade.policy.rules import role
from stockade.policy.snapshot import DenyAssignment, Permission, RoleAssignment
from tests.factories import policy

OTHER = Operation("Images", "POST", "/openai/deployments/{d}/images", "OpenAI/deployments/nothing/write", "json")

OPENAI_CONTRIBUTOR = "a001fd3d-188f-4b5d-821b-7da978bf7442"


def test_key_and_a_token_with_the_role_pass() -> None:
    assert role.decide(policy.snapshot(), policy.facts()) is None
    assert role.decide(policy.snapshot(), policy.facts(credential=policy.TOKEN)) is None
    assert role.decide(policy.snapshot(), policy.facts(operation=OTHER)) is None


def test_token_without_the_action_is_told_who_what_where_and_the_way_out() -> None:
    denied = role.decide(policy.snapshot(), policy.facts(credential=policy.TOKEN, operation=OTHER))
    assert denied is not None
    assert denied.fault.kind is FaultKind.PERMISSION_DENIED
    action = "Microsoft.CognitiveServices/accounts/OpenAI/deployments/nothing/write"
    for said in (policy.PRINCIPAL, action, "POST /openai/deployments/{d}/images", policy.ACCOUNT):
        assert said in denied.fault.message
    assert denied.because["smallestRole"] in denied.fault.message
    assert denied.because["dataAction"] == action


def test_deny_assignment_takes_what_a_role_gives_and_is_named() -> None:
    everything = Permission((), (), ("*",), ())
    for scope in (policy.ACCOUNT, policy.GROUP, "/"):
        deny = DenyAssignment(
            "d", "Freeze", scope, (everything,), frozenset({EVERYONE}), frozenset(), this_scope_only=False
        )
        denied = role.decide(policy.snapshot(("deny", scope, deny)), policy.facts(credential=policy.TOKEN))
        assert denied is not None
        assert denied.because["denyAssignment"] == "Freeze"
        assert "Freeze" in denied.fault.message
        assert "smallestRole" not in denied.because
        assert role.decide(policy.snapshot(("deny", scope, deny)), policy.facts()) is None, "keys have no principal"


def test_a_role_for_a_while_passes_until_it_ends_and_then_says_so() -> None:
    facts = policy.facts(credential=policy.TOKEN, operation=OTHER)
    timed = RoleAssignment(
        "while", "/", OPENAI_CONTRIBUTOR, policy.PRINCIPAL, since=0.0, until=facts.now + 1, request="/r"
    )
    made = policy.snapshot(("assignment", "/", timed))
    assert role.decide(made, facts) is None
    facts.now += 1
    denied = role.decide(made, facts)
    assert denied is not None
    assert (
        "The role 'Cognitive Services OpenAI Contributor', which was given for a while, ended at"
        in denied.fault.message
    )
    assert denied.because["roleRequest"] == "/r"
