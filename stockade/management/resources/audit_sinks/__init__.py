"""`Stockade.Audit/sinks`: where records are sent on to, and how far each sink has got. What the settings say of credentials is not among it.

Whoever may read this of a subscription sees the sinks' names, which diagnostic settings need, and how they stand with that subscription's log.
What is about the whole platform (addresses, errors, all logs, witnesses) takes the same right in every subscription.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from stockade.audit.delivery import SinkState, states
from stockade.audit.ledger import PLATFORM_LOG
from stockade.audit.witnesses import read_state
from stockade.kernel.clock import iso
from stockade.management.authorization import granted, refusal
from stockade.management.resource_type import Call, Plugin, Route, bodies
from stockade.management.routing import SUBSCRIPTIONS
from stockade.storage.database import Reader
from stockade.storage.documents import Json

TYPE: Final = "Stockade.Audit/sinks"
WITNESSES: Final = "Stockade.Audit/witnesses"
READ: Final = f"{TYPE}/read"


class AuditSinks(Plugin):
    """Stockade.Audit/sinks and witnesses."""

    name = TYPE

    @property
    def routes(self) -> Sequence[Route]:
        return (
            # Asked for with any subscription in mind: the handler finds out what the caller may see.
            Route("GET", f"/providers/{TYPE}", None, _list),
            Route("GET", f"/providers/{WITNESSES}", None, _witnesses),
            Route("GET", f"/subscriptions/{{subscription}}/providers/{TYPE}", READ, _list_of_subscription),
        )


def _list(call: Call, reader: Reader) -> Json:
    mine, everything = _readable(call, reader)
    return bodies(_body(call, state, None if everything else mine) for state in _states(call))


def _list_of_subscription(call: Call, reader: Reader) -> Json:
    return bodies(_body(call, state, {str(call.id.subscription).lower()}) for state in _states(call))


def _witnesses(call: Call, reader: Reader) -> Json:
    if not _readable(call, reader)[1]:
        raise refusal(call.snapshot, call.credential, READ, "/", call.decision_id)
    found = read_state(call.platform.settings.delivery_dir)
    wrong = [one.message for one in found.contradictions]
    return {
        "value": [
            {
                "type": WITNESSES,
                "properties": {
                    "address": one.address,
                    "lastSuccess": _time(one.last_success),
                    "failingSince": _time(one.failing_since),
                    "lastError": one.last_error or None,
                    "logs": [
                        {"log": name, "size": place.size, "pinnedAt": _time(place.at)}
                        for name, place in sorted(one.logs.items())
                    ],
                },
            }
            for one in found.witnesses
        ],
        "contradictions": wrong,
    }


def _states(call: Call) -> list[SinkState]:
    settings = call.platform.settings
    return states(settings.delivery_dir, settings.audit.sinks)


def _readable(call: Call, reader: Reader) -> tuple[set[str], bool]:
    """Return the subscriptions of which the caller may read this, and whether those are all; Fault(AUTHORIZATION_FAILED) for none."""
    names = [document.id.rpartition("/")[2] for document in reader.list(SUBSCRIPTIONS.lower())]
    mine = {name for name in names if _may(call, f"/subscriptions/{name}")}
    everything = _may(call, "/") or (bool(names) and len(mine) == len(names))
    if not mine and not everything:
        raise refusal(call.snapshot, call.credential, READ, "/", call.decision_id)
    return mine, everything


def _may(call: Call, scope: str) -> bool:
    return granted(call.snapshot, call.credential, READ, scope, now=call.now)


def _body(call: Call, state: SinkState, logs: Collection[str] | None) -> Json:
    """Return one sink. logs: those that are shown; None: all, and what is about the whole platform."""
    shown = {name: place for name, place in state.logs.items() if logs is None or name in logs}
    properties: Json = {
        "sinkType": state.type,
        "everything": state.everything,
        "failing": bool(state.failing_since),
        "failingSince": _time(state.failing_since),
        "lastSuccess": _time(state.last_success),
        "logs": [
            {
                "log": name,
                "next": place.next,
                "behind": max(0, _size(call, name, place.size) - place.next),
                "missed": place.missed,
                "waitingSince": _time(place.waiting_since),
            }
            for name, place in sorted(shown.items(), key=lambda one: (one[0] == PLATFORM_LOG, one[0]))
        ],
    }
    if logs is None:
        properties |= {
            "address": state.address,
            "delivered": state.delivered,
            "lastError": state.last_error or None,
            "lastErrorAt": _time(state.last_error_at),
        }
    return {"id": f"/providers/{TYPE}/{state.name}", "name": state.name, "type": TYPE, "properties": properties}


def _size(call: Call, name: str, known: int) -> int:
    return call.platform.logs.reader(name).size or known


def _time(instant: float) -> str | None:
    return iso(instant) if instant else None


PLUGIN = AuditSinks()
