"""`GET {account}/controlReport?control=dlp&since=7d`: what a control refused or would have, by whom, and what would let it pass."""

from __future__ import annotations

from typing import Final

from stockade.decisions.report import Asked, report
from stockade.kernel.control import Control
from stockade.management.decisions.explaining import number, span, store
from stockade.management.resource_type import Call, display_id
from stockade.management.shape import one_of
from stockade.storage.database import Reader
from stockade.storage.documents import Document, Json

WEEK_S: Final = 7 * 86_400.0


def control_report(call: Call, reader: Reader, document: Document) -> Json:
    """Answer with the report. `aggregate`: the prefix length that IPv4 addresses are widened to in the proposal."""
    control = Control(one_of(call.query.get("control", ""), tuple(one.value for one in Control), "control"))
    since = call.now - span(call, "since", WEEK_S)
    with store(call) as kept:
        found = kept.findings(document.id, control, since)
    asked = Asked(
        account_id=display_id(document),
        control=control,
        since=since,
        now=call.now,
        properties=document.body["properties"],
        aggregate=number(call, "aggregate", 0, 32) or None,
    )
    return report(asked, found, call.snapshot)
