"""What each of the identity documents adds to the snapshot."""

from __future__ import annotations

from functools import partial

from stockade.identity import issuers, principals, signing_keys, tenant
from stockade.policy.compile import Compile
from stockade.settings import Settings


def compilers(settings: Settings) -> dict[str, Compile]:
    """Return the compile functions by document type."""
    return {
        tenant.TYPE: partial(tenant.compile_tenant, authority=settings.authority),
        principals.PRINCIPAL_TYPE: principals.compile_principal,
        principals.GROUP_TYPE: principals.compile_group,
        issuers.TYPE: partial(issuers.compile_issuer, configured=settings.issuers),
        signing_keys.TYPE: partial(signing_keys.compile_signing_key, authority=settings.authority),
    }
