"""How times, strangers' texts and payloads look."""

from __future__ import annotations

import pytest

from stockade.console.pages import (
    Page,
    ago,
    decoded,
    headers,
    hours,
    instant,
    moment,
    named,
    render,
    visible,
    words,
)

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("distance", "said"),
    [
        (0, "just now"),
        (-59, "just now"),
        (30, "in less than a minute"),
        (-60, "1 minute ago"),
        (600, "in 10 minutes"),
        (-7199, "120 minutes ago"),
        (7200, "in 2 hours"),
        (-30 * 3600, "30 hours ago"),
        (4 * 86_400, "in 4 days"),
    ],
)
def test_how_far_away_a_time_is(distance: float, said: str) -> None:
    assert ago(NOW + distance, NOW) == said


def test_times_are_shown_in_utc_whatever_form_they_come_in() -> None:
    shown = '<time datetime="2027-01-15T08:00:00Z">15 Jan 2027, 08:00 UTC</time> <span class="quiet">(just now)</span>'
    assert moment(NOW, NOW) == moment("2027-01-15T09:00:00+01:00", NOW) == moment("2027-01-15T08:00:00Z", NOW) == shown
    assert "08:00:00 UTC" in moment(NOW, NOW, seconds=True)


@pytest.mark.parametrize("value", ["<b>", float("inf"), 1e300, "9" * 400])
def test_what_is_no_time_is_shown_as_it_is_and_escaped(value: object) -> None:
    assert "<b>" not in moment(value, NOW)
    assert "<time" not in moment(value, NOW)


def test_no_time_is_never() -> None:
    assert moment(None, NOW) == "never"
    assert instant(True) is None


def test_characters_that_mislead_are_written_as_their_code() -> None:
    assert visible("pay\u202eload\u200b\x00") == "pay\u27e8U+202E\u27e9load\u27e8U+200B\u27e9\u27e8U+0000\u27e9"
    assert visible("two\nlines\tof Zürich") == "two\nlines\tof Zürich"
    assert visible(None) == ""
    assert visible(3) == 3


def test_small_words() -> None:
    assert words("AutoApproveLockboxRequest") == "Auto approve lockbox request"
    assert words("E0") == "E0"
    assert hours("2") == "2 hours"
    assert hours(1.5) == "90 minutes"
    assert hours("a while") == "a while"
    assert named("/a/b/Letters/") == "Letters"


def test_what_is_no_base64url_is_nothing() -> None:
    assert decoded("_-8") == b"\xff\xef"
    assert decoded("_-8=") == decoded("no base64!") == decoded("a") == b""


def test_no_page_lets_a_script_run_that_it_does_not_need() -> None:
    without, with_ = (headers(script=script)["content-security-policy"] for script in (False, True))
    assert "script-src" not in without
    assert "default-src 'none'" in without
    assert "script-src 'self';" in with_
    assert "unsafe" not in without + with_
    assert "frame-ancestors 'none'" in without


def test_a_name_that_nobody_gave_is_an_error_and_a_member_that_is_not_there_is_blank() -> None:
    common = {"now": NOW, "session": None, "csrf": "", "notice": "", "subscription": "", "root": "/c", "section": ""}
    values = {"status": 404, "message": "gone", "code": {}.get("x"), "elsewhere": ""}
    assert "gone" in render(Page("problem.html", values), **common)
    del values["message"]
    with pytest.raises(Exception, match="'message' is undefined"):
        render(Page("problem.html", values), **common)
