"""Policies, credentials and facts with everything in order; a test changes the one thing it is about."""

from __future__ import annotations

import dataclasses
from typing import Any

from stockade.kernel.operation import Operation
from stockade.kernel.principal import KeyCredential, TokenCredential
from stockade.policy.builtin_roles import builtin_roles
from stockade.policy.facts import Facts
from stockade.policy.snapshot import (
    AccountPolicy,
    DeploymentPolicy,
    Entry,
    NetworkPolicy,
    PrincipalPolicy,
    RoleAssignment,
    Snapshot,
)

GROUP = "/subscriptions/11111111-1111-4111-8111-111111111111/resourcegroups/g"
ACCOUNT = GROUP + "/providers/microsoft.cognitiveservices/accounts/a"
PRINCIPAL = "22222222-2222-4222-8222-222222222222"
OPENAI_USER = "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd"
CHAT = Operation(
    "Chat", "POST", "/openai/deployments/{d}/chat/completions", "OpenAI/deployments/chat/completions/action", "json"
)
KEY = KeyCredential(ACCOUNT, "Key1", b"d" * 32)
TOKEN = TokenCredential("t", PRINCIPAL, "app", "https://cognitiveservices.azure.com", "i", 2e9)


def account(**changes: Any) -> AccountPolicy:
    made = AccountPolicy(
        id=ACCOUNT, arm_id=ACCOUNT, name="a", kind="OpenAI", sku="S0", location="local", tenant_id="t", subdomain="a", local_auth=True,
        network=NetworkPolicy(), calls_per_minute=None, ordinal=1,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def deployment(**changes: Any) -> DeploymentPolicy:
    return dataclasses.replace(DeploymentPolicy(ACCOUNT, "chat", "m", "1", "OpenAI", None, 2, 0.0), **changes)


def facts(**changes: Any) -> Facts:
    made = Facts(1.8e9, "203.0.113.7", account(), False, KEY, CHAT, "/openai/deployments/chat/chat/completions", "POST")
    return dataclasses.replace(made, **changes)


def snapshot(*entries: tuple[str, Any, Any]) -> Snapshot:
    """Built-in roles, the principal as OpenAI User on the account, and what else is given, one document each."""
    assignment = RoleAssignment("ra", ACCOUNT, OPENAI_USER, PRINCIPAL)
    known = PrincipalPolicy(PRINCIPAL, "ServicePrincipal", "app", "app", enabled=True)
    documents: dict[str, tuple[Entry, ...]] = {
        "base": builtin_roles(),
        "ra": (("assignment", ACCOUNT, assignment),),
        "p": (("principal", PRINCIPAL, known),),
    }
    documents |= {f"d{number}": (entry,) for number, entry in enumerate(entries)}
    return Snapshot().with_changes(1, documents)
