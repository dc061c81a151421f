"""Vaults: `Microsoft.KeyVault/vaults`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from stockade.management.resource_type import Action, Call, Planned, Reply, ResourceType, Route
from stockade.management.resources.key_vaults import access_policies, changes
from stockade.policy.compile import Compile
from stockade.policy.snapshot import Entry
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json, State
from stockade.vault import vaults
from stockade.vault.compile import VERSIONS, compile_vault
from stockade.vault.documents import VAULTS, is_expired

_VAULT = f"/subscriptions/{{subscription}}/resourceGroups/{{group}}/providers/{VAULTS}/{{vault}}"


class Vaults(ResourceType):
    """A key vault: keys and secrets with one set of rights and network rules."""

    type = name = VAULTS
    name_pattern = vaults.NAME
    soft_deletes = True
    has_etag = False
    created_status = 200

    @property
    def actions(self) -> Sequence[Action]:
        # Vaults have no private endpoints here, so nothing can be connected to and nothing is.
        return (
            Action("privateLinkResources", f"{VAULTS}/privateLinkResources/read", _none, method="GET"),
            Action("privateEndpointConnections", f"{VAULTS}/privateEndpointConnections/read", _none, method="GET"),
        )

    @property
    def routes(self) -> Sequence[Route]:
        change = access_policies.change_policies
        permission = f"{VAULTS}/accessPolicies/write"
        return (Route("PUT", f"{_VAULT}/accessPolicies/{{operation}}", permission, change, writes=True, scope=_VAULT),)

    @property
    def documents(self) -> Mapping[str, Compile]:
        return VERSIONS

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        return changes.plan(call, current, reader)

    def after_write(self, call: Call, writer: Writer, document: Document, previous: Document | None) -> Document:
        if previous is not None and previous.state is State.SOFT_DELETED:
            if is_expired(previous, call.now):
                vaults.clear_remains(writer, previous)
            else:
                vaults.recover_contents(writer, document.id)
        held = vaults.holder(writer, document.name)
        if held is not None and held.id != document.id:
            vaults.purge(writer, held)  # `plan` saw that its time is up
        vaults.reserve(writer, document)
        return document

    def remove(self, call: Call, writer: Writer, document: Document) -> Reply | None:
        vaults.soft_delete(writer, document, call.now)
        return None

    def render(self, call: Call, document: Document) -> Json:
        properties = {
            **document.body["properties"],
            "vaultUri": call.platform.settings.vault_uri(document.name) + "/",
        }
        return {**document.body, "properties": properties}

    def compile(self, document: Document) -> Iterable[Entry]:
        return compile_vault(document)


def _none(call: Call, reader: Reader, document: Document) -> Json:
    return {"value": []}


PLUGIN = Vaults()
