"""What is told of requests for E0, and to whom: operators of what waits for them, the contact of what became of it."""

from __future__ import annotations

from stockade.management import outbox
from stockade.management.outbox import Notice
from stockade.settings import Settings
from stockade.storage.database import Writer
from stockade.storage.documents import Document


def submitted(writer: Writer, settings: Settings, request: Document, now: float) -> None:
    """Tell operators of a new request."""
    what = request.body["properties"]
    text = f"Reason: {what['reason']}\nContact: {what['contact']}\n\nAn answer is promised by {_day(what['dueBy'])}."
    _post(writer, settings, request, now, "submitted", "was made", text, operators=True)


def overdue(writer: Writer, settings: Settings, request: Document, now: float) -> None:
    """Tell operators of a request that nobody answered in time."""
    text = f"An answer was promised by {_day(request.body['properties']['dueBy'])}."
    _post(writer, settings, request, now, "overdue", "is overdue", text, operators=True)


def decided(writer: Writer, settings: Settings, request: Document, now: float) -> None:
    """Tell the contact of an approval, a denial, or a place in the queue."""
    what = request.body["properties"]
    said = what["history"][-1].get("comment", "")
    match what["state"]:
        case "Approved":
            event, title, text = "approved", "is approved", _how(request)
        case "Queued":
            event, title = "queued", f"is approved and waits for room, at place {what['queuePosition']}"
            text = "You will be told when there is room. Nothing has to be done until then."
        case _:
            event, title, text = "denied", "is denied", "Another request can be made at any time."
    _post(writer, settings, request, now, event, title, f"{said}\n\n{text}".strip(), contact=True)


def came_up(writer: Writer, settings: Settings, request: Document, now: float) -> None:
    """Tell the contact that the queue has come to it."""
    text = f"There is room now.\n\n{_how(request)}"
    _post(writer, settings, request, now, "approved", "is approved", text, contact=True)


def moved_up(writer: Writer, settings: Settings, request: Document, now: float) -> None:
    """Tell the contact of a better place in the queue."""
    place = request.body["properties"]["queuePosition"]
    _post(writer, settings, request, now, "moved", f"is at place {place} of the queue", "", contact=True)


def withdrawn(writer: Writer, settings: Settings, request: Document, now: float) -> None:
    """Tell the contact and operators that an approval or request is no more."""
    text = "No further accounts can be created with it. Those that are there stay."
    _post(writer, settings, request, now, "withdrawn", "is withdrawn", text, contact=True, operators=True)


def _post(
    writer: Writer,
    settings: Settings,
    request: Document,
    now: float,
    event: str,
    title: str,
    text: str,
    *,
    contact: bool = False,
    operators: bool = False,
) -> None:
    what = request.body["properties"]
    named = f"{what['sku']} for {what['kind']} in {what['location']}"
    shown = ("kind", "sku", "location", "count", "state", "queuePosition", "dueBy", "contact")
    notice = Notice(
        kind=f"skuRequest.{event}",
        subject=str(request.body["id"]),
        title=f"Request '{request.name}' ({named}) {title}",
        text=f"{text}\n\n{request.body['id']}".strip(),
        data={name: what[name] for name in shown if name in what},
        to=(what["contact"],) if contact else (),
        operators=operators,
        subscription=request.subscription,
    )
    outbox.post(writer, settings, notice, now)


def _how(request: Document) -> str:
    what = request.body["properties"]
    times = "an account" if what["count"] == 1 else f"{what['count']} accounts"
    return (
        f"{times.capitalize()} can be created now: az cognitiveservices account create --kind {what['kind']} --sku {what['sku']} "
        f"--location {what['location']} ..."
    )


def _day(instant: str) -> str:
    return f"{instant[:16].replace('T', ' ')} UTC"
