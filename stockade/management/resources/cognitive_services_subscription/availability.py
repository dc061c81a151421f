"""Whether a SKU, a subdomain or a capacity can be had."""

from __future__ import annotations

import math

from msgspec import Struct

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.access.grants import Access
from stockade.management.cognitive_services import models
from stockade.management.cognitive_services.kinds import ACCOUNTS, KINDS
from stockade.management.resource_type import Call, bodies
from stockade.management.resources.cognitive_services_accounts import subdomains
from stockade.management.resources.cognitive_services_accounts.soft_delete import is_expired
from stockade.management.resources.cognitive_services_deployments import used_capacity
from stockade.management.resources.cognitive_services_subscription.offers import location
from stockade.management.shape import respelled, typed
from stockade.services.openai.catalogue import catalogue, find
from stockade.storage.database import Reader
from stockade.storage.documents import Json

MAX_SKUS = 100
MAX_WORKLOADS = 100


class SkuQuestion(Struct, rename="camel"):
    """`checkSkuAvailability`."""

    skus: list[str] | None = None
    kind: str | None = None
    type: str | None = None


class DomainQuestion(Struct, rename="camel"):
    """`checkDomainAvailability`."""

    subdomain_name: str | None = None
    type: str | None = None
    kind: str | None = None


class Workload(Struct, rename="camel"):
    """Calls that a deployment should bear."""

    request_per_minute: int = 0


class ModelReference(Struct, rename="camel"):
    """Which model."""

    format: str | None = None
    name: str | None = None
    version: str | None = None


class CapacityQuestion(Struct, rename="camel"):
    """`calculateModelCapacity`."""

    model: ModelReference | None = None
    sku_name: str | None = None
    workloads: list[Workload] | None = None


def of_skus(call: Call, reader: Reader) -> Json:
    """Answer `checkSkuAvailability`: one line per SKU asked for, with the reason when it cannot be had."""
    place = location(call)
    asked = typed(respelled(call.body, SkuQuestion), SkuQuestion)
    if not asked.skus or not asked.kind or not asked.type:
        raise Fault(FaultKind.INVALID, "The properties 'skus', 'kind' and 'type' are required.", target="skus")
    if len(asked.skus) > MAX_SKUS:
        raise Fault(FaultKind.INVALID, f"At most {MAX_SKUS} SKUs can be asked for at once.", target="skus")
    access = Access(reader, call.id.subscription or "")
    return bodies(_sku_answer(call, access, place, asked.kind, asked.type, sku) for sku in asked.skus)


def of_domain(call: Call, reader: Reader) -> Json:
    """Answer `checkDomainAvailability`, with 200 also when the name cannot be had."""
    asked = typed(respelled(call.body, DomainQuestion), DomainQuestion)
    name = asked.subdomain_name
    if not name or not asked.type:
        raise Fault(
            FaultKind.INVALID, "The properties 'subdomainName' and 'type' are required.", target="subdomainName"
        )
    answer: Json = {"isSubdomainAvailable": True, "subdomainName": name, "type": asked.type}
    if asked.kind is not None:
        answer["kind"] = asked.kind
    try:
        subdomains.check_form(name)
        holder = subdomains.holder(reader, name)
        if holder is not None and not is_expired(holder, call.now):
            raise subdomains.in_use(name, holder)
    except Fault as fault:
        return {**answer, "isSubdomainAvailable": False, "reason": fault.message}
    return answer


def capacity(call: Call, reader: Reader) -> Json:
    """Answer `calculateModelCapacity` from calls per minute alone: tokens are not limited on this platform."""
    asked = typed(respelled(call.body, CapacityQuestion), CapacityQuestion)
    model = None
    if asked.model is not None and asked.model.name and asked.model.format:
        model = find(catalogue(call.platform.settings), asked.model.format, asked.model.name, asked.model.version)
    if model is None:
        raise Fault(
            FaultKind.INVALID,
            "The property 'model' names no model of the catalogue.",
            code="DeploymentModelNotSupported",
            target="model",
        )
    if len(asked.workloads or ()) > MAX_WORKLOADS:
        raise Fault(
            FaultKind.INVALID, f"At most {MAX_WORKLOADS} workloads can be asked for at once.", target="workloads"
        )
    calls = sum(max(0, workload.request_per_minute) for workload in asked.workloads or ())
    needed = max(1, math.ceil(calls / models.CALLS_PER_CAPACITY))
    return {
        "model": {"format": model.format, "name": model.name, "version": model.version},
        "skuName": asked.sku_name or models.DEPLOYMENT_SKUS[0],
        "estimatedCapacity": {
            "value": needed,
            "deployableValue": min(needed, models.MAX_CAPACITY, models.QUOTA - used_capacity(call, model)),
        },
    }


def _sku_answer(call: Call, access: Access, place: str, kind_name: str, resource_type: str, sku_name: str) -> Json:
    answer: Json = {"kind": kind_name, "type": resource_type, "skuName": sku_name, "skuAvailable": False}
    kind = KINDS.get(kind_name.lower())
    sku = kind.sku(sku_name) if kind is not None and resource_type.lower() in {ACCOUNTS.lower(), "accounts"} else None
    if kind is None or sku not in kind.offered(strict=call.platform.settings.strict_parity):
        return {
            **answer,
            "reason": "NotAvailable",
            "message": f"The SKU '{sku_name[:40]}' is not offered for kind '{kind_name[:80]}'.",
        }
    reason = access.reason(kind.name, place) if sku.needs_approval else None
    if reason is not None:
        return {**answer, "reason": reason, "message": access.refusal(kind.name, place).message}
    return {**answer, "skuAvailable": True}
