"""Forms: multipart/form-data and application/x-www-form-urlencoded, read strictly and written anew.

Parsers of multipart bodies differ in what they make of odd ones. So the body that came is never passed on: a new one is written from what was
read, with a boundary of ours. Source: RFC 7578, RFC 9110 section 8.3.1, URL Standard (application/x-www-form-urlencoded).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from stockade.kernel.faults import Fault, FaultKind

MULTIPART = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"
MAX_PARTS = 64
MAX_FIELDS = 256
MAX_BOUNDARY = 70
_UNREADABLE = "The form in the request body cannot be read."


@dataclass(frozen=True, slots=True)
class Part:
    """One field. filename: None for a field that is no file; content_type: "" where none was given."""

    name: str
    data: bytes
    filename: str | None = None
    content_type: str = ""

    def text(self) -> str | None:
        """Return a field's value as text; None where it is none."""
        try:
            return self.data.decode()
        except UnicodeDecodeError:
            return None


def read_form(content_type: str, body: bytes) -> tuple[Part, ...]:
    """Parse a form; Fault(INVALID) for one that is broken, too large in number, or names a field twice (in whatever case)."""
    media, options = parse_options_header(content_type.encode("latin-1", "replace"))
    if media == URLENCODED.encode():
        parts = _urlencoded(body)
    elif media == MULTIPART.encode():
        parts = _multipart(options.get(b"boundary", b""), body)
    else:
        raise Fault(
            FaultKind.UNSUPPORTED_MEDIA_TYPE,
            f"This operation reads {MULTIPART} or {URLENCODED}; the request's content type is '{content_type[:60]}'.",
            target="Content-Type",
        )
    seen: set[str] = set()
    for part in parts:
        name = part.name.casefold()
        if name in seen:
            raise Fault(FaultKind.INVALID, f"The form field '{part.name[:60]}' is given twice.", target=part.name[:60])
        seen.add(name)
    return parts


def write_form(parts: Sequence[Part], media: str) -> tuple[str, bytes]:
    """Return content type and body of a form."""
    if media == URLENCODED:
        return URLENCODED, urlencode([(part.name, part.data) for part in parts]).encode()
    boundary = secrets.token_hex(16)
    pieces: list[bytes] = []
    for part in parts:
        head = f'--{boundary}\r\ncontent-disposition: form-data; name="{_quoted(part.name)}"'
        if part.filename is not None:
            head += f'; filename="{_quoted(part.filename)}"'
        if part.content_type:
            head += f"\r\ncontent-type: {part.content_type}"
        pieces += [head.encode(), b"\r\n\r\n", part.data, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    return f"{MULTIPART}; boundary={boundary}", b"".join(pieces)


def _urlencoded(body: bytes) -> tuple[Part, ...]:
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError as failure:
        raise Fault(FaultKind.INVALID, _UNREADABLE) from failure
    return tuple(Part(name, value.encode()) for name, value in pairs)


def _multipart(boundary: bytes, body: bytes) -> tuple[Part, ...]:
    if not 0 < len(boundary) <= MAX_BOUNDARY:
        raise Fault(FaultKind.INVALID, "The request's content type names no usable boundary.", target="Content-Type")
    reader = _Reader(body)
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as failure:
        raise Fault(FaultKind.INVALID, _UNREADABLE) from failure
    if not reader.ended:
        raise Fault(FaultKind.INVALID, "The form in the request body ends before its last boundary.")
    return tuple(reader.parts)


class _Reader:
    """Collects what the parser reports."""

    def __init__(self, body: bytes) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value, self._data = bytearray(), bytearray(), bytearray()

    def callbacks(self) -> Any:
        """Return what `MultipartParser` calls."""

        def begin() -> None:
            if len(self.parts) >= MAX_PARTS:
                raise Fault(FaultKind.INVALID, f"The form has more than {MAX_PARTS} fields.")
            self._headers, self._data = {}, bytearray()

        def header_begin() -> None:
            self._name, self._value = bytearray(), bytearray()

        def header_name(data: bytes, start: int, end: int) -> None:
            self._name += data[start:end]

        def header_value(data: bytes, start: int, end: int) -> None:
            self._value += data[start:end]

        def header_end() -> None:
            name = bytes(self._name).lower()
            if name in self._headers:
                raise Fault(FaultKind.INVALID, "A part of the form gives a header twice.")
            self._headers[name] = bytes(self._value)

        def part_data(data: bytes, start: int, end: int) -> None:
            self._data += data[start:end]

        def part_end() -> None:
            self.parts.append(read_part(self._headers, bytes(self._data)))
            self._data = bytearray()

        def end() -> None:
            self.ended = True

        return {
            "on_part_begin": begin,
            "on_header_begin": header_begin,
            "on_header_field": header_name,
            "on_header_value": header_value,
            "on_header_end": header_end,
            "on_part_data": part_data,
            "on_part_end": part_end,
            "on_end": end,
        }


def read_part(headers: dict[bytes, bytes], data: bytes = b"") -> Part:
    """Return a part from its headers; Fault(INVALID) for one without a name, and for headers that no part has."""
    disposition, options = parse_options_header(headers.pop(b"content-disposition", b""))
    if disposition != b"form-data" or b"name" not in options:
        raise Fault(FaultKind.INVALID, "A part of the form has no name.")
    content_type = headers.pop(b"content-type", b"").decode("latin-1").strip()
    headers.pop(b"content-length", None)
    if headers:
        other = next(iter(headers)).decode("latin-1")[:60]
        raise Fault(FaultKind.INVALID, f"A part of the form has the header '{other}', which is not accepted.")
    if not content_type.isascii() or (content_type and not content_type.isprintable()):
        raise Fault(FaultKind.INVALID, "A part of the form has a content type that cannot be read.")
    try:
        name = options[b"name"].decode()
        filename = options[b"filename"].decode() if b"filename" in options else None
    except UnicodeDecodeError as failure:
        raise Fault(FaultKind.INVALID, "A name in the form is not UTF-8.") from failure
    return Part(name, data, filename, content_type)


def _quoted(text: str) -> str:
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A").replace("\\", "%5C")
