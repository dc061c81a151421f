"""Deletion in two steps: a deleted account stays restorable for a while, with its keys, deployments, role assignments and data.

Expiry is computed from the clock whenever a deleted account is looked at, so that nothing depends on when the sweep last ran; the sweep
(`purge_expired`) only frees what expired accounts still occupy.
Source: contracts, control-plane section 9; choices.md (row "Deleted account").
"""

from __future__ import annotations

from stockade.decisions.store import DecisionStore
from stockade.kernel.clock import iso
from stockade.management.access import queue
from stockade.management.cognitive_services import destruction
from stockade.management.cognitive_services.kinds import ACCOUNTS, CLOSED_SKU, PROVIDER
from stockade.management.network import perimeters, private_link
from stockade.management.resource_type import Call, Platform
from stockade.management.resources.cognitive_services_accounts import identity, keys, subdomains
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json, State

DELETED_TYPE = f"{PROVIDER}/locations/resourceGroups/deletedAccounts"


def is_expired(document: Document, now: float) -> bool:
    """Say whether a soft-deleted account can no longer be restored."""
    return document.state is State.SOFT_DELETED and document.purge_at is not None and document.purge_at <= now


def soft_delete(call: Call, writer: Writer, document: Document) -> None:
    """Take an account and everything below it out of force, restorable until its time is up."""
    purge_at = call.now + call.platform.settings.limits.soft_delete_hours * 3600
    identity.suspend(call, writer, document)
    for child in writer.below(document.id):
        writer.move(child, State.SOFT_DELETED, purge_at=purge_at)
    writer.move(document, State.SOFT_DELETED, purge_at=purge_at)


def restore_children(writer: Writer, account_id: str) -> None:
    """Put what went with a deleted account back in force."""
    for child in writer.below(account_id, State.SOFT_DELETED):
        writer.move(child, State.LIVE)


def purge(platform: Platform, writer: Writer, document: Document) -> None:
    """Remove a soft-deleted account for good: keys, children, role assignments at and below it, identity, subdomain."""
    clear_remains(platform, writer, document)
    writer.remove(document)
    if document.body["sku"]["name"] == CLOSED_SKU:
        queue.advance(platform.settings, writer, document.body["kind"], document.body["location"], platform.clock.now())


def clear_remains(platform: Platform, writer: Writer, document: Document) -> None:
    """Remove everything an account that is gone for good leaves behind, but not its own document.

    Its data keys are destroyed with the documents that hold them, and a receipt says so; Fault(UNAVAILABLE) while none can be signed.
    """
    below = writer.below(document.id, State.SOFT_DELETED)
    destruction.destroy(platform, writer, document, below)
    for child in below:
        if child.type == private_link.CONNECTIONS.lower():
            gone = private_link.state("Disconnected", "The account has been deleted.")
            private_link.show_in_endpoint(writer, child, gone)
        writer.remove(child)
    perimeters.leave(writer, document.id)
    identity.discard(platform, writer, document)
    keys.forget_callers(writer, document.id)
    with DecisionStore(platform.settings.data_dir, platform.settings.decisions) as decisions:
        decisions.forget(document.id)
    subdomain = document.body.get("properties", {}).get("customSubDomainName")
    if subdomain:
        subdomains.release(writer, subdomain, document)


def expired(reader: Reader, now: float) -> list[Document]:
    """Return the accounts whose time is up, so that the sweep opens a write transaction only when there is something to do."""
    return [document for document in reader.list(ACCOUNTS, state=State.SOFT_DELETED) if is_expired(document, now)]


def purge_expired(platform: Platform, writer: Writer, now: float) -> int:
    """Purge every account whose time is up; return how many."""
    due = expired(writer, now)
    for document in due:
        purge(platform, writer, document)
    return len(due)


def deleted_body(document: Document) -> Json:
    """Return a soft-deleted account as `deletedAccounts` shows it: when it was deleted and until when it can be restored; no endpoint."""
    body = dict(document.body)
    location, name = body["location"], body["name"]
    group = str(body["id"]).split("/")[4]
    subscription = str(body["id"]).split("/")[2]
    purge_at = iso(document.purge_at) if document.purge_at is not None else None
    hidden = {"privateEndpointConnections"}
    properties = {key: value for key, value in body["properties"].items() if key not in hidden}
    return {
        **body,
        "id": f"/subscriptions/{subscription}/providers/{PROVIDER}/locations/{location}/resourceGroups/{group}/deletedAccounts/{name}",
        "type": DELETED_TYPE,
        "etag": f'"{document.etag}"',
        "properties": {**properties, "deletionDate": iso(document.updated_at), "scheduledPurgeDate": purge_at},
    }
