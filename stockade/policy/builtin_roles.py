"""Azure's built-in roles, shipped as `builtin-roles.json`: names, GUIDs and permissions as Azure publishes them; and some of ours.

Source: contracts, control-plane section 4.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from stockade.policy.snapshot import Entry, Permission, RoleDefinition

OWNER = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
ACCESS_APPROVER = "3a2f13a4-40a3-409a-9994-77a0ca7e38c2"
"""Who decides on requests for E0, and for roles where they may assign roles too."""
ACCESS_REQUESTER = "b7c1a9de-0b0e-4f43-9c58-5d6a1f0f2f6b"
"""Who may ask for roles for a while, and nothing else."""
LOCKBOX_APPROVER = "4dae6930-7baf-46f5-909e-0383bc931c46"
"""`Azure Customer Lockbox Approver for Subscription`."""
SUPPORT_ENGINEER = "5d0f6d0a-9d1b-4c39-8a4e-3a5c1f0f7b61"
"""An operator who may ask customers for their content."""
LOCKBOX_ADMINISTRATOR = "2e8a4f5c-1c7d-4a63-9f0e-7b6d8c9a1e35"
"""Who turns Lockbox on and off, at the tenant root, and can do nothing else there."""
LOCKBOX_REVIEWER = "c7f6f0f2-6b1d-4e0a-9a53-0d2b8b1f4e97"
"""The second pair of eyes before a customer is asked."""


class _Permission(msgspec.Struct, frozen=True, rename="camel"):
    actions: tuple[str, ...]
    not_actions: tuple[str, ...]
    data_actions: tuple[str, ...]
    not_data_actions: tuple[str, ...]
    condition: str | None = None
    condition_version: str | None = None


class BuiltInRole(msgspec.Struct, frozen=True, rename="camel"):
    """One role of the file. name: its GUID, in lower case."""

    role_name: str
    name: str
    role_type: str
    permissions: tuple[_Permission, ...]


_OPERATORS_READ = (
    "Stockade.Lockbox/requests/read",
    "Microsoft.Resources/subscriptions/read",
    "Microsoft.Resources/subscriptions/resourceGroups/read",
)
_OURS = (
    BuiltInRole(
        role_name="Stockade Access Approver",
        name=ACCESS_APPROVER,
        role_type="BuiltInRole",
        permissions=(
            _Permission(
                actions=(
                    "Stockade.Access/skuRequests/read",
                    "Stockade.Access/notices/read",
                    "Stockade.Access/roleRequests/read",
                    "Stockade.Access/roleRequests/revoke/action",
                    "Microsoft.Resources/subscriptions/read",
                ),
                not_actions=(),
                data_actions=(
                    "Stockade.Access/skuRequests/startReview/action",
                    "Stockade.Access/skuRequests/approve/action",
                    "Stockade.Access/skuRequests/deny/action",
                    "Stockade.Access/roleRequests/approve/action",
                    "Stockade.Access/roleRequests/deny/action",
                ),
                not_data_actions=(),
            ),
        ),
    ),
    BuiltInRole(
        role_name="Stockade Access Requester",
        name=ACCESS_REQUESTER,
        role_type="BuiltInRole",
        permissions=(
            _Permission(
                actions=(
                    "Stockade.Access/roleRequests/read",
                    "Stockade.Access/roleRequests/write",
                    "Stockade.Access/roleRequests/cancel/action",
                    "Microsoft.Resources/subscriptions/read",
                    "Microsoft.Authorization/roleDefinitions/read",
                ),
                not_actions=(),
                data_actions=(),
                not_data_actions=(),
            ),
        ),
    ),
    BuiltInRole(
        role_name="Stockade Support Engineer",
        name=SUPPORT_ENGINEER,
        role_type="BuiltInRole",
        permissions=(
            _Permission(
                actions=(
                    *_OPERATORS_READ,
                    "Stockade.Lockbox/objects/read",
                    "Microsoft.CognitiveServices/accounts/read",
                ),
                not_actions=(),
                data_actions=("Stockade.Lockbox/requests/write",),
                not_data_actions=(),
            ),
        ),
    ),
    BuiltInRole(
        role_name="Stockade Lockbox Administrator",
        name=LOCKBOX_ADMINISTRATOR,
        role_type="BuiltInRole",
        permissions=(
            _Permission(
                actions=("Microsoft.CustomerLockbox/register/action",),
                not_actions=(),
                data_actions=(),
                not_data_actions=(),
            ),
        ),
    ),
    BuiltInRole(
        role_name="Stockade Lockbox Reviewer",
        name=LOCKBOX_REVIEWER,
        role_type="BuiltInRole",
        permissions=(
            _Permission(
                actions=_OPERATORS_READ,
                not_actions=(),
                data_actions=("Stockade.Lockbox/requests/review/action",),
                not_data_actions=(),
            ),
        ),
    ),
)


@cache
def roles() -> Mapping[str, BuiltInRole]:
    """Return every built-in role by GUID."""
    data = files("stockade.policy").joinpath("builtin-roles.json").read_bytes()
    return {role.name: role for role in (*msgspec.json.decode(data, type=list[BuiltInRole]), *_OURS)}


def builtin_roles() -> tuple[Entry, ...]:
    """Return the built-in roles as entries of the snapshot's "role" index."""
    return tuple(
        ("role", role.name, RoleDefinition(role.name, role.role_name, True, permission_sets(_plain(role.permissions))))
        for role in roles().values()
    )


def permission_sets(permissions: Iterable[Mapping[str, Any]]) -> tuple[Permission, ...]:
    """Return the `permissions` member of a role definition or deny assignment as policy: patterns in lower case."""
    return tuple(
        Permission(
            actions=_lower(permission.get("actions")),
            not_actions=_lower(permission.get("notActions")),
            data_actions=_lower(permission.get("dataActions")),
            not_data_actions=_lower(permission.get("notDataActions")),
            conditional=bool(permission.get("condition")),
        )
        for permission in permissions
    )


def permissions_body(role: BuiltInRole) -> list[dict[str, Any]]:
    """Return a role's permissions as ARM shows them."""
    return [
        {name: value for name, value in permission.items() if value is not None}
        for permission in _plain(role.permissions)
    ]


def _plain(permissions: Iterable[_Permission]) -> list[dict[str, Any]]:
    built: list[dict[str, Any]] = msgspec.to_builtins(list(permissions))
    return built


def _lower(patterns: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(pattern.lower() for pattern in patterns or ())
