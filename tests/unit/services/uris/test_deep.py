"""The deep scan over whole requests."""

from __future__ import annotations

from stockade.kernel.operation import Operation
from stockade.services.uris import read_content, search

JSON = Operation("Read", "POST", "/read", "x/action", body="json")
XML = Operation("Speak", "POST", "/speak", "x/action", body="xml")
FORM = Operation("Send", "POST", "/send", "x/action", body="form")


def test_query_and_headers_are_looked_at() -> None:
    found = list(search(None, {"to": "https://a.example/x", "n": "1"}, {"x-note": "see https://b.example"}))
    assert [(uri.path, uri.uri, uri.declared) for uri in found] == [
        ("query:to", "https://a.example/x", False),
        ("header:x-note", "https://b.example", False),
    ]


def test_json_body_is_looked_at() -> None:
    content = read_content(JSON, "application/json", b'{"a":[{"b":"so: https:\\/\\/a.example\\/x"}]}')
    assert [(uri.path, uri.uri) for uri in search(content, {}, {})] == [("a[0].b", "https://a.example/x")]


def test_markup_is_looked_at_in_text_and_attributes() -> None:
    content = read_content(
        XML, "application/ssml+xml", b'<speak a="//b.example/y">go to https&#58;//a.example/x</speak>'
    )
    assert {uri.uri for uri in search(content, {}, {})} == {"//b.example/y", "https://a.example/x"}


def test_form_is_looked_at_in_values_names_and_file_names() -> None:
    body = b'--x\r\ncontent-disposition: form-data; name="n"; filename="https://b.example"\r\n\r\nhttps://a.example\r\n--x--\r\n'
    content = read_content(FORM, "multipart/form-data; boundary=x", body)
    assert {uri.uri for uri in search(content, {}, {})} == {"https://a.example", "https://b.example"}
