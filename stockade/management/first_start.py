"""What ARM needs before anyone can call it: a subscription and an Owner. Written once, by the first start."""

from __future__ import annotations

from stockade.kernel.clock import iso
from stockade.kernel.ids import new_guid
from stockade.kernel.principal import PrincipalType
from stockade.kernel.resource_id import ResourceId
from stockade.management.authorization_scopes import ROLE_ASSIGNMENTS, authorship, role_definition_id
from stockade.management.resources.subscriptions import TYPE as SUBSCRIPTIONS
from stockade.management.resources.subscriptions import subscription_body
from stockade.storage.database import Writer
from stockade.storage.documents import Document


def create_subscription(writer: Writer, subscription_id: str, tenant_id: str, display_name: str) -> Document:
    """Create a subscription. There is no ARM call for it, as in Azure."""
    body = subscription_body(subscription_id, tenant_id, display_name)
    return writer.put(body["id"], SUBSCRIPTIONS, body, subscription=subscription_id)


def assign_role(
    writer: Writer, scope: str, role_id: str, principal_id: str, principal_type: PrincipalType, now: float
) -> Document:
    """Assign a role without anyone having asked for it; for the first administrator, who has nobody to be appointed by.

    scope: an id as it is to be shown. role_id, principal_id: GUIDs. now: epoch seconds.
    """
    place = ResourceId.parse(scope)
    name = new_guid()
    body = {
        "id": f"{place.text.rstrip('/')}/providers/{ROLE_ASSIGNMENTS}/{name}",
        "name": name,
        "type": ROLE_ASSIGNMENTS,
        "properties": {
            "roleDefinitionId": role_definition_id(place, role_id),
            "principalId": principal_id.lower(),
            "principalType": principal_type,
            "scope": place.text,
            "condition": None,
            "conditionVersion": None,
            **authorship(iso(now), "", {}),
        },
    }
    subscription, group = place.subscription or "", place.resource_group or ""
    return writer.put(str(body["id"]), ROLE_ASSIGNMENTS, body, subscription=subscription, resource_group=group)
