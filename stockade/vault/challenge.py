"""The 401 that tells Key Vault's clients where to get a token, and for which resource.

Clients refuse a challenge whose resource is not a parent of the address they called, port included: so vaults with a host name of their own
name our domain, and the default vault, which has none, names Azure's resource for clients that were told not to look.
Source: contracts, control-plane section 6.3; azure-keyvault-keys 4.11.3 (challenge_auth_policy).
"""

from __future__ import annotations

from stockade.identity.audiences import DEFAULT_DOMAIN, VAULT
from stockade.kernel.faults import Fault, FaultKind
from stockade.settings import Settings


def resource_of(settings: Settings, *, own_host: bool) -> str:
    """Return the resource that tokens for a vault are asked for."""
    if not own_host:
        return VAULT
    port = settings.listen.control_port
    return f"https://vault.{settings.names.domain or DEFAULT_DOMAIN}{'' if port == 443 else f':{port}'}"


def challenge(settings: Settings, tenant_id: str, *, own_host: bool) -> str:
    """Return the value of `WWW-Authenticate`."""
    resource = resource_of(settings, own_host=own_host)
    return f'Bearer authorization="{settings.authority}/{tenant_id}", resource="{resource}"'


def unauthenticated(message: str, reason: str, header: str) -> Fault:
    """Return the refusal that carries a challenge. reason: a short code, for the record."""
    return Fault(FaultKind.UNAUTHENTICATED, message, details={"wwwAuthenticate": header, "reason": reason})
