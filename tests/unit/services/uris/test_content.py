"""A body read as its operation declares it."""

from __future__ import annotations

import pytest

from stockade.kernel.faults import Fault
from stockade.kernel.operation import Operation, UriField
from stockade.services.uris.content import NOTHING, read_content

JSON = Operation("Op", "POST", "/x", "A/x/action", "json")
MEDIA = Operation("Op", "POST", "/x", "A/x/action", "media")
FORM = Operation("Op", "POST", "/x", "A/x/action", "form", uris=(UriField("lines:body.url"),))
XML = Operation("Op", "POST", "/x", "A/x/action", "xml")
TEXT = Operation("Op", "POST", "/x", "A/x/action", "text")


def test_json_is_dispatched_as_it_came() -> None:
    body = b'{ "n": 12345678901234567890123, "f": 1.0 }'
    content = read_content(JSON, "application/json", body)
    assert content.body is body
    assert content.document == {"n": 12345678901234567890123, "f": 1.0}


def test_no_body_is_no_document() -> None:
    assert read_content(JSON, "", b"").document is NOTHING
    assert read_content(MEDIA, "", b"").document is NOTHING


@pytest.mark.parametrize(
    "content_type", ["image/png", "application/octet-stream", "audio/wav; rate=16000", "application/pdf"]
)
def test_a_file_is_not_looked_into(content_type: str) -> None:
    content = read_content(MEDIA, content_type, b"\x89PNG https://e.example")
    assert content.body == b"\x89PNG https://e.example"
    assert list(content.texts()) == []


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/octet-stream", b' \r\n{"url":"https://e.example"}'),
        ("image/png", b'\xef\xbb\xbf[{"url":"https://e.example"}]'),
        ("text/plain", b"x"),
        ("image/svg+xml", b"<svg/>"),
        ("application/xml", b"<a/>"),
        ("", b"x"),
    ],
)
def test_what_may_be_something_else_than_a_file_is_refused(content_type: str, body: bytes) -> None:
    with pytest.raises(Fault):
        read_content(MEDIA, content_type, body)


def test_form_is_written_anew() -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\nepilogue https://e.example'
    content = read_content(MEDIA, "multipart/form-data; boundary=b", body)
    assert b"epilogue" not in content.body
    assert content.content_type.startswith("multipart/form-data; boundary=")
    assert [part.data for part in content.parts] == [b"1"]


@pytest.mark.parametrize(
    ("name", "kind"), [("a.jsonl", ""), ("a.txt", "application/jsonl"), ("a.bin", "application/octet-stream")]
)
def test_lines_of_an_uploaded_file_are_read_whatever_it_is_called(name: str, kind: str) -> None:
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
    head += f"Content-Type: {kind}\r\n" if kind else ""
    rows = '{"body":{"url":"https://a.example"}}\n\n{"body":{}}\n'
    content = read_content(FORM, "multipart/form-data; boundary=b", f"{head}\r\n{rows}\r\n--b--\r\n".encode())
    assert [number for number, _ in content.lines] == [1, 3]


def test_a_broken_line_is_named() -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{}\n{"a":1,"a":2}\r\n--b--\r\n'
    )
    with pytest.raises(Fault, match="Line 2"):
        read_content(FORM, "multipart/form-data; boundary=b", body)


def test_texts_of_every_form_of_body() -> None:
    assert ("u", "https://e.example") in set(
        read_content(JSON, "application/json", b'{"u":"https://e.example"}').texts()
    )
    assert list(read_content(XML, "application/xml", b'<a b="c">d</a>').texts()) == [
        ("xml:a[0]@b", "c"),
        ("xml:a[0]", "d"),
    ]
    assert list(read_content(TEXT, "text/plain", b"see https://e.example").texts()) == [
        ("body", "see https://e.example")
    ]
    form = read_content(FORM, "application/x-www-form-urlencoded", b"a=https%3A%2F%2Fe.example")
    assert list(form.texts()) == [("form:a", "a"), ("form:a", "https://e.example")]
