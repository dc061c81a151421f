"""Rules for path and query of URIs."""

from __future__ import annotations

import fnmatch
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.policy.uris.allowed import compile_allowed
from stockade.policy.uris.parse import ParsedUri, parse
from stockade.policy.uris.patterns import UriRule, decoded, entropy, secret_problem


def uri(text: str) -> ParsedUri:
    parsed = parse(text)
    assert parsed is not None
    return parsed


def problem(rule: UriRule, rest: str) -> str | None:
    return rule.problem(uri(f"https://a.example{rest}"))


PATHS = UriRule("r", paths=("/public/**", "/thumb/*.png", "/v*/x-*-y/z"))


@pytest.mark.parametrize(
    "path",
    [
        "/public/a",
        "/public/a/b?x",
        "/public/",
        "/thumb/a.png",
        "/thumb/.png",
        "/v1/x-a-b-y/z",
        "/v/x--y/z",
        "/thumb/%61.png",
    ],
)
def test_path_that_matches_a_pattern_is_kept(path: str) -> None:
    assert problem(PATHS, path) is None


@pytest.mark.parametrize(
    "path",
    [
        "/", "/public", "/publicly/a", "/thumb/a.jpg", "/thumb/a/b.png", "/v1/x-y/z", "/v1/x-a-y/z/", "/private/../public", "/thumb/a%2fb.png",
        "/public/%2e%2e/private", "/public/%252e%252e/private", "/public/..%2fprivate", "/public/..%5cprivate", "/public/%25252525252e/x",
    ],
)  # fmt: skip
def test_path_that_matches_none_is_refused(path: str) -> None:
    assert problem(PATHS, path) == "its path matches no allowed pattern"


def test_parameters_that_are_not_named_are_refused() -> None:
    rule = UriRule("r", allowed_parameters=frozenset({"w", "a b"}))
    assert problem(rule, "/?w=1&a+b=2&a%20b=3") is None
    assert problem(rule, "/") is None
    for query in ("?x=1", "?w=1&x", "?W=1", "?w=1&&", "?%77%77=1", "?data"):
        assert problem(rule, f"/{query}") == "it has a query parameter that is not allowed"


def test_lengths_are_limited() -> None:
    rule = UriRule("r", max_query_length=5, max_path_length=4)
    assert problem(rule, "/abc?a=123") is None
    assert problem(rule, "/abc?a=1234") == "its query is longer than 5 characters"
    assert problem(rule, "/abcd") == "its path is longer than 4 characters"


def test_entropy_is_limited_for_values_long_enough_to_say() -> None:
    rule = UriRule("r", max_query_entropy=4.0)
    assert problem(rule, "/?q=what+is+the+weather+in+the+north") is None
    assert problem(rule, "/?q=3Jk9xQ") is None
    for query in (
        "q=3Jk9xQz7LmP0aVb2Tn5yWc8R",
        "3Jk9xQz7LmP0aVb2Tn5yWc8R",
        "q=%33%4ak9xQz7LmP0aVb2Tn5yWc8R",
        "a=1&q=3Jk9xQz7LmP0aVb2Tn5yWc8R",
    ):
        assert problem(rule, f"/?{query}") == "a value in its query has more than 4 bits of entropy per character"


def test_entropy_is_shannon_s() -> None:
    assert entropy("ab" * 10) == 1.0
    assert entropy("abcd" * 8) == 2.0
    assert entropy("abcd") == 0.0


