"""The one parser: what it returns is what is judged and what is connected to."""

from __future__ import annotations

import ada_url
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.policy.uris.parse import DEFAULT_PORTS, MAX_CHARACTERS, join, parse, read_host

PLAIN = [
    "https://images.example.com/a/b.png?x=1&y=2#z",
    "HTTP://Images.Example.COM.:8080/",
    "https://images.example.com",
    "https://images.example.com?x=1",
    "https://192.0.2.7:0443/x",
    "https://[2001:DB8:0::1]/x",
    "https://[::ffff:192.0.2.7]/",
    "https://bücher.example/ü",
    "https://xn--bcher-kva.example/",
    "https://a_b.example/x@y:z",
    "redis://cache.example:6379/0",
]
AMBIGUOUS = [
    "https:\\\\images.example.com\\a",
    "https:images.example.com",
    "https:/images.example.com",
    "https:///images.example.com",
    " https://images.example.com/",
    "https://images.example.com/a b",
    "https://images.example.com/\\..\\a",
    "https://ima\tges.example.com/",
    "https://images.example.com/a\n",
    "https://images.example.com:/",
    "https://@images.example.com/",
    "https://user:secret@images.example.com/",
    "https://images.example.com#@evil.example/",
    "https://images.example.com?@evil.example/",
    "https://%69mages.example.com/",
    "https://0xc0.0.2.7/",
    "https://3221225991/",
    "https://0300.0.2.7/",
    "https://192.0.519/",
    "https://fa\u00df.example/",
    "https://\uff49mages.example.com/",
    "https://images\u3002example.com/",
    "https://images\uff0eexample.com/",
    "https://ima\u00adges.example.com/",
    "https://images.example.com'.evil.example/",
    "https://images.example.com,.evil.example/",
]
UNREADABLE = [
    "", "images.example.com", "//images.example.com", "/etc/passwd", "https://", "https://a b/", "https://[::1", "https://[::1%25eth0]/",
    "https://a.example:99999/", "https://1.2.3.4.5/", "https://a%00.example/", "https://a\u200d.example/",
    "https://\ud800.example/", "https://a.example/" + "a" * MAX_CHARACTERS,
]  # fmt: skip


@pytest.mark.parametrize("text", PLAIN)
def test_plain_spelling_is_plain(text: str) -> None:
    parsed = parse(text)
    assert parsed is not None and parsed.plain


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_spelling_that_another_parser_may_read_otherwise_is_not_plain(text: str) -> None:
    parsed = parse(text)
    assert parsed is not None and not parsed.plain


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_is_no_absolute_uri_cannot_be_read(text: str) -> None:
    assert parse(text) is None


def test_parts_are_what_a_fetch_uses() -> None:
    parsed = parse("https://Images.Example.com.:8443/a/../b c?q=\u00fc#part")
    assert parsed is not None
    assert (parsed.scheme, parsed.host, parsed.port, parsed.address) == ("https", "images.example.com", 8443, None)
    assert (parsed.authority, parsed.target) == ("images.example.com:8443", "/b%20c?q=%C3%BC")


def test_ports_and_addresses_are_in_one_form() -> None:
    parsed = parse("http://[::ffff:192.0.2.7]/")
    assert parsed is not None
    assert (parsed.host, str(parsed.address), parsed.port, parsed.authority) == (
        "::ffff:c000:207",
        "192.0.2.7",
        80,
        "[::ffff:c000:207]",
    )
    assert parse("https://0300.0.2.7/") == parse("https://192.0.2.7/")._replace(plain=False)  # type: ignore[union-attr]


def test_user_information_is_noticed_and_in_no_part() -> None:
    parsed = parse("https://user:s3cret@images.example.com/a")
    assert parsed is not None and parsed.has_credentials
    assert "s3cret" not in parsed.authority + parsed.target + parsed.host


def test_reference_is_read_at_its_base() -> None:
    for reference, host in {
        "/b": "a.example",
        "//b.example/": "b.example",
        "\\\\b.example": "b.example",
        "https:/c": "a.example",
    }.items():
        joined = join("https://a.example/x", reference)
        assert joined is not None and joined.host == host and joined.plain
    assert join("https://a.example/", "https://[") is None


@pytest.mark.parametrize(
    ("text", "host"), {"Images.Example.": "images.example", "[::1]": "::1", "faß.de": "xn--fa-hia.de"}.items()
)
def test_host_of_a_list_is_spelled_as_in_a_uri(text: str, host: str) -> None:
    assert read_host(text) == host


@pytest.mark.parametrize("text", ["a.example/x", "a.example:80", "u@a.example", "a.example?x", "", "a b"])
def test_more_than_a_host_is_none(text: str) -> None:
    assert read_host(text) is None


@given(
    st.sampled_from(["https", "http", "ws", "ftp", "foo", "HTTPS"]),
    st.text(st.sampled_from("://\\@?#[]%.,;a1é\u3002\t\n -_0x"), max_size=40),
)
def test_parts_agree_with_the_parser_s_own(scheme: str, rest: str) -> None:
    """The serialisation is taken apart here, so that one call is enough; the parts are those ada would give."""
    text = f"{scheme}:{rest}"
    parsed = parse(text)
    try:
        theirs = ada_url.parse_url(text)
    except ValueError:
        assert parsed is None
        return
    assert parsed is not None
    default = DEFAULT_PORTS.get(parsed.scheme)
    assert parsed.scheme + ":" == theirs["protocol"]
    assert parsed.host == theirs["hostname"].strip("[]").removesuffix(".").lower()
    assert parsed.port == (int(theirs["port"]) if theirs["port"] else default)
    assert parsed.path == theirs["pathname"]
    assert parsed.query == theirs["search"].removeprefix("?")
    assert parsed.has_credentials == bool(theirs["username"] or theirs["password"])
    assert parsed.plain is False or not parsed.has_credentials
