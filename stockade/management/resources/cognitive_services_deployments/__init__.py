"""`Microsoft.CognitiveServices/accounts/deployments`: a model of the catalogue under a name of the customer's, with its share of calls."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.cognitive_services import models
from stockade.management.cognitive_services.kinds import ACCOUNTS, KINDS
from stockade.management.merge import merge_patch
from stockade.management.resource_type import Action, Call, Planned, ResourceType, bodies
from stockade.management.shape import respelled, typed, whole_number
from stockade.management.tags import checked_tags
from stockade.policy.snapshot import DeploymentPolicy, Entry
from stockade.services.openai.catalogue import catalogue, find
from stockade.settings import Model
from stockade.storage.database import Reader
from stockade.storage.documents import Document, Json

TYPE = f"{ACCOUNTS}/deployments"
UPGRADE_OPTIONS = ("OnceNewDefaultVersionAvailable", "OnceCurrentVersionExpired", "NoAutoUpgrade")
_SERVER_MEMBERS = frozenset({"id", "name", "type", "etag", "systemData"})
_SERVER_PROPERTIES = frozenset({"provisioningState", "capabilities", "callRateLimit", "rateLimits", "currentCapacity"})


class ModelReference(Struct, rename="camel"):
    """The model asked for."""

    format: str | None = None
    name: str | None = None
    version: str | None = None


class ScaleSettings(Struct, rename="camel"):
    """What older templates send in place of `sku`."""

    scale_type: str | None = None
    capacity: int | str | None = None


class Properties(Struct, rename="camel"):
    """A deployment's properties."""

    model: ModelReference | None = None
    scale_settings: ScaleSettings | None = None
    rai_policy_name: str | None = None
    version_upgrade_option: str | None = None
    dynamic_throttling_enabled: bool | None = None


class Sku(Struct, rename="camel"):
    """Which SKU, and how many units of capacity."""

    name: str | None = None
    capacity: int | str | None = None


class Deployment(Struct, rename="camel"):
    """The whole body."""

    sku: Sku | None = None
    tags: dict[str, object] | None = None
    properties: Properties | None = None


class Deployments(ResourceType):
    """A model deployment; ready as soon as it is stored."""

    type = name = TYPE
    name_pattern = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,62}[a-zA-Z0-9_])?")

    @property
    def actions(self) -> Sequence[Action]:
        return (Action("skus", f"{TYPE}/skus/read", _skus, method="GET"),)

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        body = {name: value for name, value in respelled(call.body, Deployment).items() if name not in _SERVER_MEMBERS}
        if call.method == "PATCH" and current is not None:
            body = merge_patch({k: v for k, v in current.body.items() if k not in _SERVER_MEMBERS}, body)
        body = merge_patch({}, body)  # drops members sent as null
        asked = typed(body, Deployment)
        properties = {k: v for k, v in (body.get("properties") or {}).items() if k not in _SERVER_PROPERTIES}
        wanted = asked.properties or Properties()
        account = reader.get(call.id.parent)
        assert account is not None, "the pipeline loads the parent first"
        model = _model(call, account, wanted.model)
        sku, capacity = _sku(asked, current)
        _require_quota(call, model, capacity)
        if wanted.version_upgrade_option is not None and wanted.version_upgrade_option not in UPGRADE_OPTIONS:
            raise _invalid(
                f"versionUpgradeOption is one of: {', '.join(UPGRADE_OPTIONS)}.", "properties.versionUpgradeOption"
            )
        properties.pop("scaleSettings", None)
        tags = checked_tags(body.pop("tags", None))
        properties["model"] = {
            **properties.get("model", {}),
            "format": model.format,
            "name": model.name,
            "version": model.version,
        }
        properties.setdefault("versionUpgradeOption", UPGRADE_OPTIONS[0])
        return Planned(
            {
                **({"tags": tags} if tags else {}),
                **body,
                "sku": {**(body.get("sku") or {}), "name": sku, "capacity": capacity},
                "properties": properties,
            }
        )

    def render(self, call: Call, document: Document) -> Json:
        body, properties = dict(document.body), document.body["properties"]
        capacity = body["sku"]["capacity"]
        reference = properties["model"]
        model = find(catalogue(call.platform.settings), reference["format"], reference["name"], reference["version"])
        calls = capacity * models.CALLS_PER_CAPACITY
        limits = {
            "currentCapacity": capacity,
            "rateLimits": [{"key": "request", "renewalPeriod": 60, "count": calls}],
            "callRateLimit": {"count": calls, "renewalPeriod": 60},
        }
        capabilities = dict.fromkeys(model.capabilities, "true") if model is not None else {}
        return {
            **body,
            "properties": {**properties, **limits, "capabilities": capabilities, "provisioningState": "Succeeded"},
        }

    def compile(self, document: Document) -> Iterable[Entry]:
        account_id, name = document.id.rsplit("/", 2)[0], document.body["name"]
        model = document.body["properties"]["model"]
        policy = DeploymentPolicy(
            account_id=account_id,
            name=name,
            model=model["name"],
            model_version=model["version"],
            model_format=model["format"],
            calls_per_minute=document.body["sku"]["capacity"] * models.CALLS_PER_CAPACITY,
            ordinal=document.ordinal,
            created_at=document.created_at,
        )
        yield ("deployment", (account_id, name.lower()), policy)
        yield ("deployments-of", account_id, policy)


