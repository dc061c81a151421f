"""What can be had: SKUs, models, capacity, operations."""

from __future__ import annotations

from collections.abc import Iterable

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import ResourceId
from stockade.management.access.grants import Access
from stockade.management.cognitive_services import models
from stockade.management.cognitive_services.kinds import KINDS, PROVIDER, Kind, Sku
from stockade.management.locations import GLOBAL, accepted, normalised
from stockade.management.resource_type import Call, bodies
from stockade.management.resources.cognitive_services_deployments import used_capacity
from stockade.services.openai.catalogue import catalogue, find
from stockade.settings import Model
from stockade.storage.database import Reader
from stockade.storage.documents import Json


def skus(call: Call, reader: Reader) -> Json:
    """Answer `skus`: every SKU of every kind; E0 is restricted wherever this subscription has no approval left for it."""
    access, places = Access(reader, call.id.subscription or ""), accepted(call.platform.settings)
    return bodies(
        _resource_sku(access, kind, sku, [*places, *([GLOBAL] if kind.anywhere else [])]) for kind, sku in _offers(call)
    )


def models_of_location(call: Call, reader: Reader) -> Json:
    """Answer `models`: the catalogue, for each kind that deploys models. Every location offers the same."""
    location(call)
    known = catalogue(call.platform.settings)
    return bodies(
        {
            "model": models.account_model(model, known),
            "kind": kind.name,
            "skuName": sku.name,
            "description": models.description(model),
        }
        for kind, sku in _offers(call)
        if kind.deployments
        for model in known
    )


def usages(call: Call, reader: Reader) -> Json:
    """Answer a location's `usages`: capacity per model, in use and allowed. The quota is the subscription's, whatever the location."""
    location(call)
    return bodies(
        {
            "name": {"value": models.usage_name(model), "localizedValue": f"Capacity of {model.name}"},
            "unit": "Count",
            "currentValue": used_capacity(call, model),
            "limit": models.QUOTA,
        }
        for model in newest(catalogue(call.platform.settings))
    )


def model_capacities(call: Call, reader: Reader) -> Json:
    """Answer `modelCapacities`: what is left of a model's quota. Without a location: in this installation's own."""
    settings = call.platform.settings
    place = location(call) if "location" in call.parameters else accepted(settings)[0]
    asked = [call.query.get(name, "") for name in ("modelformat", "modelname", "modelversion")]
    if not asked[0] or not asked[1]:
        raise Fault(FaultKind.INVALID, "The parameters 'modelFormat' and 'modelName' are required.", target="modelName")
    model = find(catalogue(settings), asked[0], asked[1], asked[2] or None)
    return bodies(_capacities(call, model, place) if model is not None else ())


def operations(call: Call, reader: Reader) -> Json:
    """Answer `operations`: the ARM actions of this provider's resource types."""
    names: set[tuple[str, str, str]] = set()
    for path in call.platform.types.namespaces().get(PROVIDER, ()):
        verbs = {"GET": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}
        kind = call.platform.types.of(_any_of(path))
        if kind is not None:
            names |= {
                (f"{PROVIDER}/{path}/{verb}", path, verb) for method, verb in verbs.items() if method in kind.methods
            }
            names |= {(action.permission, path, action.name) for action in kind.actions}
    return bodies(
        {
            "name": name,
            "isDataAction": False,
            "display": {
                "provider": PROVIDER,
                "resource": path,
                "operation": verb,
                "description": f"{verb} of {PROVIDER}/{path}",
            },
            "origin": "user,system",
        }
        for name, path, verb in sorted(names)
    )


def location(call: Call) -> str:
    """Return the location a route names; Fault(INVALID) for one that does not exist."""
    place = normalised(call.parameters["location"])
    if place not in (*accepted(call.platform.settings), GLOBAL):
        message = f"The provided location '{call.parameters['location'][:80]}' is not available."
        raise Fault(FaultKind.INVALID, message, code="LocationNotAvailableForResourceType", target="location")
    return place


def newest(known: tuple[Model, ...]) -> Iterable[Model]:
    """Return each model once, whatever number of versions it has: quota is counted per model."""
    return {(model.format, model.name): model for model in known}.values()


def _offers(call: Call) -> Iterable[tuple[Kind, Sku]]:
    strict = call.platform.settings.strict_parity
    return ((kind, sku) for kind in KINDS.values() for sku in kind.offered(strict=strict))


def _resource_sku(access: Access, kind: Kind, sku: Sku, places: list[str]) -> Json:
    closed: dict[str, list[str]] = {}
    for place in places if sku.needs_approval else ():
        reason = access.reason(kind.name, place)
        if reason is not None:
            closed.setdefault(reason, []).append(place.upper())
    restrictions = [
        {"type": "Location", "values": where, "reasonCode": reason, "restrictionInfo": {"locations": where}}
        for reason, where in sorted(closed.items())
    ]
    return {
        "resourceType": "accounts",
        "name": sku.name,
        "tier": sku.tier,
        "kind": kind.name,
        "locations": [place.upper() for place in places],
        "restrictions": restrictions,
    }


def _capacities(call: Call, model: Model, place: str) -> Iterable[Json]:
    left = max(0, models.QUOTA - used_capacity(call, model))
    reference = {"format": model.format, "name": model.name, "version": model.version}
    for sku in models.DEPLOYMENT_SKUS:
        yield {
            "id": f"/subscriptions/{call.id.subscription}/providers/{PROVIDER}/locations/{place}/models/{model.format}.{model.name}.{sku}",
            "name": sku,
            "type": f"{PROVIDER}/locations/models/modelCapacities",
            "location": place,
            "properties": {
                "model": reference,
                "skuName": sku,
                "availableCapacity": left,
                "availableFinetuneCapacity": 0,
            },
        }


def _any_of(path: str) -> ResourceId:
    below = "/".join(f"{segment}/x" for segment in path.split("/"))
    nobody = "00000000-0000-0000-0000-000000000000"
    return ResourceId.parse(f"/subscriptions/{nobody}/resourceGroups/x/providers/{PROVIDER}/{below}")
