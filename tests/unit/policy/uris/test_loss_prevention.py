"""What an account demands of URIs, over the corpus of tricks: as the value of a declared field, and as the deep scan finds them."""

from __future__ import annotations

import html
import json
from urllib.parse import quote

import pytest

from stockade.policy.uris.allowed import compile_allowed
from stockade.policy.uris.found import FoundUri
from stockade.policy.uris.loss_prevention import LossPrevention, RefusedUri
from stockade.policy.uris.parse import parse
from stockade.policy.uris.scan import scan_json, scan_text
from tests.corpora.urls import LIST, Trick, tricks

DLP = LossPrevention(compile_allowed(LIST))
BREAKS = "\t\n\r"


def refusal(text: str, *, declared: bool = True) -> RefusedUri | None:
    return DLP.refuse(FoundUri("x", text, declared=declared))


def refused_in(text: str) -> bool:
    return any(refusal(uri, declared=False) is not None for uri in scan_text(text))


def test_corpus_is_large_and_says_each_thing_once() -> None:
    texts = [trick.text for trick in tricks()]
    assert len(texts) == len(set(texts)) >= 500


@pytest.mark.parametrize("trick", tricks(), ids=lambda trick: repr(trick.text))
def test_declared_field(trick: Trick) -> None:
    parsed = parse(trick.text)
    assert (parsed.host or None if parsed is not None else None) == trick.host
    refused = refusal(trick.text)
    assert (refused is None) == trick.allowed
    if refused is not None:
        assert refused.host == (trick.host or "")


@pytest.mark.parametrize("trick", tricks(), ids=lambda trick: repr(trick.text))
def test_found_in_text(trick: Trick) -> None:
    refused = trick.in_text and not trick.allowed
    text = trick.text
    assert refused_in(text) == refused
    if not set(text) & set('<>"`'):  # which end a URI in text, and are characters like others once they are entities
        assert refused_in(f"<a href='{html.escape(text, quote=True)}'>") == refused
    if '"' not in text:
        assert refused_in(f'<a href="{text}">x</a>') == refused
    broken = any(f"ht{sign}" in text for sign in BREAKS) or text[:1] in BREAKS
    if trick.in_prose and not broken:
        assert refused_in(f"Please read {text} and tell me") == refused
        assert refused_in(f"Вот: {text}\nи") == refused
        if ")" not in text:
            assert refused_in(f"![image]({text})") == refused


@pytest.mark.parametrize(
    "trick", [trick for trick in tricks() if trick.in_text and not trick.allowed], ids=lambda trick: repr(trick.text)
)
def test_found_in_a_body_however_it_is_encoded(trick: Trick) -> None:
    def refused(body: str) -> bool:
        return any(DLP.refuse(found) is not None for found in scan_json(body.encode("utf-8", "surrogatepass")))

    text = trick.text
    assert refused(json.dumps({"a": [{"b": text}]}))
    assert refused(json.dumps({"a": [{"b": text}]}, ensure_ascii=False))
    assert refused(
        '{"a":"' + "".join(f"\\u{ord(sign):04x}" for sign in text if ord(sign) < 0x10000) + '"}'
        if text.isascii()
        else json.dumps(text)
    )
    assert refused(json.dumps({text: 1}))
    assert refused(json.dumps({"arguments": json.dumps({"url": text})}))
    assert refused(json.dumps({"a": json.dumps(text).replace("/", "\\/")}))
    if trick.in_prose and not any(sign in text for sign in BREAKS) and "%" not in text:
        assert refused(json.dumps({"a": f"https://good.example/?to={quote(text, safe='')}"}))
        assert refused(json.dumps({"a": quote(quote(text, safe=""), safe="")}))


@pytest.mark.parametrize(
    ("text", "reason"),
    {
        "https://evil.example/": "host",
        "evil.example": "unreadable",
        "https://[::1": "unreadable",
        "ftp://good.example/": "scheme",
        "javascript:alert(1)": "scheme",
        "file:///etc/passwd": "scheme",
        "https://user@good.example/": "credentials",
        "https://good.example@evil.example/": "credentials",
        "https:\\\\good.example": "ambiguous",
        "https://0xc0.0.2.7/": "ambiguous",
        "https://good\u3002example/": "ambiguous",
    }.items(),
)
def test_reason_says_whether_another_entry_would_help(text: str, reason: str) -> None:
    refused = refusal(text)
    assert refused is not None
    assert refused.reason == reason
    assert bool(refused.detail) == (reason not in ("host", "unreadable"))


def test_entry_may_name_a_scheme_that_is_not_the_web_s() -> None:
    dlp = LossPrevention(compile_allowed(["ftp://files.example", "good.example"]))
    assert dlp.refuse(FoundUri("x", "ftp://files.example/a")) is None
    assert dlp.refuse(FoundUri("x", "https://files.example/a")) == RefusedUri("files.example", "host")
    assert dlp.refuse(FoundUri("x", "ftp://good.example/a")) == RefusedUri("good.example", "host")
    assert dlp.refuse(FoundUri("x", "gopher://files.example/a")).reason == "scheme"  # type: ignore[union-attr]


def test_reference_without_a_scheme_is_judged_where_it_is_found() -> None:
    assert refusal("//good.example/x", declared=False) is None
    assert refusal("//plain.example:8080/x", declared=False) == RefusedUri("plain.example", "host")
    assert refusal("//good.example/x", declared=True) == RefusedUri("", "unreadable")


def test_content_is_no_destination() -> None:
    assert refusal("data:image/png;base64,AAAA") is None
    assert refusal("DATA:,x") is None


def test_http_is_named_or_not() -> None:
    dlp = LossPrevention(
        compile_allowed(["http://plain.example", "good.example", "http://*.wild.example:8080", "http://192.0.2.7"])
    )
    named = ["http://plain.example/x", "http://a.wild.example:8080/", "http://192.0.2.7/"]
    assert all(dlp.names_http(uri) for uri in named)
    assert not any(
        dlp.names_http(uri)
        for uri in ("http://good.example/", "https://plain.example/", "http://a.wild.example/", "", "plain.example")
    )


def test_a_thousand_entries_are_asked_like_one() -> None:
    """The look-up goes by the host's labels, not by the entries."""
    entries = (
        [f"h{n}.example" for n in range(500)]
        + [f"*.w{n}.example" for n in range(300)]
        + [f"203.0.{n}.0/24" for n in range(200)]
    )
    allowed = compile_allowed(entries)
    for uri in ("https://h499.example/", "https://a.b.w299.example/", "https://203.0.199.9/"):
        assert allowed.refused_host(uri) is None
    for uri in ("https://h500.example/", "https://w299.example/", "https://203.0.200.1/"):
        assert allowed.refused_host(uri) is not None
    assert (len(allowed.exact), len(allowed.below), len(allowed.networks)) == (
        500,
        300,
        1 + 0 if len(allowed.networks) == 1 else 200,
    )
