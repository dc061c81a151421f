"""A request as it is shown: in Azure's shape, and under `stockade` what Azure's does not say."""

from __future__ import annotations

from typing import Final

from stockade.kernel.clock import iso
from stockade.lockbox.workflow import Step
from stockade.management import people
from stockade.management.lockbox.documents import NAME_PREFIX, Request
from stockade.management.lockbox.moving import shown_status
from stockade.storage.documents import Json

SOURCE: Final = "Stockade"


def shown(request: Request, now: float, to_sign: Json | None = None) -> Json:
    """Return a request as it stands at a time. to_sign: what is still to be signed for it, for who can."""
    found = request.at(now)
    asked, course = found.asked, found.course
    more: Json = {
        "account": asked.account,
        "scope": list(asked.scope),
        "breakGlass": asked.break_glass,
        "operator": {
            "objectId": asked.operator.object_id,
            "tenant": asked.operator.tenant,
            "name": course.filed_by.name,
            **({"appId": course.filed_by.app_id} if course.filed_by.app_id else {}),
        },
        "reason": asked.reason,
        "case": asked.case,
        "durationHours": course.duration_s / 3600,
        **_instants(found),
        "history": [_step(step) for step in course.history],
    }
    if to_sign is not None:
        more["approval"] = to_sign
    return {
        "id": found.id,
        "name": f"{NAME_PREFIX}{found.name}",
        "type": "requests",
        "properties": {
            "requestId": found.name,
            "justification": asked.reason,
            "status": shown_status(found).value,
            "createdDateTime": iso(course.filed_at),
            "expirationDateTime": iso(course.lapses_at),
            "duration": f"{course.duration_s / 3600:g}",
            "resourceIds": asked.account,
            "resourceType": asked.resource_type,
            "supportRequest": asked.case.rstrip("/").rsplit("/", 1)[-1],
            "supportCaseUrl": asked.case,
            "workItemSource": SOURCE,
            "subscriptionId": found.subscription,
            "stockade": more,
        },
    }


def _instants(request: Request) -> Json:
    course = request.course
    named = {
        "approvedAt": course.approved_at,
        "accessEndsAt": course.ends_at,
        "firstUsedAt": course.first_used_at,
    }
    return {name: iso(instant) for name, instant in named.items() if instant is not None}


def _step(step: Step) -> Json:
    by = people.shown(step.by)
    entry: Json = {"event": step.event.value, "status": step.status.value, "at": iso(step.at), "by": by}
    return {**entry, "comment": step.comment} if step.comment else entry
