"""An operation's declared fields, found in one request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from stockade.kernel.operation import UriField
from stockade.policy.uris.found import FoundUri
from stockade.services.uris.content import NOTHING, Content
from stockade.services.uris.json_paths import extract, read_json
from stockade.services.uris.markup import LINKING, read_markup


def find_uris(
    fields: Sequence[UriField], content: Content | None, query: Mapping[str, str], headers: Mapping[str, str]
) -> Iterator[tuple[UriField, FoundUri]]:
    """Yield what stands in the declared fields, empty values left out. query, headers: names in lower case.

    Raises Fault(INVALID) for a form field that is declared to hold JSON and does not.
    """
    for one in fields:
        for place, value in _values(one.at, content, query, headers):
            if value.strip():
                yield one, FoundUri(place, value)


def _values(
    at: str, content: Content | None, query: Mapping[str, str], headers: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    form, colon, name = at.partition(":")
    if not colon:
        if content is not None and content.document is not NOTHING:
            yield from extract((at,), content.document, any_case=True)
        return
    match form:
        case "query" if name.lower() in query:
            yield f"query:{name}", query[name.lower()]
        case "header" if name.lower() in headers:
            yield f"header:{name}", headers[name.lower()]
    if content is None:
        return
    match form:
        case "form":
            yield from _in_form(name, content)
        case "xml" if content.markup is not None:
            yield from ((attribute.place, attribute.value) for attribute in content.markup.at(name))
        case "ssml" if content.document is not NOTHING:
            yield from _in_ssml(name, content)
        case "lines":
            for number, value in content.lines:
                yield from ((f"line {number}: {place}", text) for place, text in extract((name,), value, any_case=True))


def _in_ssml(path: str, content: Content) -> Iterator[tuple[str, str]]:
    for place, text in extract((path,), content.document, any_case=True):
        if text.lstrip().startswith("<"):
            for attribute in read_markup(text.encode()).attributes:
                if attribute.name in LINKING:
                    yield f"{place}: {attribute.place}", attribute.value


def _in_form(name: str, content: Content) -> Iterator[tuple[str, str]]:
    field, sharp, path = name.partition("#")
    for part in content.parts:
        if part.name.casefold() != field.casefold():
            continue
        if sharp:
            document = read_json(part.data, f"The form field '{field}'")
            yield from ((f"form:{field}.{place}", text) for place, text in extract((path,), document, any_case=True))
        else:
            yield f"form:{field}", part.data.decode(errors="replace")
