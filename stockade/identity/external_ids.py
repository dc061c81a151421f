"""Object ids of principals that further issuers speak for.

Role assignments and Azure's clients know principals by GUID. Entra and Keycloak put one into their tokens; other providers say `auth0|123`
or a group's name. Those get a GUID that follows from the issuer and what it says, so that a token and a registration come to the same one
without either having seen the other.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

from stockade.kernel.resource_id import is_guid

MADE: Final = 5
"""The version of the GUIDs made here."""


def object_id_of(issuer: str, subject: str, *, group: bool = False) -> str:
    """Return the object id of what an issuer calls `subject`, in lower case.

    A GUID is its own object id, unless it is of version 5: those are made here, from all other subjects as they stand (case counts), and
    from GUIDs of version 5 too. So nobody who can choose his own name at a provider can choose one that comes to another's object id, and
    a person named like a group is not that group.

    Raises UnicodeEncodeError for text that is no Unicode (lone surrogates).
    Source: RFC 9562 section 5.5 (UUIDv5); namespace: the issuer's own UUIDv5 in the URL namespace, and for groups `groups` below that.
    """
    if is_guid(subject):
        given = UUID(subject)
        if given.version != MADE:
            return str(given)
    return str(uuid5(_namespace(issuer, group), subject))


@lru_cache(256)
def _namespace(issuer: str, group: bool) -> UUID:
    own = uuid5(NAMESPACE_URL, issuer)
    return uuid5(own, "groups") if group else own
