"""Whatever a body holds: what is looked at is what is dispatched, and reading never fails but with a Fault."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stockade.kernel.faults import Fault
from stockade.kernel.operation import Operation, UriField
from stockade.services.uris import extract, find_uris, read_content
from stockade.services.uris.forms import Part, read_form, write_form
from stockade.services.uris.markup import read_markup

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["url", "URL", "a", "b"]) | TEXT, inner, max_size=4)
    ),
    max_leaves=12,
)
PARTS = st.lists(
    st.builds(
        Part,
        TEXT.filter(bool),
        st.binary(max_size=40),
        st.none() | TEXT,
        st.sampled_from(["", "text/plain", "audio/wav"]),
    ),
    max_size=5,
    unique_by=lambda part: part.name.casefold(),
)
KINDS = ("json", "form", "xml", "media", "text")


@given(VALUES)
def test_every_text_under_a_member_is_found_wherever_it_stands(document: Any) -> None:
    def under(value: Any, *, named: bool) -> list[str]:
        if isinstance(value, str):
            return [value] if named else []
        if isinstance(value, list):
            return [text for item in value for text in under(item, named=named)]
        if isinstance(value, dict):
            return [text for name, item in value.items() for text in under(item, named=name.casefold() == "url")]
        return []

    found = [text for _, text in extract(("**.url",), document, any_case=True)]
    assert sorted(found) == sorted(under(document, named=False))


@given(VALUES)
def test_json_is_dispatched_as_it_was_read(document: Any) -> None:
    body = json.dumps(document).encode()
    content = read_content(Operation("Op", "POST", "/x", None, "json"), "application/json", body)
    assert content.body == body
    assert content.document == document


@given(PARTS)
def test_a_form_reads_the_same_after_it_was_written_anew(parts: list[Part]) -> None:
    first = read_form(*write_form(parts, "multipart/form-data"))
    assert [part.data for part in first] == [part.data for part in parts]
    assert [part.content_type for part in first] == [part.content_type for part in parts]
    assert read_form(*write_form(first, "multipart/form-data")) == first


@given(
    st.sampled_from(KINDS),
    st.sampled_from(["application/json", "multipart/form-data; boundary=b", "application/ssml+xml", "image/png", ""]),
    st.binary(max_size=200),
)
def test_no_body_brings_reading_down(kind: Any, content_type: str, body: bytes) -> None:
    operation = Operation(
        "Op",
        "POST",
        "/x",
        None,
        kind,
        uris=(UriField("**.url"), UriField("form:a#b"), UriField("xml:*@src"), UriField("lines:x")),
    )
    with suppress(Fault):  # and nothing else
        content = read_content(operation, content_type, body)
        list(find_uris(operation.uris, content, {}, {}))
        list(content.texts())


@given(
    st.lists(
        st.sampled_from(
            [
                "<a>",
                "</a>",
                "<b src='u'/>",
                "text",
                "&amp;",
                "<!DOCTYPE x>",
                "<?p?>",
                "<![CDATA[x]]>",
                "<!-- c -->",
                " xmlns:q='r'",
            ]
        ),
        max_size=12,
    )
)
def test_markup_has_every_attribute_or_is_refused(pieces: list[str]) -> None:
    body = "<r>" + "".join(pieces) + "</r>"
    try:
        found = read_markup(body.encode())
    except Fault:
        return
    assert len(list(found.at("b@src"))) == body.count("<b src='u'/>")
    assert "<!DOCTYPE" not in body and "<?p" not in body
