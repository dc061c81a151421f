"""Who makes a call, as histories name people."""

from __future__ import annotations

from stockade.kernel.principal import Person
from stockade.management.resource_type import Call
from stockade.storage.documents import Json


def caller(call: Call) -> Person:
    """Return the principal that a call is of, under the directory's name for it."""
    credential = call.credential
    known = call.snapshot.only("principal", credential.object_id)
    name = known.display_name if known is not None else credential.object_id
    return Person(credential.object_id, credential.app_id, str(name))


def shown(who: Person) -> Json:
    """Return a person as histories show one."""
    return {"objectId": who.object_id, **({"appId": who.app_id} if who.app_id else {}), "name": who.name}
