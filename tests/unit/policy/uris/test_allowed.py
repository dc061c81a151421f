"""Which URIs an account lets requests carry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.policy.uris.allowed import compile_allowed

LIST = compile_allowed(
    [
        "images.example.com",
        "*.wild.example",
        "192.0.2.7",
        "198.51.100.0/24",
        "http://plain.example:8080",
        "faß.de",
        "2001:db8::/32",
    ]
)

ALLOWED = [
    "https://images.example.com/a.png?x=1",
    "HTTPS://IMAGES.EXAMPLE.COM./a",
    "https://images.example.com:8443/a",
    "http://images.example.com/",
    "https://a.wild.example/",
    "https://a.b.wild.example/",
    "https://192.0.2.7/x",
    "https://0xC0.0.2.7/x",
    "https://198.51.100.200/",
    "https://[::ffff:198.51.100.1]/",
    "https://[2001:db8::5]/",
    "http://plain.example:8080/x",
    "https://xn--fa-hia.de/",
    "https://fa%C3%9F.de/",
    "data:image/png;base64,iVBORw0KGgo=",
    "DATA:text/plain,hello",
]
REFUSED = {
    "https://evil.example/": "evil.example",
    "https://images.example.com@evil.example/": "evil.example",
    "https:\\\\evil.example\\images.example.com": "evil.example",
    "https://evil.example#images.example.com": "evil.example",
    "https://images.example.com.evil.example/": "images.example.com.evil.example",
    "https://wild.example/": "wild.example",
    "https://notwild.example/": "notwild.example",
    "https://ev\til.ex\nample/": "evil.example",
    "https://2130706433/": "127.0.0.1",
    "https://0177.0.0.1/": "127.0.0.1",
    "https://[::1]/": "::1",
    "https://plain.example:8080/": "plain.example",
    "http://plain.example/": "plain.example",
    "//images.example.com/a": "",
    "images.example.com": "",
    "/etc/passwd": "",
    "file:///etc/passwd": "",
    "javascript:alert(1)": "",
    "https://": "",
    "": "",
}


@pytest.mark.parametrize("uri", ALLOWED)
def test_uri_on_the_list_is_allowed(uri: str) -> None:
    assert LIST.refused_host(uri) is None


@pytest.mark.parametrize(("uri", "host"), REFUSED.items())
def test_uri_off_the_list_is_refused_and_its_host_named(uri: str, host: str) -> None:
    assert LIST.refused_host(uri) == host


def test_empty_list_refuses_every_uri_but_content() -> None:
    nothing = compile_allowed([])
    assert nothing.refused_host("https://images.example.com/") == "images.example.com"
    assert nothing.refused_host("data:,x") is None


@given(st.text(max_size=80))
def test_any_text_is_decided_without_an_exception(uri: str) -> None:
    decided = LIST.refused_host(uri)
    assert decided is None or isinstance(decided, str)


@given(st.from_regex(r"https://[a-z]{1,10}\.(com|net)/[a-z]{0,5}", fullmatch=True))
def test_host_that_is_not_listed_is_never_allowed(uri: str) -> None:
    assert LIST.refused_host(uri) is not None


def test_entry_that_could_match_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="not a host"):
        compile_allowed(["not a host"])
