"""What tokens are for: the resources that can be asked for, and the audiences each listener accepts.

Audiences are compared without a trailing slash: clients ask with and without one, and Azure's services take both.
Source: contracts, control-plane section 5 (audience row) and clients 4b.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from stockade.settings import Settings

AI: Final = "https://cognitiveservices.azure.com"
AI_FOUNDRY: Final = "https://ai.azure.com"
ARM: Final = "https://management.azure.com"
ARM_CLASSIC: Final = "https://management.core.windows.net"
VAULT: Final = "https://vault.azure.net"
GRAPH: Final = "https://graph.microsoft.com"
GRAPH_APP_ID: Final = "00000003-0000-0000-c000-000000000000"

WELL_KNOWN: Final = frozenset({AI, AI_FOUNDRY, ARM, ARM_CLASSIC, VAULT, GRAPH, GRAPH_APP_ID})
"""Audiences that mean one listener only, whatever else an issuer is configured to be trusted for."""

DEFAULT_DOMAIN: Final = "stockade.localhost"


def ai_audiences(settings: Settings) -> frozenset[str]:
    """Return the audiences the AI services accept."""
    return frozenset({AI, AI_FOUNDRY, _origin(settings.account_endpoint(None))})


def arm_audiences(settings: Settings) -> frozenset[str]:
    """Return the audiences ARM accepts: Azure's two names for it and its own address."""
    return frozenset({ARM, ARM_CLASSIC, settings.arm_endpoint})


def graph_audiences(settings: Settings) -> frozenset[str]:
    """Return the audiences the directory look-ups accept. ARM's too: `az` is told that Graph lives at ARM's address."""
    return frozenset({GRAPH, GRAPH_APP_ID}) | arm_audiences(settings)


def vault_audiences(settings: Settings) -> frozenset[str]:
    """Return the audiences of the key vaults."""
    domain = settings.names.domain or DEFAULT_DOMAIN
    port = "" if settings.listen.control_port == 443 else f":{settings.listen.control_port}"
    return frozenset({VAULT, f"https://vault.{domain}{port}"})


def audience_for(settings: Settings, resource: str) -> str | None:
    """Return the `aud` of a token for a resource, None when there is no such resource here.

    The spelling asked for is kept, with at most one trailing slash, as Entra does for v1 tokens.
    """
    bare = resource.rstrip("/")
    known = ai_audiences(settings) | graph_audiences(settings) | vault_audiences(settings)
    match = next((audience for audience in known if audience.lower() == bare.lower()), None)
    if match is None:
        return None
    return match + "/" if resource.endswith("/") else match


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
