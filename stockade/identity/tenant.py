"""The tenant: the directory's own name and id, one per installation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.policy.snapshot import Entry, IssuerPolicy, Snapshot
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document

TYPE = "stockade.directory/tenants"
_PREFIX = "/providers/stockade.directory/tenants/"


@dataclass(frozen=True, slots=True)
class Tenant:
    """Index "tenant", by id."""

    id: str
    display_name: str


def create_tenant(writer: Writer, name: str) -> str:
    """Create the tenant and return its id; return the existing one's when there is one, whatever its name."""
    existing = tenant(writer)
    if existing is not None:
        return existing.id
    tenant_id = new_guid()
    writer.put(_PREFIX + tenant_id, TYPE, {"name": tenant_id, "tenantId": tenant_id, "displayName": name})
    return tenant_id


def tenant(reader: Reader) -> Tenant | None:
    """Return the tenant, or None before the first start has made one."""
    found = reader.list(TYPE, limit=1)
    return _view(found[0]) if found else None


def required_tenant(reader: Reader) -> Tenant:
    """Return the tenant; Fault(UNAVAILABLE) when the directory has not been set up."""
    found = tenant(reader)
    if found is None:
        raise Fault(FaultKind.UNAVAILABLE, "The directory has no tenant yet.")
    return found


def tenant_of(snapshot: Snapshot) -> Tenant | None:
    """Return the tenant a snapshot knows, without asking the database."""
    for key in snapshot.keys("tenant"):
        found: Tenant | None = snapshot.only("tenant", key)
        return found
    return None


def local_issuer(authority: str, tenant_id: str) -> str:
    """Return the `iss` of our own access tokens: the authority's address and the tenant, with a trailing slash.

    Not sts.windows.net, which real Entra v1 tokens carry: claiming Microsoft's name would make our tokens look like theirs to anyone who
    trusts that issuer and is careless with keys.
    """
    return f"{authority}/{tenant_id}/"


def compile_tenant(document: Document, authority: str) -> Iterable[Entry]:
    """Yield the tenant and the policy for tokens of our own token service."""
    found = _view(document)
    issuer = local_issuer(authority, found.id)
    yield ("tenant", found.id, found)
    yield ("issuer", issuer, IssuerPolicy(issuer, found.id, frozenset(), local=True, keys_expire_at=None))


def _view(document: Document) -> Tenant:
    return Tenant(str(document.body["tenantId"]), str(document.body["displayName"]))
