"""Declared fields of every form, found in one request."""

from __future__ import annotations

import pytest

from stockade.kernel.faults import Fault
from stockade.kernel.operation import Operation, UriField
from stockade.services.uris.content import read_content
from stockade.services.uris.fields import find_uris


def found(
    body_kind: str, content_type: str, body: bytes, *fields: str, **more: dict[str, str]
) -> list[tuple[str, str]]:
    uris = tuple(UriField(at) for at in fields)
    operation = Operation("Op", "POST", "/x", "A/x/action", body_kind, uris=uris)  # type: ignore[arg-type]
    content = read_content(operation, content_type, body) if body_kind != "none" else None
    query, headers = more.get("query", {}), more.get("headers", {})
    return [(one.path, one.uri) for _, one in find_uris(uris, content, query, headers)]


def test_json_path_in_any_case() -> None:
    assert found("json", "application/json", b'{"URLSource":"https://a.example"}', "urlSource") == [
        ("URLSource", "https://a.example")
    ]


def test_query_and_headers() -> None:
    place = found(
        "none", "", b"", "query:CallBackEndpoint", "header:x-url",
        query={"callbackendpoint": "https://a.example"}, headers={"x-url": "https://b.example"},
    )  # fmt: skip
    assert place == [("query:CallBackEndpoint", "https://a.example"), ("header:x-url", "https://b.example")]


def test_form_fields_and_json_in_them() -> None:
    body = b"URL=https%3A%2F%2Fa.example&definition=%7B%22audioUrl%22%3A%22https%3A%2F%2Fb.example%22%7D"
    assert found("form", "application/x-www-form-urlencoded", body, "form:url", "form:definition#audioUrl") == [
        ("form:url", "https://a.example"),
        ("form:definition.audioUrl", "https://b.example"),
    ]
    with pytest.raises(Fault, match="The form field 'definition'"):
        found("form", "application/x-www-form-urlencoded", b"definition=nothing", "form:definition#audioUrl")


def test_xml_attributes_and_ssml_in_json() -> None:
    ssml = b'<speak><audio src="https://a.example"/></speak>'
    assert found("xml", "application/ssml+xml", ssml, "xml:audio@src") == [("xml:audio[0]@src", "https://a.example")]
    body = b'{"inputs":[{"content":"plain"},{"content":"<speak><audio src=\'https://a.example\'/></speak>"}]}'
    assert found("json", "application/json", body, "ssml:inputs[*].content") == [
        ("inputs[1].content: xml:audio[0]@src", "https://a.example")
    ]


def test_lines_of_a_file() -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{}\n{"body":{"url":"https://a.example"}}\r\n--b--\r\n'
    assert found("form", "multipart/form-data; boundary=b", body, "lines:body.url") == [
        ("line 2: body.url", "https://a.example")
    ]


def test_empty_values_point_nowhere() -> None:
    assert found("json", "application/json", b'{"url":" ","other":""}', "url", "other") == []
