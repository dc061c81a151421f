"""Which perimeter an account is in, for those who show it and for those who remove the account.

Source: contracts, control-plane sections 1.3 and 8 (network security perimeter configurations).
"""

from __future__ import annotations

from stockade.management.cognitive_services.kinds import ACCOUNTS
from stockade.management.network.bodies import ACCESS_RULES, ASSOCIATIONS
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json

CONFIGURATIONS = f"{ACCOUNTS}/networkSecurityPerimeterConfigurations"


def associations_of(reader: Reader, account_id: str) -> list[Document]:
    """Return the associations of an account (lower-case id) with perimeters."""
    return [
        association
        for association in reader.list(ASSOCIATIONS)
        if association.body["properties"]["privateLinkResource"]["id"].lower() == account_id
    ]


def leave(writer: Writer, account_id: str) -> None:
    """Take an account that is gone for good out of every perimeter, so that none waits for the next one of its name."""
    for association in associations_of(writer, account_id):
        writer.remove(association)


def configuration(reader: Reader, association: Document, account: Document) -> Document | None:
    """Return what an association means for its account, as the account's side shows it; None when its perimeter is gone.

    Computed on every read: nothing is copied that could be out of date, so there is nothing to reconcile either.
    """
    properties = association.body["properties"]
    perimeter = reader.get(association.id.rsplit("/", 2)[0])
    profile = reader.get(properties["profile"]["id"])
    if perimeter is None or profile is None:
        return None
    guid = perimeter.body["properties"]["perimeterGuid"]
    name = f"{guid}.{association.name}"
    rules = [
        {
            "name": rule.name,
            "properties": {k: v for k, v in rule.body["properties"].items() if k != "provisioningState"},
        }
        for rule in reader.list(ACCESS_RULES, under=profile.id)
    ]
    body: Json = {
        "id": f"{account.body['id']}/networkSecurityPerimeterConfigurations/{name}",
        "name": name,
        "type": CONFIGURATIONS,
        "properties": {
            "provisioningState": "Succeeded",
            "provisioningIssues": [],
            "networkSecurityPerimeter": {
                "id": perimeter.body["id"],
                "perimeterGuid": guid,
                "location": perimeter.body["location"],
            },
            "resourceAssociation": {"name": association.name, "accessMode": properties["accessMode"]},
            "profile": {
                "name": profile.name,
                "accessRulesVersion": profile.body["properties"]["accessRulesVersion"],
                "accessRules": rules,
                "diagnosticSettingsVersion": profile.body["properties"]["diagnosticSettingsVersion"],
                "enabledLogCategories": [],
            },
        },
    }
    return Document(
        id=str(body["id"]).lower(),
        type=CONFIGURATIONS.lower(),
        body=body,
        generation=association.generation,
        subscription=account.subscription,
        resource_group=account.resource_group,
    )
