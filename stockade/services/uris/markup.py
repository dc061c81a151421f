"""XML and SSML: the attributes and texts of a body, read with the standard library's expat.

No document type is accepted, and so no entity can be declared, read from elsewhere or blown up; no processing instruction (one can name a style
sheet); no encoding but UTF-8. Nothing is kept but attributes and texts, so depth costs nothing. Source: XML 1.0, Namespaces in XML, SSML 1.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.parsers import expat

from stockade.kernel.faults import Fault, FaultKind

MAX_ELEMENTS = 100_000
LINKING = frozenset({"src", "uri", "url", "href", "base"})
"""Attributes by which SSML names something elsewhere."""
_CHARSETS = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})


class Attribute(NamedTuple):
    """One attribute. Names are without namespace and in lower case; `place` is `xml:audio[0]@src`, counted per element's name."""

    element: str
    name: str
    value: str
    place: str


@dataclass(slots=True)
class Markup:
    """What a body holds."""

    attributes: list[Attribute] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    """Text directly within an element, in one piece, with the element's place."""

    def at(self, declared: str) -> Iterator[Attribute]:
        """Yield the attributes that `ELEMENT@ATTRIBUTE` names."""
        element, _, name = declared.lower().partition("@")
        for attribute in self.attributes:
            if attribute.name == name and element in ("*", attribute.element):
                yield attribute


def read_markup(body: bytes) -> Markup:
    """Parse XML; Fault(INVALID) for what is not well formed or holds what is not accepted."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        raise Fault(FaultKind.INVALID, "The XML in the request body is not UTF-8.") from failure
    if "\x00" in text:
        # UTF-16 without a mark: expat recognises it by its zeros, whatever encoding it is told.
        raise Fault(FaultKind.INVALID, "The XML in the request body is not UTF-8.")
    reader = _Reader()
    parser = expat.ParserCreate("utf-8", namespace_separator=" ")
    parser.XmlDeclHandler = reader.declaration
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.ProcessingInstructionHandler = reader.instruction
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.buffer_text = True
    try:
        parser.Parse(text.encode(), True)
    except expat.ExpatError as failure:
        raise Fault(FaultKind.INVALID, f"The XML in the request body is not well formed: {failure}.") from failure
    return reader.found


class _Reader:
    def __init__(self) -> None:
        self.found = Markup()
        self._counts: dict[str, int] = {}
        self._open: list[tuple[str, list[str]]] = []
        self._elements = 0

    def declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if (encoding or "").lower() not in _CHARSETS:
            raise Fault(FaultKind.INVALID, "The XML in the request body declares another encoding than UTF-8.")

    def doctype(self, *_: object) -> None:
        raise Fault(FaultKind.INVALID, "A document type is not accepted in the XML of the request body.")

    def instruction(self, *_: object) -> None:
        raise Fault(FaultKind.INVALID, "A processing instruction is not accepted in the XML of the request body.")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise Fault(FaultKind.INVALID, f"The XML in the request body has more than {MAX_ELEMENTS} elements.")
        local = name.rpartition(" ")[2]
        number = self._counts.get(local, 0)
        self._counts[local] = number + 1
        place = f"xml:{local[:80]}[{number}]"
        for full, value in attributes.items():
            attribute = full.rpartition(" ")[2]
            self.found.attributes.append(
                Attribute(local.lower(), attribute.lower(), value, f"{place}@{attribute[:80]}")
            )
        self._open.append((place, []))

    def end(self, name: str) -> None:
        place, pieces = self._open.pop()
        text = "".join(pieces)
        if text and not text.isspace():
            self.found.texts.append((place, text))

    def text(self, data: str) -> None:
        if self._open:
            self._open[-1][1].append(data)