SECRETS = {
    "sig=" + "Ab1%2B" * 12: "a shared access signature",
    "c=AccountKey=" + "Ab1+" * 20: "a storage account key",
    "k=" + "a" * 52 + "JQQJ99" + "b" * 26: "an Azure key",
    "k=stockade_" + "Ab1c" * 12 + "d": "a Stockade key",
    "k=AKIAABCDEFGHIJKLMNOP": "an AWS access key",
    "k=ghp_" + "Ab1c" * 9: "a GitHub token",
    "k=glpat-" + "Ab1c" * 5: "a GitLab token",
    "k=xoxb-1234567890-abc": "a Slack token",
    "k=AIza" + "Ab1cd" * 7: "a Google API key",
    "k=sk-proj-" + "Ab1c" * 6: "an OpenAI or Anthropic key",
    "k=hf_" + "Ab1c" * 8: "a Hugging Face token",
    "k=sk_live_" + "Ab1c" * 6: "a Stripe key",
    "k=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.x": "a JSON web token",
    "k=-----BEGIN RSA PRIVATE KEY-----": "a private key",
}


@pytest.mark.parametrize(("text", "what"), SECRETS.items())
def test_secret_with_a_form_is_found_in_query_path_and_fragment_and_encoded(text: str, what: str) -> None:
    twice = "".join(f"%25{byte:02x}" for byte in text.encode())
    for rest in (f"/?{text}", f"/{text.replace('%2B', '+')}", f"/#?{text}", f"/?x&{twice}"):
        assert secret_problem(uri(f"https://a.example{rest}"), secrets=True, emails=False) == f"it holds {what}"
    assert secret_problem(uri(f"https://a.example/?{text}"), secrets=False, emails=True) is None


@pytest.mark.parametrize(
    "rest",
    [
        "/",
        "/a/b.png?w=100&h=20",
        "/signature=short",
        "/docs/skeleton-key",
        "/eyJ.eyJ",
        "/?q=task-2026-11-25-first",
        "/AKIA",
    ],
)
def test_usual_uri_holds_no_secret(rest: str) -> None:
    assert secret_problem(uri(f"https://a.example{rest}"), secrets=True, emails=True) is None


def test_email_address_is_found_and_a_package_is_none() -> None:
    for rest in (
        "/?to=jo.doe%2Bx@mail.example.com",
        "/jo@mail.example/x",
        "/?to=jo%2540mail.example",
        "/#jo%40mail.example",
    ):
        assert (
            secret_problem(uri(f"https://a.example{rest}"), secrets=False, emails=True) == "it holds an e-mail address"
        )
    for rest in ("/@scope/pkg@1.2.3/x.js", "/@user", "/a@b"):
        assert secret_problem(uri(f"https://a.example{rest}"), secrets=False, emails=True) is None


def test_what_is_encoded_too_often_is_refused() -> None:
    assert (
        secret_problem(uri("https://a.example/?x=%2525252541"), secrets=True, emails=False)
        == "it is percent-encoded too often to be read"
    )
    assert decoded("%2525252541") is None
    assert decoded("100%") == "100%"


def test_rule_applies_to_its_hosts_alone() -> None:
    rule = UriRule("r", hosts=compile_allowed(["*.b.example"]), max_query_length=0)
    assert problem(rule, "/?x") is None
    assert rule.problem(uri("https://a.b.example/?x")) is not None


@given(st.text("ab*", max_size=12), st.text("ab", max_size=20))
def test_stars_match_as_the_standard_library_s(pattern: str, text: str) -> None:
    expected = fnmatch.fnmatchcase(text, pattern) and "**" not in pattern
    if "**" not in pattern:
        assert (problem(UriRule("r", paths=(f"/{pattern}",)), f"/{text}") is None) == expected


@pytest.mark.parametrize(
    "text", ["a" * 8000, "ab" * 4000, "eyJ" * 2600, "-----BEGIN " * 700, "a.b-c@" * 1300, "sk-" * 2600, "%25" * 2600]
)
def test_no_uri_takes_long_to_judge(text: str) -> None:
    """Three orders of magnitude above what it takes: only an expression that explodes takes seconds."""
    rule = UriRule("r", paths=("/*a*a*a*a*a*a*b",), max_query_entropy=8.0, refuse_secrets=True, refuse_emails=True)
    began = time.process_time()
    problem(rule, f"/{text}"[:8000])
    problem(rule, f"/?{text}"[:8000])
    assert time.process_time() - began < 5
