"""Messages of a session under a policy that changes while it is open."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from stockade.gateway.output.messages import MessageReview
from stockade.gateway.output.text import IN_TEXT
from stockade.kernel.control import Control
from stockade.kernel.faults import Fault
from stockade.policy.snapshot import AccountPolicy
from stockade.policy.uris.allowed import compile_allowed
from tests.factories import policy

NONE = compile_allowed(["good.example"])


def account(mode: Any) -> AccountPolicy:
    made = policy.account()
    return replace(made, output=NONE if mode != "off" else None, modes={Control.OUTPUT: mode})


def delta(text: str, response: str = "r1") -> str:
    ids = {"response_id": response, "item_id": f"i-{response}", "output_index": 0, "content_index": 0}
    return json.dumps({"type": "response.output_text.delta", "delta": text, **ids})


def texts(messages: list[str]) -> list[Any]:
    return [json.loads(message).get("delta") for message in messages]


def test_messages_are_redacted_and_what_waits_comes_before_the_end() -> None:
    looking, enforced = MessageReview(), account("enforce")
    out = [
        one for text in ("see https:", "//evil.example/x y", " htt") for one in looking.passed(enforced, delta(text))
    ]
    assert "".join(texts(out)) == f"see {IN_TEXT} y "
    done = json.dumps({"type": "response.done", "response": {"id": "r1"}})
    first, last = looking.passed(enforced, done)
    assert json.loads(first)["delta"] == "htt"
    assert last == done
    assert looking.rest() == []
    assert [found.because["count"] for found in looking.found] == [1]


def test_response_that_ends_does_not_end_another() -> None:
    looking, enforced = MessageReview(), account("enforce")
    looking.passed(enforced, delta("https://good.example", "r2"))
    looking.passed(enforced, delta("http", "r1"))
    assert len(looking.passed(enforced, json.dumps({"type": "response.done", "response": {"id": "r1"}}))) == 2
    assert len(looking.passed(enforced, json.dumps({"type": "conversation.item.done", "item": {}}))) == 1
    assert texts(looking.passed(enforced, delta(".evil.example/x z", "r2"))) == [f"{IN_TEXT} z"]


def test_change_of_mode_holds_from_the_next_message_and_loses_no_text() -> None:
    looking = MessageReview()
    assert texts(looking.passed(account("enforce"), delta("a http"))) == ["a "]
    assert texts(looking.passed(account("off"), delta("s://evil.example/ "))) == ["http", "s://evil.example/ "]
    reported = account("report")
    message = delta("https://evil.example/ ")
    assert looking.passed(reported, message) == [message]
    assert [found.because["action"] for found in looking.found] == ["passed"]


def test_message_that_is_no_json_ends_a_redacted_session_and_is_recorded_in_a_reported_one() -> None:
    with pytest.raises(Fault):
        MessageReview().passed(account("enforce"), "no json")
    looking, reported = MessageReview(), account("report")
    assert looking.passed(reported, "no json") == ["no json"]
    assert [found.because["why"] for found in looking.found] == ["unchecked"]
