"""The deep scan over request bodies: what it finds, where, and within which bounds. What a URI in text is: test_text.py."""

from __future__ import annotations

import base64
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.policy.uris import scan
from stockade.policy.uris.scan import scan_json, scan_text


def places(body: bytes) -> list[tuple[str, str]]:
    return [(found.path, found.uri) for found in scan_json(body)]


def test_place_is_the_json_path() -> None:
    body = {
        "a": [{"b": "x"}, {"c": ["", "see https://a.example/x"]}],
        "d": {"e": {"f": "//b.example/y"}},
        "g": "https://c.example",
    }
    assert places(json.dumps(body).encode()) == [
        ("a[1].c[1]", "https://a.example/x"),
        ("d.e.f", "//b.example/y"),
        ("g", "https://c.example"),
    ]
    assert places(b'"https://a.example"') == [("", "https://a.example")]


def test_member_names_are_looked_at_and_not_told() -> None:
    body = json.dumps({"a": {"https://a.example/s3cret": 1, "s3cret value": "https://b.example"}}).encode()
    assert places(body) == [("a (name)", "https://a.example/s3cret"), ("a.*", "https://b.example")]


def test_member_said_twice_is_seen_twice() -> None:
    assert [uri for _, uri in places(b'{"a":"https://a.example","a":"https://b.example"}')] == [
        "https://a.example",
        "https://b.example",
    ]


@pytest.mark.parametrize(
    "literal",
    [
        r'"https:\/\/a.example\/x"', r'"\u0068ttps://a.example/x"', r'"https\u003a//a.example/x"', r'"https:\u002f\u002Fa.example/x"',
        r'"\u0068\u0074\u0074\u0070\u0073\u003A\u002F\u002F\u0061.example/x"', r'"say \"https://a.example/x\" now"', r'"\"https://a.example/x\""',
        r'"{\"u\":\"https:\\/\\/a.example\\/x\"}"', r'"\t\nhttps://a.example/x\n"', r'"ht\u0009tps://a.example/x"', r'"\\\"https://a.example/x"',
    ],
)  # fmt: skip
def test_json_escapes_hide_nothing(literal: str) -> None:
    assert "https://a.example/x" in [uri for _, uri in places(f'{{"m":[{literal}]}}'.encode())]


def test_string_that_cannot_be_decoded_is_refused_where_a_uri_may_stand() -> None:
    assert places(b'{"m":"https:\\\\a.example\\q"}') == [("m", "")]
    assert [uri for _, uri in places(b'{"m":"https://\\ud800.example/"}')] == ["https://\ud800.example/"]


def test_content_is_not_read_as_text_and_text_content_is() -> None:
    def data(media: str, inside: bytes) -> bytes:
        return json.dumps({"m": f"data:{media};base64,{base64.b64encode(inside).decode()}"}).encode()

    inside = b'<a href="https://a.example/x">'
    assert places(data("image/png", inside)) == []
    for media in ("text/html", "image/svg+xml", "application/json;charset=utf-8", ""):
        assert places(data(media, inside)) == [("m", "https://a.example/x")]
    within = b"data:text/plain;base64," + base64.b64encode(inside)
    assert places(data("text/html", within)) == [("m", "https://a.example/x")]
    assert places(json.dumps({"m": "data:text/html,<a href='https://a.example/x'>"}).encode()) == [
        ("m", "https://a.example/x")
    ]


def test_text_behind_content_is_looked_at() -> None:
    assert scan_text("![x](data:image/png;base64,AAAA//BBBB) and https://a.example") == ["https://a.example"]
    assert scan_text("data:image/png;base64,AAAA https://a.example") == ["https://a.example"]


def test_each_uri_is_reported_once() -> None:
    assert scan_text("https://a.example https://a.example, https://a.example/") == [
        "https://a.example",
        "https://a.example/",
    ]


def test_too_many_uris_count_as_one_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "MAX_FOUND", 3)
    found = scan_text(" ".join(f"https://a{n}.example" for n in range(9)))
    assert found == ["https://a0.example", "https://a1.example", "https://a2.example", ""]


ATOMS = [
    "http:", "https://", "https://a ", "https://a.b,", "=//a.b/", "'//a.b/'", "https://[::1]", "https://a@", "https://a\n", "a://", "1://", "ftp:a.b",
    "{https:a.b}", "(https://a", "https://a.b/?u=", "://a.b ", "tp:", "https://a.b'", "data:text/html;base64,aHR0cHM6Ly9hLmI= ", "&#47; ",
    "%252f ", "&colon;", "x:\\/\\/ ", "\\u003a", "https://a.b/ ", '"', "\\",
]  # fmt: skip


@pytest.mark.parametrize("atom", ATOMS)
def test_no_body_takes_long(atom: str) -> None:
    """Far above what it takes: without a bound on the work, some of these take a minute."""
    body = json.dumps({"m": atom * (300_000 // len(atom))}).encode()
    began = time.process_time()
    found = scan_json(body)
    assert time.process_time() - began < 6
    assert len(found) <= scan.MAX_FOUND + 1
    began = time.process_time()
    assert all(isinstance(uri.path, str) for uri in found)
    assert time.process_time() - began < 6


def test_work_that_is_used_up_refuses_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "WORK", 8000)
    assert scan_text("https://a.example/%41 " * 3) == ["https://a.example/%41"]
    assert scan_text("https://a.example/%41 " * 30)[-1] == ""
    assert scan_text("no more than words " * 10_000) == []


SIGNS = st.text(st.sampled_from("htps:/\\.a1@%2f3A&#;x\t\n \"'()=[]/é\u3002\uff0f"), max_size=60)


@given(
    st.recursive(
        SIGNS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SIGNS, inner, max_size=3), max_leaves=6
    ),
    st.booleans(),
)
def test_any_body_is_scanned_and_every_place_has_a_path(body: object, ascii_only: bool) -> None:
    for found in scan_json(json.dumps(body, ensure_ascii=ascii_only).encode()):
        assert isinstance(found.path, str)
        assert not found.declared


@given(SIGNS, SIGNS)
def test_uri_between_blanks_is_found_whatever_stands_around_it(before: str, after: str) -> None:
    text = f"{before} https://needle.example/x {after}"
    assert "https://needle.example/x" in scan_text(text)
    assert "https://needle.example/x" in [
        found.uri for found in scan_json(json.dumps({before: [after, text]}).encode())
    ]
