"""The deep scan over a whole request: its body in whatever form, its query and the headers that go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stockade.policy.uris.found import FoundUri
from stockade.policy.uris.scan import scan_json, scan_text
from stockade.services.uris.content import NOTHING, Content


def search(content: Content | None, query: Mapping[str, str], headers: Mapping[str, str]) -> Iterator[FoundUri]:
    """Yield the URIs in any string of a request, each with its place; those in declared fields too."""
    for name, value in query.items():
        yield from (FoundUri(f"query:{name[:80]}", uri, declared=False) for uri in scan_text(value))
    for name, value in headers.items():
        yield from (FoundUri(f"header:{name}", uri, declared=False) for uri in scan_text(value))
    if content is None:
        return
    if content.document is not NOTHING:
        yield from scan_json(content.body)
        return
    for place, text in content.texts():
        yield from (FoundUri(place, uri, declared=False) for uri in scan_text(text))
