"""Role-based access control as Azure evaluates it.

Deny assignments first; then any role assignment at the scope or above whose role grants the action and does not take it back itself.
`notActions` subtract within one role only. Actions never give data access, nor the other way round. Matching ignores case; `*` stands for
any run of characters anywhere. Membership in groups is transitive. An assignment for a while counts while it lasts, by the clock alone.
Source: contracts, control-plane section 4.1 (role-based-access-control/overview, role-definitions, deny-assignments).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from stockade.kernel.clock import iso
from stockade.kernel.principal import EVERYONE
from stockade.kernel.resource_id import scope_chain
from stockade.policy.snapshot import DenyAssignment, Permission, RoleAssignment, RoleDefinition, Snapshot

_ROLE_ASSIGNMENT_CHANGES = (
    "microsoft.authorization/roleassignments/write",
    "microsoft.authorization/roleassignments/delete",
)
_GROUP_DEPTH = 64
_PATTERN_CACHE = 4096


@dataclass(frozen=True, slots=True)
class Granted:
    """Access, and the assignment that gave it."""

    assignment: RoleAssignment
    role_name: str


@dataclass(frozen=True, slots=True)
class Refused:
    """No access; `deny` when a deny assignment took it, `ended` when an assignment for a while gave it before."""

    deny: DenyAssignment | None = None
    ended: RoleAssignment | None = None


Access: TypeAlias = Granted | Refused


def check(
    snapshot: Snapshot,
    principal_id: str,
    groups: tuple[str, ...],
    action: str,
    scope: str,
    *,
    now: float,
    data: bool = False,
    assigned_by: float = math.inf,
) -> Access:
    """Decide whether a principal may do an action at a scope.

    scope: lower-case id; action: full name in any case; groups: ids from the token, the directory's are added here. assigned_by: only
    assignments made by this instant count, for whoever decides on what was asked for then.
    """
    key = ("rbac", principal_id, groups, action, scope, data)
    found: Refused | tuple[Granted, ...] = snapshot.remembered(
        key, lambda: _evaluate(snapshot, principal_id, groups, action.lower(), scope, data)
    )
    if isinstance(found, Refused):
        return found
    for granted in found:
        if granted.assignment.in_force(now) and granted.assignment.made_at <= assigned_by:
            return granted
    over = (granted.assignment for granted in found if granted.assignment.until <= now)
    return Refused(ended=max(over, key=lambda one: one.until, default=None))


def ended_text(snapshot: Snapshot, ended: RoleAssignment) -> str:
    """Return the sentence that tells somebody of a role for a while that is over."""
    role = snapshot.only("role", ended.role_id)
    named = role.name if role is not None else ended.role_id
    return f"The role '{named}', which was given for a while, ended at {iso(ended.until)[:19]}Z."


def instants(snapshot: Snapshot, scope: str) -> Iterator[float]:
    """Yield when assignments for a while at a scope or above begin and end: what was decided holds between two of these."""
    for level in scope_chain(scope):
        for assignment in snapshot.all("assignment", level):
            yield from (at for at in (assignment.since, assignment.until) if math.isfinite(at))


def identities(snapshot: Snapshot, principal_id: str, groups: Iterable[str] = ()) -> frozenset[str]:
    """Return the principal and every group it is in, directly or through other groups."""
    found = {principal_id.lower(), *(group.lower() for group in groups)}
    frontier = set(found)
    for _ in range(_GROUP_DEPTH):
        frontier = {str(group) for member in frontier for group in snapshot.all("member", member)} - found
        if not frontier:
            break
        found |= frontier
    return frozenset(found)


def holders(snapshot: Snapshot, identities: Iterable[str]) -> frozenset[str]:
    """Return those whose role assignments and exclusions count: principals that the directory has, enabled.

    Both outlive the principals they were made for. A further issuer could name one of those in its tokens, or go on naming a principal of
    its own whose registration was taken back.
    """
    return frozenset(
        identity
        for identity in identities
        if (known := snapshot.only("principal", identity)) is not None and known.enabled
    )


def grants(permission: Permission, action: str, *, data: bool) -> bool:
    """Say whether one permission set gives a lower-case action."""
    allowed, taken = (
        (permission.data_actions, permission.not_data_actions) if data else (permission.actions, permission.not_actions)
    )
    if not any(_matches(pattern, action) for pattern in allowed) or any(_matches(pattern, action) for pattern in taken):
        return False
    # The conditions of Azure's built-in roles all restrict which roles may be assigned; unevaluated, they give no right to assign any.
    return not (permission.conditional and not data and action in _ROLE_ASSIGNMENT_CHANGES)


def smallest_role(snapshot: Snapshot, action: str, *, data: bool) -> RoleDefinition | None:
    """Return the built-in role that gives an action and otherwise the least, for the refusal that names a way out."""
    return smallest_role_for(snapshot, (action,), data=data)


def smallest_role_for(snapshot: Snapshot, actions: tuple[str, ...], *, data: bool) -> RoleDefinition | None:
    """Return the built-in role that gives all of the actions and otherwise the least; None when no single one does."""

    def compute() -> RoleDefinition | None:
        roles = [
            role for key in snapshot.keys("role") if (role := snapshot.only("role", key)) is not None and role.built_in
        ]
        wanted = [action.lower() for action in actions]
        fitting = [
            role for role in roles if all(any(grants(p, one, data=data) for p in role.permissions) for one in wanted)
        ]
        known = _named_actions(roles)
        return min(fitting, key=lambda role: (_breadth(role, known), role.name), default=None)

    role: RoleDefinition | None = snapshot.remembered(("smallest-role", actions, data), compute)
    return role


def _evaluate(
    snapshot: Snapshot, principal_id: str, groups: tuple[str, ...], action: str, scope: str, data: bool
) -> Refused | tuple[Granted, ...]:
    """Return every assignment that gives the action, whenever it counts; Refused where none ever does."""
    who = identities(snapshot, principal_id, groups)
    known = holders(snapshot, who)
    chain = scope_chain(scope)
    for level in chain:
        for deny in snapshot.all("deny", level):
            if deny.this_scope_only and level != scope:
                continue
            hit = (EVERYONE in deny.principals or bool(who & deny.principals)) and not known & deny.excluded
            if hit and any(grants(permission, action, data=data) for permission in deny.permissions):
                return Refused(deny)
    found: list[Granted] = []
    for level in chain:
        for assignment in snapshot.all("assignment", level):
            if assignment.principal_id in known:
                role = snapshot.only("role", assignment.role_id)
                if role is not None and any(grants(permission, action, data=data) for permission in role.permissions):
                    found.append(Granted(assignment, role.name))
    return tuple(found) or Refused()


def _matches(pattern: str, action: str) -> bool:
    return pattern == action or ("*" in pattern and _compiled(pattern).fullmatch(action) is not None)


@lru_cache(_PATTERN_CACHE)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in re.split(r"\*+", pattern)), re.DOTALL)


def _named_actions(roles: Iterable[RoleDefinition]) -> frozenset[tuple[str, bool]]:
    named: set[tuple[str, bool]] = set()
    for role in roles:
        for permission in role.permissions:
            # A pattern counts as one action below it: a role that gives all of a service is wider than one that lists most of it.
            named.update((action.replace("*", "any"), False) for action in permission.actions)
            named.update((action.replace("*", "any"), True) for action in permission.data_actions)
    return frozenset(named)


def _breadth(role: RoleDefinition, known: Iterable[tuple[str, bool]]) -> int:
    wide = sum(pattern in {"*", "*/read"} for permission in role.permissions for pattern in permission.actions)
    return 10_000 * wide + sum(any(grants(p, action, data=data) for p in role.permissions) for action, data in known)
