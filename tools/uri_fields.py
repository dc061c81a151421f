"""Write the table of URI fields into docs/loss-prevention.md, from the services' own tables: `python tools/uri_fields.py`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from stockade.kernel.shelf import Shelf
from stockade.services.installed import BESIDE

PAGE = Path(__file__).resolve().parent.parent / "docs" / "loss-prevention.md"
BEGIN, END = "<!-- uri fields: tools/uri_fields.py -->", "<!-- end of uri fields -->"
_USES = {"fetch": "fetched from", "send": "sent to", "name": "only named"}


def table() -> str:
    """Return the table as Markdown: one row per service, field and use, with the operations that have it."""
    lines = ["| Service | Field | The engine's use | Operations |", "|---|---|---|---|"]
    lines += [f"| {service} | `{at}` | {use} | {names} |" for service, at, use, names in _rows()]
    return "\n".join(lines)


def replaced(text: str) -> str:
    """Return the page with the table between its marks."""
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    return pattern.sub(lambda _: f"{BEGIN}\n{table()}\n{END}", text)


def _rows() -> Iterator[tuple[str, str, str, str]]:
    shelf: Shelf[type] = Shelf.load("stockade.services", type, folders_only=True, beside=BESIDE)
    for service in shelf:
        found: dict[tuple[str, str], dict[str, None]] = {}
        for operation in service.operations:  # type: ignore[attr-defined]
            for field in operation.uris:
                found.setdefault((field.at, _USES[field.use]), {})[operation.name] = None
        title = getattr(service, "title", "Azure OpenAI")
        for (at, use), names in found.items():
            shown = list(names)
            more = f" and {len(shown) - 4} more" if len(shown) > 5 else ""
            yield title, at, use, ", ".join(f"`{name}`" for name in (shown[:4] if more else shown)) + more


if __name__ == "__main__":
    PAGE.write_text(replaced(PAGE.read_text()))
