from __future__ import annotations

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.management import arm_wire
from stockade.management.merge import merge_patch
from stockade.management.odata import Term, parse_filter


def test_every_fault_has_a_status_and_a_code() -> None:
    assert set(arm_wire.STATUS) == set(FaultKind)
    for status, code in arm_wire.STATUS.values():
        assert 400 <= status <= 599 and code


def test_what_we_do_not_do_is_no_server_error_because_sdks_repeat_those() -> None:
    assert arm_wire.STATUS[FaultKind.UNSUPPORTED][0] < 500


def test_only_limits_and_outages_say_when_to_come_back() -> None:
    for kind in FaultKind:
        headers = arm_wire.error_reply(Fault(kind, "x", retry_after_s=0.25)).headers
        assert ("retry-after" in headers) == (kind in (FaultKind.LIMIT, FaultKind.UNAVAILABLE))
    assert arm_wire.error_reply(Fault(FaultKind.LIMIT, "x", retry_after_s=0.25)).headers["retry-after-ms"] == "250"


@pytest.mark.parametrize(
    "raw",
    [
        b"/a/../b",
        b"/a/%2e%2e/b",
        b"/a//b",
        b"/a/%2fb",
        b"/a/%5Cb",
        b"/a/b%00",
        b"/a/%252e",
        b"/a/\xff",
        b"/a/%ff",
        b"/a/./b",
        b"/a/b%3Fc",
    ],
)
def test_path_tricks_are_refused(raw: bytes) -> None:
    with pytest.raises(Fault) as refused:
        arm_wire.path_segments(raw)
    assert refused.value.kind is FaultKind.INVALID


@pytest.mark.parametrize(
    ("raw", "segments"),
    [
        (b"/", ()),
        (b"", ()),
        (b"/a/b/", ("a", "b")),
        (b"//a/b", ("a", "b")),
        (b"/a%20b", ("a b",)),
        (b"/r%C3%A9", ("ré",)),
    ],
)
def test_paths_are_decoded_once(raw: bytes, segments: tuple[str, ...]) -> None:
    assert arm_wire.path_segments(raw) == segments


def test_query_names_are_percent_decoded_and_compared_without_case() -> None:
    assert arm_wire.query_parameters(b"api%2Dversion=2025-07-01&%24Filter=a%20eq%20%27b%27") == {
        "api-version": "2025-07-01",
        "$filter": "a eq 'b'",
    }


@pytest.mark.parametrize(
    "raw", [b"a=%ff", b"\xc3=1", b"&".join(b"a=1" for _ in range(65)), b"api-version=2025-01-01&API-version=2024-01-01"]
)
def test_malformed_queries_are_refused(raw: bytes) -> None:
    with pytest.raises(Fault):
        arm_wire.query_parameters(raw)


@pytest.mark.parametrize(
    "version", ["2025-09-01", "2026-05-15-preview", "2015-11-01-privatepreview", "2025-09-01-preview.2"]
)
def test_any_well_formed_api_version_is_taken(version: str) -> None:
    assert arm_wire.api_version({"api-version": version}) == version


@pytest.mark.parametrize("version", ["7.4", "latest", "2025-9-1", "2025-09-01-", "2025-09-01 ", "2025-09-01\n"])
def test_a_malformed_api_version_is_refused(version: str) -> None:
    with pytest.raises(Fault) as refused:
        arm_wire.api_version({"api-version": version})
    assert refused.value.code == "InvalidApiVersionParameter"


def test_a_missing_api_version_is_refused() -> None:
    with pytest.raises(Fault) as refused:
        arm_wire.api_version({})
    assert refused.value.code == "MissingApiVersionParameter"


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b'"text"',
        b'{"a":1,"a":2}',
        b'{"properties":{"a":1,"A":2}}',
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'{"a":"\\u0000"}',
        b'{"a":"\\ud800"}',
        b'{"\\ud800":1}',
        b"\xff{}",
        b'{"a":' + b"[" * 70 + b"]" * 70 + b"}",
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' + b"9" * 5000 + b"}",
    ],
    ids=lambda content: content[:20].decode("latin-1"),
)
def test_bodies_that_cannot_be_understood_or_stored_are_refused(content: bytes) -> None:
    with pytest.raises(Fault) as refused:
        arm_wire.read_json(content, "application/json")
    assert refused.value.code == "InvalidRequestContent"


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "application/json; charset=utf-8", "application/merge-patch+json"]
)
def test_json_by_any_of_its_names_is_read(content_type: str) -> None:
    assert arm_wire.read_json(b'\xef\xbb\xbf{"a":[1,"b",null]}', content_type) == {"a": [1, "b", None]}


def test_another_media_type_is_refused_and_an_empty_body_is_an_empty_object() -> None:
    assert arm_wire.read_json(b" ", "text/plain") == {}
    with pytest.raises(Fault) as refused:
        arm_wire.read_json(b"{}", "text/plain")
    assert refused.value.kind is FaultKind.UNSUPPORTED_MEDIA_TYPE


def test_a_header_that_decides_something_may_not_come_twice() -> None:
    with pytest.raises(Fault):
        arm_wire.header_map([(b"Authorization", b"Bearer a"), (b"authorization", b"Bearer b")])
    assert arm_wire.header_map([(b"Accept", b"a"), (b"accept", b"b")]) == {"accept": "a"}


def test_merge_keeps_the_unnamed_replaces_arrays_and_removes_nulls() -> None:
    before = {"a": {"b": 1, "c": {"d": 2}}, "list": [1, 2], "gone": 1}
    assert merge_patch(before, {"a": {"c": {"e": 3}}, "list": [9], "gone": None}) == {
        "a": {"b": 1, "c": {"d": 2, "e": 3}},
        "list": [9],
    }
    assert merge_patch(before, {"a": {"c": {"e": 3}}}, whole=frozenset({"a.c"}))["a"] == {"b": 1, "c": {"e": 3}}
    assert before == {"a": {"b": 1, "c": {"d": 2}}, "list": [1, 2], "gone": 1}


def test_filters_are_read_or_refused() -> None:
    assert parse_filter("atScope() and assignedTo('x''y')") == (Term("atscope", "", ""), Term("assignedto", "", "x'y"))
    assert parse_filter("roleName eq 'A and B'") == (Term("eq", "rolename", "A and B"),)
    for text in ("a", "a eq b", "a eq 'b' or c eq 'd'", "a eq 'b' and", "a ne 'b'", "f('a'", "x" * 5000):
        with pytest.raises(Fault) as refused:
            parse_filter(text)
        assert refused.value.code == "InvalidFilterInQueryString"
