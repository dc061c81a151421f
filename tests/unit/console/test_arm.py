"""Questions to ARM: how they are spelled, and what a refusal becomes."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest

from stockade.console.arm import MAX_PAGES, Answer, Arm, Question, Refused, below
from stockade.kernel.secret import Secret


def arm(answer: Callable[[Question], Answer]) -> Arm:
    return Arm(answer, Secret("t"), "192.0.2.1", "browser")


def test_names_are_quoted_so_that_none_is_another_path() -> None:
    assert below("subscriptions", "x?y#z%2F") == "/subscriptions/x%3Fy%23z%252F"
    assert below("/subscriptions/1/resourceGroups/a b", "c") == "/subscriptions/1/resourceGroups/a%20b/c"


def test_a_question_carries_the_persons_token_and_address() -> None:
    asked: list[Question] = []

    def answer(question: Question) -> Answer:
        asked.append(question)
        return Answer(200, {"a": 1})

    assert arm(answer).get("/x", filter="status eq 'a b'", **{"api-version": "1"}) == {"a": 1}
    (one,) = asked
    assert parse_qs(urlsplit(one.path).query) == {"api-version": ["1"], "$filter": ["status eq 'a b'"]}
    sent = (one.method, one.body, one.token.reveal(), one.address, one.client)
    assert sent == ("GET", b"", b"t", "192.0.2.1", "browser")
    assert arm(answer).post("/x") == {"a": 1}
    assert asked[-1].body == b"{}"


def test_a_refusal_is_raised_in_arms_words() -> None:
    body = {"error": {"code": "NotAnApprover", "message": "No.", "additionalInfo": []}}
    with pytest.raises(Refused) as refused:
        arm(lambda _: Answer(403, body)).get("/x")
    assert (refused.value.status, refused.value.code, refused.value.message) == (403, "NotAnApprover", "No.")
    with pytest.raises(Refused, match="refused"):
        arm(lambda _: Answer(500, "what")).get("/x")


def test_lists_are_followed_so_far_and_no_further() -> None:
    pages = {"": "/x?api-version=1&$skiptoken=2", "2": ""}

    def answer(question: Question) -> Answer:
        token = parse_qs(urlsplit(question.path).query).get("$skiptoken", [""])[0]
        return Answer(200, {"value": [{"page": token}], "nextLink": pages[token]})

    assert arm(answer).listed("/x") == ([{"page": ""}, {"page": "2"}], False)
    found, more = arm(lambda _: Answer(200, {"value": [{}, "no object"], "nextLink": "https://h/x?a=1"})).listed("/x")
    assert (len(found), more) == (MAX_PAGES, True)
