"""Sessions end with their token, are bounded, and one principal's do not push out another's."""

from __future__ import annotations

from stockade.console.sessions import MAX_EACH, MAX_NOTICE, MAX_SESSIONS, Session, Sessions
from stockade.kernel.clock import ManualClock
from stockade.kernel.secret import Secret


def session(clock: ManualClock, who: str = "ada", life_s: float = 3600) -> Session:
    return Session(who, "app", who.title(), Secret("token"), clock.now() + life_s)


def test_a_session_is_found_by_its_cookie_until_its_token_ends() -> None:
    clock = ManualClock()
    sessions = Sessions(clock)
    cookie = sessions.begin(session(clock)).reveal_text()
    assert len(cookie) == 43
    found = sessions.find(cookie)
    assert found is not None
    assert found.name == "Ada"
    assert sessions.find(cookie[:-1]) is None
    clock.advance(3599)
    assert sessions.find(cookie) is found
    clock.advance(1)
    assert sessions.find(cookie) is None


def test_a_session_that_was_ended_is_gone_and_another_one_of_the_same_person_is_not() -> None:
    clock = ManualClock()
    sessions = Sessions(clock)
    first, second = (sessions.begin(session(clock)).reveal_text() for _ in range(2))
    sessions.end(first)
    assert sessions.find(first) is None
    assert sessions.find(second) is not None


def test_whoever_signs_in_again_and_again_ends_sessions_of_their_own() -> None:
    clock = ManualClock()
    sessions = Sessions(clock)
    other = sessions.begin(session(clock, "bob")).reveal_text()
    cookies = [sessions.begin(session(clock)).reveal_text() for _ in range(MAX_EACH + 3)]
    alive = [sessions.find(cookie) is not None for cookie in cookies]
    assert alive == [False] * 3 + [True] * MAX_EACH
    assert sessions.find(other) is not None


def test_there_are_never_more_than_a_number_and_ended_ones_make_room_first() -> None:
    clock = ManualClock()
    sessions = Sessions(clock)
    short = sessions.begin(session(clock, "short", life_s=10)).reveal_text()
    first = sessions.begin(session(clock, "first")).reveal_text()
    for number in range(MAX_SESSIONS - 2):
        sessions.begin(session(clock, f"p{number}"))
    clock.advance(11)
    sessions.begin(session(clock, "one more"))
    assert sessions.find(short) is None
    assert sessions.find(first) is not None
    sessions.begin(session(clock, "and one"))
    assert sessions.find(first) is None


def test_a_notice_is_told_once_and_cut() -> None:
    one = session(ManualClock())
    one.tell("x" * (MAX_NOTICE + 1))
    assert one.told() == "x" * MAX_NOTICE
    assert one.told() == ""
