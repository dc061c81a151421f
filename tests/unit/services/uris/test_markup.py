"""XML and SSML."""

from __future__ import annotations

import pytest

from stockade.kernel.faults import Fault
from stockade.services.uris.markup import read_markup

SSML = b"""<?xml version="1.0" encoding="utf-8"?>
<speak version="1.0" xmlns="http://www.w3.org/2001/10/synthesis" xmlns:mstts="https://www.w3.org/2001/mstts" xml:base="https://base.example/">
  <mstts:backgroundaudio src="https://music.example/a.wav"/>
  <voice name="x">Hello <audio src="https://a.example/1"/><AUDIO SRC="https://b.example/2"/> &#104;i</voice>
  <lexicon uri="https:&#x2f;&#x2f;lex.example/"/>
</speak>"""


def test_attributes_are_found_in_any_namespace_and_case_with_entities_undone() -> None:
    found = read_markup(SSML)
    assert [(one.place, one.value) for one in found.at("*@src")] == [
        ("xml:backgroundaudio[0]@src", "https://music.example/a.wav"),
        ("xml:audio[0]@src", "https://a.example/1"),
        ("xml:AUDIO[0]@SRC", "https://b.example/2"),
    ]
    assert [one.value for one in found.at("audio@src")] == ["https://a.example/1", "https://b.example/2"]
    assert [one.value for one in found.at("lexicon@uri")] == ["https://lex.example/"]
    assert [one.value for one in found.at("*@base")] == ["https://base.example/"]


def test_text_is_found_in_one_piece() -> None:
    assert read_markup(b"<a>ht<b>x</b>tps&#58;//e.example</a>").texts == [
        ("xml:b[0]", "x"),
        ("xml:a[0]", "https://e.example"),
    ]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', "document type"),
        (b'<!DOCTYPE a SYSTEM "https://e.example/a.dtd"><a/>', "document type"),
        (b'<?xml-stylesheet href="https://e.example/"?><a/>', "processing instruction"),
        (b'<?xml version="1.0" encoding="utf-16"?><a/>', "another encoding"),
        (b'<?xml version="1.0" encoding="utf-7"?><a/>', "another encoding"),
        ("<a/>".encode("utf-16"), "not UTF-8"),
        ("<a/>".encode("utf-16-le"), "not UTF-8"),
        (b"<a><b></a>", "not well formed"),
        (b'<a x="1" x="2"/>', "not well formed"),
        (b"<a/><b/>", "not well formed"),
        (b"", "not well formed"),
        (b"<a>" + b"<b/>" * 100_000 + b"</a>", "more than 100000"),
    ],
)
def test_what_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(Fault) as refused:
        read_markup(body)
    assert said in refused.value.message


def test_depth_costs_no_stack() -> None:
    assert len(read_markup(b"<a>" * 50_000 + b"</a>" * 50_000).attributes) == 0
