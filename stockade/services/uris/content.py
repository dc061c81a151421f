"""A request's body as its operation declares it, read once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.operation import Operation
from stockade.services.uris.forms import MULTIPART, Part, read_form, write_form
from stockade.services.uris.json_paths import read_json, texts
from stockade.services.uris.markup import Markup, read_markup

NOTHING: Final = object()
"""No JSON document: `None` is one."""
MAX_LINES = 100_000
LINE_TYPES = frozenset({"application/jsonl", "application/x-ndjson", "application/json-lines"})
_MEDIA = ("image/", "audio/", "video/")
_DOCUMENTS = frozenset({"application/octet-stream", "application/pdf", "application/ogg"})
_OFFICE = "application/vnd.openxmlformats-officedocument."
_LOOKS_LIKE_JSON = (b"{", b"[")


@dataclass(slots=True)
class Content:
    """What a body holds. `body` and `content_type` are what is dispatched."""

    body: bytes
    content_type: str
    document: Any = NOTHING
    parts: tuple[Part, ...] = ()
    markup: Markup | None = None
    lines: list[tuple[int, Any]] = field(default_factory=list)
    """Line number, from 1, and what stands in the line."""
    plain: str = ""

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield every text in the body with its place, for those who look for URIs anywhere. Files that are not text hold none."""
        if self.document is not NOTHING:
            yield from texts(self.document)
        for number, value in self.lines:
            yield from (
                (f"line {number}: {place}" if place else f"line {number}", text) for place, text in texts(value)
            )
        for part in self.parts:
            yield f"form:{part.name[:80]}", part.name
            if part.filename is not None:
                yield f"form:{part.name[:80]}", part.filename
            text = part.text()
            if text is not None:
                yield f"form:{part.name[:80]}", text
        if self.markup is not None:
            yield from ((attribute.place, attribute.value) for attribute in self.markup.attributes)
            yield from self.markup.texts
        if self.plain:
            yield "body", self.plain


def read_content(operation: Operation, content_type: str, body: bytes) -> Content:
    """Read a body; Fault(INVALID) for one that is broken or could be read in two ways, Fault(UNSUPPORTED_MEDIA_TYPE) for another kind."""
    media = content_type.partition(";")[0].strip().lower()
    match operation.body:
        case "json":
            return _json(content_type, body)
        case "xml":
            return Content(body, content_type, markup=read_markup(body))
        case "form":
            return _form(operation, media, content_type, body)
        case "media":
            if media in ("application/json", "text/json") or media.endswith("+json") or not (media or body):
                return _json(content_type, body)
            if media == MULTIPART:
                return _form(operation, media, content_type, body)
            _check_media(media, body)
        case "text":
            try:
                return Content(body, content_type, plain=body.decode())
            except UnicodeDecodeError as failure:
                raise Fault(FaultKind.INVALID, "The request body is not UTF-8.") from failure
    return Content(body, content_type)


def read_lines(body: bytes) -> list[tuple[int, Any]]:
    """Parse JSON lines; the fault names the line."""
    rows = body.split(b"\n")
    if len(rows) > MAX_LINES:
        raise Fault(FaultKind.INVALID, f"The file has more than {MAX_LINES} lines.")
    return [(number, read_json(row, f"Line {number}")) for number, row in enumerate(rows, 1) if row.strip()]


def _form(operation: Operation, media: str, content_type: str, body: bytes) -> Content:
    parts = read_form(content_type, body)
    new_type, new_body = write_form(parts, media)
    lines = [one for part in parts if _is_lines(part, operation) for one in read_lines(part.data)]
    return Content(new_body, new_type, parts=parts, lines=lines)


def _json(content_type: str, body: bytes) -> Content:
    # Some operations take no members at all, and clients then send no body: there is nothing in it to be read in two ways.
    return Content(body, content_type, document=read_json(body) if body else NOTHING)


def _is_lines(part: Part, operation: Operation) -> bool:
    if part.filename is None or not any(field.at.startswith("lines:") for field in operation.uris):
        return False
    media = part.content_type.partition(";")[0].strip().lower()
    # An upstream goes by the name or looks into the file, so the declared type alone does not excuse it from being looked at.
    return (
        media in LINE_TYPES or part.filename.lower().endswith((".jsonl", ".ndjson")) or part.data.lstrip()[:1] == b"{"
    )


def _check_media(media: str, body: bytes) -> None:
    """Refuse what could be something else than the file it is said to be: an upstream that guesses would read a document we did not."""
    known = media in _DOCUMENTS or media.startswith((*_MEDIA, _OFFICE))
    if not known or media.endswith(("+xml", "/xml")):
        raise Fault(
            FaultKind.UNSUPPORTED_MEDIA_TYPE,
            f"This operation reads application/json, an image, audio or a document; the request's content type is '{media[:60]}'.",
            target="Content-Type",
        )
    if body.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in _LOOKS_LIKE_JSON:
        raise Fault(
            FaultKind.UNSUPPORTED_MEDIA_TYPE,
            f"The request body looks like JSON but is declared as {media[:60]}.",
            target="Content-Type",
        )
