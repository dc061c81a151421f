"""Where URIs stand in a request, and how they are taken out: one file per form of body, one that reads a table's fields.

A body is read once, and only in a way that leaves no second reading: what several parsers would read differently (doubled members, doubled
parts, a document type, another charset than UTF-8) is refused, and a form is written anew from what was read. So what was looked at is what
an upstream gets.
"""

from stockade.services.uris.content import Content, read_content
from stockade.services.uris.deep import search
from stockade.services.uris.fields import find_uris
from stockade.services.uris.json_paths import extract, put

__all__ = ["Content", "extract", "find_uris", "put", "read_content", "search"]
