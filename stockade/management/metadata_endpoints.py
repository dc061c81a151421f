"""`GET /metadata/endpoints`: what `az cloud register` reads to learn every other address. Answered without a credential.

Source: contracts, control-plane section 10 (az cloud); azure-cli-core's cloud module names the members.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from stockade.identity.audiences import ARM_CLASSIC, DEFAULT_DOMAIN, arm_audiences
from stockade.settings import Settings
from stockade.storage.documents import Json

PATH = b"/metadata/endpoints"


def metadata_endpoints(settings: Settings) -> Json:
    """Return the addresses of this platform in the shape of api-version 2022-09-01: one object, not a list.

    The first audience becomes the resource of every ARM token `az` asks for. Graph look-ups are answered at ARM's own address.
    """
    arm = settings.arm_endpoint
    port = urlsplit(arm).port
    suffix = settings.names.domain or DEFAULT_DOMAIN
    vaults = f"vault.{suffix}{f':{port}' if port is not None else ''}"
    return {
        "name": "Stockade",
        "portal": arm,
        "resourceManager": arm,
        "authentication": {
            "loginEndpoint": settings.authority,
            "audiences": [
                f"{ARM_CLASSIC}/",
                *sorted(audience + "/" for audience in arm_audiences(settings) - {ARM_CLASSIC}),
            ],
            "tenant": "common",
            "identityProvider": "AAD",
        },
        "graphAudience": f"{arm}/",
        "graph": f"{arm}/",
        "microsoftGraphResourceId": f"{arm}/",
        "suffixes": {"keyVaultDns": vaults},
    }
