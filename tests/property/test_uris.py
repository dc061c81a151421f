"""For any URI: the host that was judged is the host that is connected to, and no other parser in use finds another one in what is let pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import pytest
import urllib3.util
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stockade.policy.uris.allowed import compile_allowed
from stockade.policy.uris.found import FoundUri
from stockade.policy.uris.loss_prevention import LossPrevention
from stockade.policy.uris.parse import join, parse
from tests.corpora.urls import LIST, tricks

DLP = LossPrevention(compile_allowed(LIST))

PIECES = [
    "https", "http", "HTTPS", "wss", "ftp", ":", "://", "//", "/", "\\", "@", "#", "?", ".", "%2e", "%40", "%2f", "%5c", "\t",
    "\n", " ", "\x00", "\u3002", "\uff0e",
    "\u00ad", "ß", "\uff47", "good.example", "GOOD.example.", "evil.example", "a.cdn.example", "192.0.2.7", "0xc0.0.2.7",
    "3221225991", "[2001:db8:7::1]", "[::1]",
    "bücher.example", "xn--bcher-kva.example", ":443", ":8080", "user", "&", ";", ",", "'", "[", "]", "|", "^", "a", "x=1",
]  # fmt: skip
URIS = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=9).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=8).map(lambda pieces: "https://" + "".join(pieces)),
    st.lists(st.sampled_from(PIECES), max_size=8).map(lambda pieces: "https://good.example" + "".join(pieces)),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30).map(lambda text: f"https://good.example{text}"),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30).map(lambda text: f"https://{text}good.example/"),
)
_RFC_3986 = re.compile(r"^(?:([^:/?#]+):)?(?://([^/?#]*))?")
"""The expression of RFC 3986 appendix B, as far as the authority."""


def by_the_rfc(text: str) -> str | None:
    found = _RFC_3986.match(text)
    authority = found[2] if found is not None else None
    if authority is None:
        return None
    host = authority.rpartition("@")[2]
    return host[1 : host.find("]")] if host.startswith("[") else host.partition(":")[0]


def by_first_at_sign(text: str) -> str | None:
    """As parsers do that take the user information to end at the first `@`, wherever it stands before a slash."""
    rest = text.partition("://")[2]
    return (
        re.split(r"[/?#:]", rest.partition("/")[0].partition("@")[2] or rest)[0]
        if not rest.startswith("[")
        else by_the_rfc(text)
    )


def with_backslashes(text: str) -> str | None:
    return by_the_rfc(text.replace("\\", "/"))


PARSERS: dict[str, Callable[[str], str | None]] = {
    "urllib": lambda text: urlsplit(text).hostname,
    "urllib3": lambda text: urllib3.util.parse_url(text).host,
    "httpx": lambda text: httpx.URL(text).host,
    "RFC 3986": by_the_rfc,
    "first at sign": by_first_at_sign,
    "backslash as slash": with_backslashes,
    "blanks stripped": lambda text: by_the_rfc("".join(text.split())),
}


def hosts(text: str) -> Iterator[tuple[str, str]]:
    """Yield what each other parser takes the host to be; nothing for one that reads none."""
    for name, read in PARSERS.items():
        try:
            host = read(text)
        except (ValueError, httpx.InvalidURL, urllib3.exceptions.LocationParseError):
            continue
        if host:
            yield name, host


def is_listed(host: str) -> bool:
    """Judge a bare host by the list, in the way that a resolver would see it."""
    bare = host.strip("[]").removesuffix(".").lower()
    try:
        shown = f"[{bare}]" if ":" in bare else bare.encode("idna").decode()
    except UnicodeError:
        return False
    return any(
        DLP.allowed.refused_host(f"{scheme}://{shown}{port}/") is None
        for scheme, port in (("https", ""), ("http", ":8080"))
    )


def check(text: str) -> None:
    if DLP.refuse(FoundUri("x", text)) is not None or text[:5].lower() == "data:":
        return
    for name, host in hosts(text):
        assert is_listed(host), f"{name} finds {host!r} in {text!r}"


@pytest.mark.parametrize("text", [trick.text for trick in tricks()], ids=repr)
def test_no_other_parser_leaves_the_list_with_a_trick_that_is_let_pass(text: str) -> None:
    check(text)


@settings(max_examples=1500)
@given(URIS)
@example("https://good.example\\@evil.example/")
@example("https://good.example#@evil.example/")
@example("https://good.example:443@evil.example/")
@example("https://good.example\uff0fevil.example/")
def test_no_other_parser_leaves_the_list_with_what_is_let_pass(text: str) -> None:
    check(text)


@settings(max_examples=1500)
@given(URIS)
def test_host_that_is_judged_is_the_host_that_is_connected_to(text: str) -> None:
    """A fetch reads the URI again, in its normal form, and follows redirects from there: the place does not move."""
    parsed = parse(text)
    if parsed is None:
        return
    again = parse(parsed.href)
    assert again is not None
    assert again._replace(plain=parsed.plain) == parsed
    if not parsed.host or parsed.scheme not in ("http", "https"):
        return
    assert parsed.target.isascii() and parsed.target.startswith("/")
    assert not re.search(r"[\s\x00-\x1f\x7f]", parsed.target + parsed.authority)
    stays = join(parsed.href, "/x")
    assert stays is not None
    assert (stays.host, stays.port, stays.address) == (parsed.host, parsed.port, parsed.address)
    assert by_the_rfc(f"{parsed.scheme}://{parsed.authority}{parsed.target}") == parsed.host
