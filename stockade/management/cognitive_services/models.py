"""The model catalogue as ARM shows it."""

from __future__ import annotations

from stockade.services.openai.catalogue import find, label
from stockade.settings import Model
from stockade.storage.documents import Json

DEPLOYMENT_SKUS = ("Standard", "GlobalStandard", "DataZoneStandard")
"""What templates written for Azure ask for. All run here and mean the same."""
DEFAULT_CAPACITY = 1
MAX_CAPACITY = 10_000
"""Of one deployment."""
QUOTA = 100_000
"""Capacity units of one model over all deployments of a subscription."""
CALLS_PER_CAPACITY = 6
"""Calls per minute that one unit of capacity gives: as on Azure, where a unit is 1,000 tokens a minute and 6 requests a minute."""


def account_model(model: Model, models: tuple[Model, ...]) -> Json:
    """Return a catalogue entry as `accounts/models` lists it. Azure has no field for prose there, so a capability says what a model is."""
    newest = find(models, model.format, model.name, None)
    capabilities = dict.fromkeys(model.capabilities, "true")
    honest = label(model)
    if honest is not None:
        capabilities["note"] = honest
    return {
        "format": model.format,
        "name": model.name,
        "version": model.version,
        "isDefaultVersion": newest is model,
        "skus": [
            {
                "name": sku,
                "usageName": usage_name(model),
                "capacity": capacity_range(),
                "rateLimits": [{"key": "request", "renewalPeriod": 60, "count": CALLS_PER_CAPACITY}],
            }
            for sku in DEPLOYMENT_SKUS
        ],
        "maxCapacity": MAX_CAPACITY,
        "capabilities": capabilities,
        "lifecycleStatus": "GenerallyAvailable",
    }


def capacity_range() -> Json:
    """Return which capacities a deployment may have."""
    return {"minimum": 1, "maximum": MAX_CAPACITY, "step": 1, "default": DEFAULT_CAPACITY}


def usage_name(model: Model) -> str:
    """Return the name of the model's quota, `OpenAI.Standard.smollm2-135m-instruct`; all SKUs draw on one."""
    return f"{model.format}.{DEPLOYMENT_SKUS[0]}.{model.name}"


def description(model: Model) -> str:
    """Say in one sentence where a model runs."""
    return label(model) or "Served by an upstream server that this platform's operator configured."
