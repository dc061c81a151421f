"""Rules in their documented order; the first refusal stands, and a rule that fails refuses."""

from __future__ import annotations

import dataclasses
import importlib
from types import ModuleType
from typing import Any

import pytest

from stockade.kernel.control import Control
from stockade.kernel.faults import FaultKind
from stockade.kernel.principal import RejectedCredential
from stockade.kernel.verdict import Allow, Deny
from stockade.policy import rules
from stockade.policy.decide import decide
from stockade.policy.facts import Facts, Point
from stockade.policy.snapshot import NetworkPolicy, Snapshot
from tests.factories import policy

# `stockade.policy.decide` names the function for whoever imports it from the package; the module is wanted here.
decide_module: ModuleType = importlib.import_module("stockade.policy.decide")
CLOSED = NetworkPolicy(admit_by_default=False)
WRONG_KEY = RejectedCredential("key", "unknown_key")


def denied_by(facts: Facts, point: Point = "head") -> str | None:
    match decide(policy.snapshot(), facts, point):
        case Allow():
            return None
        case Deny(rule=rule):
            return rule


def test_request_with_everything_in_order_is_allowed_at_both_points() -> None:
    for credential in (policy.KEY, policy.TOKEN):
        facts = policy.facts(credential=credential)
        assert [denied_by(facts, "head"), denied_by(facts, "body")] == [None, None]


def test_first_refusal_in_the_documented_order_stands() -> None:
    assert [rule.NAME for rule in rules.ORDER] == [
        "address", "network", "credential", "local-auth", "operation", "role", "customer-key", "outbound", "quota",
    ]  # fmt: skip
    wrong: dict[str, Any] = {"operation": None}
    assert denied_by(policy.facts(**wrong)) == "operation"
    wrong["credential"] = WRONG_KEY
    assert denied_by(policy.facts(**wrong)) == "credential"
    wrong["account"] = policy.account(network=CLOSED)
    assert denied_by(policy.facts(**wrong)) == "network"
    wrong["account"] = None
    assert denied_by(policy.facts(**wrong)) == "address"


def test_control_in_report_lets_pass_and_says_what_it_would_have_refused() -> None:
    closed = policy.account(network=CLOSED, local_auth=False, modes={Control.NETWORK: "report"})
    facts = policy.facts(account=closed)
    match decide(policy.snapshot(), facts, "head"):
        case Deny(rule="local-auth", reported=(Deny(rule="network"),)):
            pass
        case other:
            pytest.fail(repr(other))
    tried = dataclasses.replace(closed, modes={Control.NETWORK: "report", Control.LOCAL_AUTH: "report"})
    match decide(policy.snapshot(), policy.facts(account=tried), "head"):
        case Allow(reported=(Deny(rule="network"), Deny(rule="local-auth"))):
            pass
        case other:
            pytest.fail(repr(other))


def test_control_that_is_off_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from stockade.policy.rules import network

    monkeypatch.setattr(network, "decide", lambda *_: pytest.fail("asked"))
    closed = policy.account(network=CLOSED, modes={Control.NETWORK: "off"})
    assert decide(policy.snapshot(), policy.facts(account=closed), "head") == Allow()


def test_what_is_no_control_is_enforced_whatever_the_modes_say() -> None:
    modes = dict.fromkeys(Control, "off")
    assert denied_by(policy.facts(account=policy.account(modes=modes), credential=WRONG_KEY)) == "credential"
    assert denied_by(policy.facts(account=policy.account(modes=modes), operation=None)) == "operation"


def test_rules_have_names_of_their_own_and_a_point() -> None:
    names = [rule.NAME for rule in rules.ORDER]
    assert len(set(names)) == len(names)
    assert {rule.POINT for rule in rules.ORDER} == {"head", "body"}


def test_rule_that_fails_refuses_without_detail_and_sounds_the_alarm(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        NAME = "broken"
        POINT = "head"

        @staticmethod
        def decide(_: Snapshot, __: Facts) -> None:
            raise ZeroDivisionError("internal detail")

    def later(snapshot: Snapshot, facts: Facts) -> None:
        raise AssertionError("a rule behind the refusal was asked")

    after = type("After", (), {"NAME": "after", "POINT": "head", "decide": staticmethod(later)})
    monkeypatch.setattr(decide_module, "_RULES", {"head": (Broken, after), "body": ()})
    match decide(Snapshot(), policy.facts(), "head"):
        case Deny(rule="broken", fault=fault):
            assert fault.kind is FaultKind.INTERNAL
            assert "internal detail" not in fault.message
        case other:
            raise AssertionError(other)
    assert "internal detail" in caplog.text


def test_address_that_cannot_be_read_refuses() -> None:
    closed = policy.account(network=CLOSED)
    for address in ("", "nonsense", "1.2.3", "unix:"):
        assert denied_by(policy.facts(account=closed, address=address)) == "network"


def test_decision_changes_no_fact() -> None:
    facts = policy.facts()
    before = dataclasses.replace(facts)
    decide(policy.snapshot(), facts, "head")
    decide(policy.snapshot(), facts, "body")
    assert facts == before
