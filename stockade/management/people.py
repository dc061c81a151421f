"""Who makes a call, as histories name people, and how a history shows them."""

from __future__ import annotations

from stockade.kernel.principal import Person, TokenCredential
from stockade.management.resource_type import Call
from stockade.policy.snapshot import Snapshot
from stockade.storage.documents import Json


def caller(call: Call) -> Person:
    """Return the principal that a call is of, under the directory's name for it."""
    return known(call.snapshot, call.credential)


def known(snapshot: Snapshot, credential: TokenCredential) -> Person:
    """Return the principal whose token it is, under the directory's name for it; under its object id where the directory has none."""
    found = snapshot.only("principal", credential.object_id)
    name = found.display_name if found is not None else credential.object_id
    return Person(credential.object_id, credential.app_id, str(name))


def shown(who: Person) -> Json:
    """Return a person as histories show one."""
    return {"objectId": who.object_id, **({"appId": who.app_id} if who.app_id else {}), "name": who.name}
