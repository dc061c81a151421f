"""Accounts: `Microsoft.CognitiveServices/accounts`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from stockade.kernel.control import Control
from stockade.management.access import grants
from stockade.management.cognitive_services import models
from stockade.management.cognitive_services.data_keys import compile_data_keys
from stockade.management.cognitive_services.kinds import ACCOUNTS, CLOSED_SKU, KINDS
from stockade.management.decisions import explaining, reporting, what_if
from stockade.management.network.private_link import show_in_account
from stockade.management.resource_type import Action, Call, Planned, Reply, ResourceType, bodies, display_id
from stockade.management.resources.cognitive_services_accounts import (
    changes,
    encryption,
    extension,
    identity,
    keys,
    loss_prevention,
    soft_delete,
    subdomains,
    view,
)
from stockade.management.resources.cognitive_services_accounts.uri_rules import compile_uri_rules
from stockade.policy.network_acls import compiled_network
from stockade.policy.snapshot import AccountPolicy, Entry
from stockade.policy.uris.allowed import compile_allowed
from stockade.policy.uris.loss_prevention import LossPrevention
from stockade.services.openai.catalogue import catalogue
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json, State


class Accounts(ResourceType):
    """An AI account: one endpoint, two keys, network rules, deployments below it."""

    type = name = ACCOUNTS
    name_pattern = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,63}")
    soft_deletes = True

    @property
    def actions(self) -> Sequence[Action]:
        return (
            Action("listKeys", f"{ACCOUNTS}/listKeys/action", keys.list_keys),
            Action("regenerateKey", f"{ACCOUNTS}/regenerateKey/action", keys.regenerate_key, writes=True),
            # Not Azure's. An action of its own, and not a read: who calls an account, and from where, is not for everyone who may see it.
            Action("listKeyUsage", f"{ACCOUNTS}/listKeyUsage/action", keys.list_key_usage),
            Action("decisions", explaining.PERMISSION, explaining.list_decisions, method="GET"),
            Action("controlReport", explaining.PERMISSION, reporting.control_report, method="GET"),
            Action("whatIf", explaining.PERMISSION, what_if.what_if),
            Action("testLossPrevention", f"{ACCOUNTS}/testLossPrevention/action", loss_prevention.try_request),
            # Not Azure's either.
            Action("checkEncryption", f"{ACCOUNTS}/checkEncryption/action", encryption.check_encryption),
            Action("rewrapDataKeys", f"{ACCOUNTS}/rewrapDataKeys/action", encryption.rewrap, writes=True),
            Action("encryptionStatus", f"{ACCOUNTS}/read", encryption.encryption_status, method="GET"),
            Action("skus", f"{ACCOUNTS}/skus/read", _skus, method="GET"),
            Action("usages", f"{ACCOUNTS}/usages/read", _usages, method="GET"),
            Action("models", f"{ACCOUNTS}/models/read", _models, method="GET"),
            # There are none, and none can be made.
            Action("commitmentPlans", f"{ACCOUNTS}/commitmentPlans/read", _none, method="GET"),
            Action(
                "privateLinkResources", f"{ACCOUNTS}/privateLinkResources/read", _private_link_resources, method="GET"
            ),
        )

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        return changes.plan(call, current, reader)

    def after_write(self, call: Call, writer: Writer, document: Document, previous: Document | None) -> Document:
        subdomain = document.body["properties"].get("customSubDomainName")
        if previous is not None and previous.state is State.SOFT_DELETED:
            if soft_delete.is_expired(previous, call.now):
                soft_delete.clear_remains(call.platform, writer, previous)
                previous = None
            else:
                soft_delete.restore_children(writer, document.id)
                document = show_in_account(writer, document.id) or document  # endpoints may have gone meanwhile
        if previous is None and document.body["sku"]["name"] == CLOSED_SKU:
            grants.spend(writer, document)
        if subdomain is not None:
            holder = subdomains.holder(writer, subdomain)
            if holder is not None and holder.id != document.id:
                soft_delete.purge(call.platform, writer, holder)  # `plan` saw that its time is up
            subdomains.reserve(writer, subdomain, document)
        document = identity.settle(call, writer, document, previous)
        return encryption.settle(call, writer, document, previous)

    def remove(self, call: Call, writer: Writer, document: Document) -> Reply | None:
        soft_delete.soft_delete(call, writer, document)
        return None

    def render(self, call: Call, document: Document) -> Json:
        return view.render(call.platform.settings, document)

    def compile(self, document: Document) -> Iterable[Entry]:
        body, properties = document.body, document.body["properties"]
        kind = KINDS[body["kind"].lower()]
        sku = kind.sku(body["sku"]["name"])
        if sku is None:
            raise ValueError(f"{kind.name} has no SKU {body['sku']['name']}")
        subdomain = properties.get("customSubDomainName")
        restricted = properties.get("restrictOutboundNetworkAccess") is True
        allowed, modes, dlp = (
            compile_allowed(properties.get("allowedFqdnList") or ()),
            extension.modes(properties),
            extension.dlp(properties),
        )
        yield (
            "account",
            document.id,
            AccountPolicy(
                id=document.id,
                arm_id=display_id(document),
                name=body["name"],
                kind=kind.name,
                sku=sku.name,
                location=body["location"],
                tenant_id=document.private["tenantId"],
                subdomain=subdomain,
                local_auth=properties.get("disableLocalAuth") is not True,
                network=compiled_network(properties),
                calls_per_minute=sku.calls_per_minute,
                ordinal=document.ordinal,
                outbound=(
                    LossPrevention(
                        allowed,
                        deep_scan=dlp.deep_scan is not False,
                        inline=dlp.inline_content is not False,
                        refuse_secrets=dlp.refuse_secrets is True,
                        refuse_emails=dlp.refuse_emails is True,
                        rules=compile_uri_rules(dlp.uri_rules or ()),
                    )
                    if restricted and modes.get(Control.DLP) != "off"
                    else None
                ),
                output=allowed if modes.get(Control.OUTPUT) != "off" else None,
                modes=modes,
                keeps_content=extension.keeps_content(properties),
                keeps_completions=properties.get("storedCompletionsDisabled") is not True,
                customer_key=encryption.key_of(document),
            ),
        )
        yield from compile_data_keys(document, bound=encryption.key_of(document) is not None)
        if subdomain is not None:
            yield ("subdomain", subdomain.lower(), document.id)
        yield from keys.compile_keys(document)


def _skus(call: Call, reader: Reader, document: Document) -> Json:
    # What this account may change to: E0 is chosen when an account is made, and kept.
    kind, closed = KINDS[document.body["kind"].lower()], document.body["sku"]["name"] == CLOSED_SKU
    offered = [sku for sku in kind.skus if sku.needs_approval == closed]
    return bodies({"resourceType": "accounts", "sku": {"name": sku.name, "tier": sku.tier}} for sku in offered)


def _usages(call: Call, reader: Reader, document: Document) -> Json:
    # Azure meters monthly quotas here. This platform bills nobody and has none, so there is nothing to count.
    return {"value": []}


def _none(call: Call, reader: Reader, document: Document) -> Json:
    return {"value": []}


def _models(call: Call, reader: Reader, document: Document) -> Json:
    known = catalogue(call.platform.settings) if KINDS[document.body["kind"].lower()].deployments else ()
    return bodies(models.account_model(model, known) for model in known)


def _private_link_resources(call: Call, reader: Reader, document: Document) -> Json:
    kind = document.body["kind"]
    zones = ["privatelink.cognitiveservices.azure.com"]
    zones += ["privatelink.openai.azure.com"] if kind in {"OpenAI", "AIServices"} else []
    zones += ["privatelink.services.ai.azure.com"] if kind == "AIServices" else []
    item = {
        "id": f"{display_id(document)}/privateLinkResources/account",
        "name": "account",
        "type": f"{ACCOUNTS}/privateLinkResources",
        "properties": {
            "groupId": "account",
            "displayName": "Cognitive Services account",
            "requiredMembers": ["default"],
            "requiredZoneNames": zones,
        },
    }
    return {"value": [item]}


PLUGIN = Accounts()
