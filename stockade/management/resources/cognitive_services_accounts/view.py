"""An account as GET shows it: what is stored, and what follows from how this installation is configured."""

from __future__ import annotations

from stockade.management.cognitive_services.encryption import WITH_KEY
from stockade.management.cognitive_services.kinds import CLOSED_SKU, KINDS, TOKEN_SERVICE
from stockade.management.resources.cognitive_services_accounts.network import OPEN
from stockade.services.installed import served
from stockade.settings import Settings
from stockade.storage.documents import Document, Json


def render(settings: Settings, document: Document) -> Json:
    """Return the body. The endpoint is computed on every read, so that it is right after ports or the domain have changed."""
    body = dict(document.body)
    stored = body["properties"]
    kind = KINDS[body["kind"].lower()]
    subdomain = stored.get("customSubDomainName")
    endpoint = settings.account_endpoint(subdomain)
    properties: Json = {
        "publicNetworkAccess": "Enabled",
        **stored,
        "provisioningState": "Succeeded",
        "endpoint": endpoint,
        # Only addresses behind which something answers; on Azure the list is longer.
        "endpoints": dict.fromkeys((*kind.endpoints, *served(settings, kind.name), TOKEN_SERVICE), endpoint),
        "capabilities": [{"name": name} for name in _capabilities(kind.name, body["sku"]["name"])],
    }
    if subdomain is not None:
        properties.setdefault("networkAcls", dict(OPEN))
    sku = kind.sku(body["sku"]["name"])
    if sku is not None and sku.calls_per_minute is not None:
        rule = {
            "key": "default",
            "renewalPeriod": 60,
            "count": sku.calls_per_minute,
            "matchPatterns": [{"path": "*", "method": "*"}],
        }
        properties["callRateLimit"] = {"count": sku.calls_per_minute, "renewalPeriod": 60, "rules": [rule]}
    return {**body, "properties": properties}


def _capabilities(kind: str, sku: str) -> tuple[str, ...]:
    with_key = kind in WITH_KEY or sku == CLOSED_SKU
    return ("VirtualNetworks", "CustomerManagedKey") if with_key else ("VirtualNetworks",)
