"""A form with one file in it, read as it arrives: of the file nothing is held, and what the form says may stand before it or after.

As strict as `uris/forms.py`, which reads small forms whole. Source: RFC 7578.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from stockade.kernel.faults import Fault, FaultKind
from stockade.services.uris.forms import MAX_BOUNDARY, MULTIPART, Part, read_part

MAX_FIELDS: Final = 32
MAX_FIELD_BYTES: Final = 8 * 1024
MAX_FILENAME: Final = 512


class UploadForm:
    """One upload. `begin`, then `file` to its end; `fields` has what the form has said by then.

    Fault(INVALID) for a form that is broken, names a field twice, or has another file than the one in the field `file`;
    Fault(UNSUPPORTED_MEDIA_TYPE) for a body that is no form.
    """

    def __init__(self, content_type: str, source: AsyncIterator[bytes]) -> None:
        media, options = parse_options_header(content_type.encode("latin-1", "replace"))
        if media != MULTIPART.encode():
            raise Fault(
                FaultKind.UNSUPPORTED_MEDIA_TYPE,
                f"This operation reads {MULTIPART}; the request's content type is '{content_type[:60]}'.",
                target="Content-Type",
            )
        boundary = options.get(b"boundary", b"")
        if not 0 < len(boundary) <= MAX_BOUNDARY:
            raise Fault(
                FaultKind.INVALID, "The request's content type names no usable boundary.", target="Content-Type"
            )
        self._source, self._reader = source, _Reader()
        self._parser = MultipartParser(boundary, self._reader.callbacks())

    @property
    def fields(self) -> dict[str, str]:
        """The form's other fields that have been read."""
        return self._reader.fields

    @property
    def filename(self) -> str:
        """Once `begin` has returned."""
        return self._reader.filename or ""

    async def begin(self) -> None:
        """Read until the file begins; Fault(INVALID) when none does."""
        while self._reader.filename is None:
            if not await self._more():
                raise Fault(FaultKind.INVALID, "The form has no file in the field 'file'.", target="file")

    async def file(self) -> AsyncIterator[bytes]:
        """Yield the file's bytes, and read what follows it."""
        while True:
            pieces = self._reader.taken()
            if pieces:
                yield pieces
            if not await self._more():
                return

    async def _more(self) -> bool:
        chunk = await anext(self._source, None)
        try:
            if chunk is None:
                self._parser.finalize()
                if not self._reader.ended:
                    raise Fault(FaultKind.INVALID, "The form in the request body ends before its last boundary.")
                return False
            self._parser.write(chunk)
        except FormParserError as failure:
            raise Fault(FaultKind.INVALID, "The form in the request body cannot be read.") from failure
        return True


class _Reader:
    """Takes what the parser reports."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.ended = False
        self._pieces: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value, self._data = bytearray(), bytearray(), bytearray()
        self._part: Part | None = None
        self._parts = 0

    def taken(self) -> bytes:
        """Return what has come of the file since the last time."""
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def callbacks(self) -> Any:
        """Return what `MultipartParser` calls."""
        return {
            "on_part_begin": self._part_begin,
            "on_header_begin": self._header_begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_FIELDS:
            raise Fault(FaultKind.INVALID, f"The form has more than {MAX_FIELDS} fields.")
        self._headers, self._part = {}, None
        self._data.clear()

    def _header_begin(self) -> None:
        self._name.clear()
        self._value.clear()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        name = bytes(self._name).lower()
        if name in self._headers:
            raise Fault(FaultKind.INVALID, "A part of the form gives a header twice.")
        self._headers[name] = bytes(self._value)

    def _headers_finished(self) -> None:
        self._part = part = read_part(self._headers)
        named = part.name.casefold()
        if named in self.fields or (named == "file" and self.filename is not None):
            raise Fault(FaultKind.INVALID, f"The form field '{part.name[:60]}' is given twice.", target=part.name[:60])
        if named == "file":
            if part.filename is None:
                raise Fault(FaultKind.INVALID, "The form field 'file' holds no file with a name.", target="file")
            if len(part.filename) > MAX_FILENAME:
                raise Fault(FaultKind.INVALID, f"The file's name is longer than {MAX_FILENAME}.", target="file")
            self.filename = part.filename
        elif part.filename is not None:
            raise Fault(
                FaultKind.INVALID, f"The form field '{part.name[:60]}' cannot be a file.", target=part.name[:60]
            )

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part is not None and self._part.filename is not None:
            self._pieces.append(data[start:end])
            return
        if len(self._data) + end - start > MAX_FIELD_BYTES:
            raise Fault(FaultKind.INVALID, f"A field of the form is longer than {MAX_FIELD_BYTES} bytes.")
        self._data += data[start:end]

    def _part_end(self) -> None:
        part = self._part
        if part is None or part.filename is not None:
            return
        try:
            self.fields[part.name.casefold()] = self._data.decode()
        except UnicodeDecodeError as failure:
            raise Fault(
                FaultKind.INVALID, f"The form field '{part.name[:60]}' is not UTF-8.", target=part.name[:60]
            ) from failure

    def _end(self) -> None:
        self.ended = True