def _model(call: Call, account: Document, asked: ModelReference | None) -> Model:
    kind = KINDS[account.body["kind"].lower()]
    if not kind.deployments:
        raise _invalid(f"Accounts of kind '{kind.name}' have no model deployments.", "properties.model")
    if asked is None or not asked.name or not asked.format:
        raise _invalid("The properties 'model.format' and 'model.name' are required.", "properties.model")
    known = catalogue(call.platform.settings)
    model = find(known, asked.format, asked.name, asked.version)
    if model is None:
        label = f"Format: {asked.format[:40]}, Name: {asked.name[:80]}, Version: {(asked.version or '')[:40]}"
        offered = ", ".join(f"{model.name} ({model.format}, version {model.version})" for model in known)
        message = f"The model '{label}' of account deployment is not supported. This platform offers: {offered}."
        raise Fault(FaultKind.INVALID, message, code="DeploymentModelNotSupported", target="properties.model")
    return model


def _sku(asked: Deployment, current: Document | None) -> tuple[str, int]:
    standard: Mapping[str, Any] = {"name": models.DEPLOYMENT_SKUS[0], "capacity": models.DEFAULT_CAPACITY}
    before: Mapping[str, Any] = current.body["sku"] if current is not None else standard
    sku = asked.sku or Sku()
    scale = asked.properties.scale_settings if asked.properties is not None else None
    name = sku.name or (scale.scale_type if scale is not None else None) or before["name"]
    known = next((offered for offered in models.DEPLOYMENT_SKUS if offered.lower() == name.lower()), None)
    if known is None:
        raise _invalid(
            f"The SKU '{name[:40]}' is not offered; it is one of: {', '.join(models.DEPLOYMENT_SKUS)}.", "sku.name"
        )
    value = sku.capacity if sku.capacity is not None else scale.capacity if scale is not None else None
    capacity = whole_number(value if value is not None else before["capacity"], "sku.capacity")
    if capacity > models.MAX_CAPACITY:
        raise _invalid(f"The capacity of a deployment is at most {models.MAX_CAPACITY}.", "sku.capacity")
    return known, capacity


def _require_quota(call: Call, model: Model, capacity: int) -> None:
    used = used_capacity(call, model, but=call.id.key)
    if used + capacity > models.QUOTA:
        message = (
            f"This operation requires {capacity} new capacity in quota '{models.usage_name(model)}', which is bigger than the current "
            f"available capacity {models.QUOTA - used}. The current quota usage is {used} and the quota limit is {models.QUOTA}."
        )
        raise Fault(FaultKind.INVALID, message, code="InsufficientQuota", target="sku.capacity")


def used_capacity(call: Call, model: Model, but: str = "") -> int:
    """Return the capacity that a subscription's live deployments of a model have, as of the caller's snapshot.

    but: the lower-case id of a deployment to leave out.
    """
    below = f"/subscriptions/{(call.id.subscription or '').lower()}/"
    total = 0
    for account_id in call.snapshot.keys("deployments-of"):
        if not str(account_id).startswith(below):
            continue
        for policy in call.snapshot.all("deployments-of", account_id):
            same = (policy.model, policy.model_format) == (model.name, model.format)
            if same and f"{account_id}/deployments/{policy.name.lower()}" != but:
                total += (policy.calls_per_minute or 0) // models.CALLS_PER_CAPACITY
    return total


def _skus(call: Call, reader: Reader, document: Document) -> Json:
    capacity: Mapping[str, Any] = models.capacity_range()
    return bodies({"resourceType": TYPE, "sku": {"name": sku}, "capacity": capacity} for sku in models.DEPLOYMENT_SKUS)


def _invalid(message: str, target: str) -> Fault:
    return Fault(FaultKind.INVALID, message, code="InvalidResourceProperties", target=target)


PLUGIN = Deployments()
