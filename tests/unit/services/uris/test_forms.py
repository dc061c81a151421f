"""Forms: read strictly, written anew."""

from __future__ import annotations

import pytest

from stockade.kernel.faults import Fault
from stockade.services.uris.forms import Part, read_form, write_form

TYPE = "multipart/form-data; boundary=b"


def part(disposition: str, data: str = "x", more: str = "") -> str:
    return f"--b\r\nContent-Disposition: {disposition}\r\n{more}\r\n{data}\r\n"


def multipart(*parts: str, end: str = "--b--\r\n") -> bytes:
    return ("".join(parts) + end).encode()


def test_fields_and_files_are_read() -> None:
    body = multipart(
        part('form-data; name="definition"', '{"audioUrl":"https://a.example"}', "Content-Type: application/json\r\n"),
        part('form-data; name="audio"; filename="a.wav"', "RIFF", "Content-Type: audio/wav\r\nContent-Length: 4\r\n"),
    )
    assert read_form(TYPE, body) == (
        Part("definition", b'{"audioUrl":"https://a.example"}', None, "application/json"),
        Part("audio", b"RIFF", "a.wav", "audio/wav"),
    )


def test_what_is_written_reads_as_what_was_read() -> None:
    parts = (
        Part("a", b"1\r\n--b\r\n", None, ""),
        Part("f\u00e9", b"\x00\xff", 'q"\r\n.bin', "application/octet-stream"),
    )
    content_type, body = write_form(parts, "multipart/form-data")
    again = read_form(content_type, body)
    assert [one.data for one in again] == [one.data for one in parts]
    assert again[1].name == "f\u00e9"
    assert "\r" not in (again[1].filename or "")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (multipart(part('form-data; name="a"'), part('form-data; name="A"')), "twice"),
        (multipart(part('form-data; name="a"'), end=""), "last boundary"),
        (multipart(part("form-data")), "no name"),
        (multipart(part('attachment; name="a"')), "no name"),
        (multipart(part('form-data; name="a"', more="Content-Transfer-Encoding: base64\r\n")), "not accepted"),
        (multipart(part('form-data; name="a"', more='Content-Disposition: form-data; name="b"\r\n')), "a header twice"),
        (multipart(*(part(f'form-data; name="{n}"') for n in range(65))), "more than 64"),
        (b"no form at all", "cannot be read"),
        (b"", "last boundary"),
    ],
)
def test_broken_and_ambiguous_forms_are_refused(body: bytes, said: str) -> None:
    with pytest.raises(Fault) as refused:
        read_form(TYPE, body)
    assert said in refused.value.message


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=" + "b" * 71])
def test_boundary_has_to_be_there(content_type: str) -> None:
    with pytest.raises(Fault, match="boundary"):
        read_form(content_type, b"--b--\r\n")


def test_urlencoded_forms() -> None:
    form = "application/x-www-form-urlencoded"
    parts = read_form(form, b"url=https%3A%2F%2Fa.example&b=")
    assert [(one.name, one.data) for one in parts] == [("url", b"https://a.example"), ("b", b"")]
    assert write_form(parts, form) == (form, b"url=https%3A%2F%2Fa.example&b=")
    for wrong in (b"a=1&A=2", b"a=%ff", "a=\u00e9".encode(), b"&".join(b"a%d=1" % n for n in range(300))):
        with pytest.raises(Fault):
            read_form(form, wrong)


def test_other_types_are_no_forms() -> None:
    with pytest.raises(Fault, match="multipart/form-data"):
        read_form("text/plain", b"a=1")
