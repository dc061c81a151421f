"""Role-based access control against an oracle that is too slow and too simple to be wrong in the same way."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from stockade.kernel.principal import EVERYONE
from stockade.policy import rbac
from stockade.policy.compile import Compiler
from stockade.policy.snapshot import (
    DenyAssignment,
    Entry,
    Permission,
    PrincipalPolicy,
    RoleAssignment,
    RoleDefinition,
    Snapshot,
)
from stockade.storage.documents import Document, State

SCOPES = (
    "/",
    "/subscriptions/00000000-0000-4000-8000-000000000001",
    "/subscriptions/00000000-0000-4000-8000-000000000001/resourcegroups/g",
)
TARGET = SCOPES[2] + "/providers/microsoft.cognitiveservices/accounts/a"
PRINCIPALS = ("p1", "p2", "g1")
ACTIONS = st.sampled_from(["a/b/read", "a/b/write", "a/c/read", "x/y/action", "a/b/c/read"])
PATTERNS = st.sampled_from(
    ["*", "*/read", "a/*", "a/b/*", "a/b/read", "*/b/*", "x/y/action", "a/*/read", "a/b/write", "**"]
)
SETS = st.builds(
    Permission,
    actions=st.lists(PATTERNS, max_size=3).map(tuple),
    not_actions=st.lists(PATTERNS, max_size=2).map(tuple),
    data_actions=st.lists(PATTERNS, max_size=2).map(tuple),
    not_data_actions=st.lists(PATTERNS, max_size=1).map(tuple),
)
ROLES = st.lists(st.lists(SETS, min_size=1, max_size=2).map(tuple), min_size=1, max_size=3)
ASSIGNMENTS = st.lists(st.tuples(st.sampled_from(SCOPES), st.integers(0, 2), st.sampled_from(PRINCIPALS)), max_size=4)
DENIES = st.lists(
    st.tuples(
        st.sampled_from(SCOPES),
        SETS,
        st.frozensets(st.sampled_from([*PRINCIPALS, EVERYONE]), max_size=2),
        st.frozensets(st.sampled_from(PRINCIPALS), max_size=1),
        st.booleans(),
    ),
    max_size=3,
)
Deny = tuple[str, Permission, frozenset[str], frozenset[str], bool]
World = tuple[list[tuple[Permission, ...]], list[tuple[str, int, str]], list[Deny]]
WORLDS = st.tuples(ROLES, ASSIGNMENTS, DENIES)


def entries(
    world: World, known: Sequence[str] = PRINCIPALS, disabled: Container[str] = ()
) -> dict[str, tuple[Entry, ...]]:
    """p1 is in group g1."""
    roles, assignments, denies = world
    found: dict[str, tuple[Entry, ...]] = {"group": (("member", "p1", "g1"),)}
    for who in known:
        found[who] = (
            ("principal", who, PrincipalPolicy(who, "ServicePrincipal", None, who, enabled=who not in disabled)),
        )
    for number, permissions in enumerate(roles):
        found[f"role{number}"] = (
            ("role", f"r{number}", RoleDefinition(f"r{number}", f"R{number}", False, permissions)),
        )
    for number, (scope, role, who) in enumerate(assignments):
        found[f"assignment{number}"] = (("assignment", scope, RoleAssignment(str(number), scope, f"r{role}", who)),)
    for number, (scope, permission, principals, excluded, here) in enumerate(denies):
        deny = DenyAssignment(str(number), "d", scope, (permission,), principals, excluded, here)
        found[f"deny{number}"] = (("deny", scope, deny),)
    return found


def snapshot(world: World) -> Snapshot:
    return Snapshot().with_changes(1, entries(world))


def matches(pattern: str, text: str) -> bool:
    """The oracle: try every way in which a star can stand for characters."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(matches(pattern[1:], text[skip:]) for skip in range(len(text) + 1))
    return bool(text) and pattern[0] == text[0] and matches(pattern[1:], text[1:])


def gives(permission: Permission, action: str, *, data: bool) -> bool:
    yes = permission.data_actions if data else permission.actions
    no = permission.not_data_actions if data else permission.not_actions
    return any(matches(pattern, action) for pattern in yes) and not any(matches(pattern, action) for pattern in no)


def allowed(world: World, who: str, action: str, scope: str, *, data: bool) -> bool:
    roles, assignments, denies = world
    mine = {who, "g1"} if who == "p1" else {who}
    levels = [level for level in (*SCOPES, TARGET) if level == "/" or scope == level or scope.startswith(level + "/")]
    for level, permission, principals, excluded, here in denies:
        applies = level in levels and (not here or level == scope)
        hit = (EVERYONE in principals or bool(mine & principals)) and not mine & excluded
        if applies and hit and gives(permission, action, data=data):
            return False
    return any(
        level in levels
        and principal in mine
        and role < len(roles)
        and any(gives(permission, action, data=data) for permission in roles[role])
        for level, role, principal in assignments
    )


def granted(
    state: Snapshot, who: str, action: str, scope: str, *, now: float = 0.0, by: float = math.inf, data: bool = False
) -> bool:
    found = rbac.check(state, who, (), action, scope, now=now, data=data, assigned_by=by)
    return isinstance(found, rbac.Granted)


INSTANT = st.integers(0, 6).map(float)


@given(
    WORLDS,
    st.lists(st.tuples(INSTANT, INSTANT, INSTANT), min_size=4, max_size=4),
    st.lists(st.tuples(INSTANT, INSTANT), min_size=1, max_size=5),
    ACTIONS,
    st.booleans(),
)
def test_an_assignment_for_a_while_counts_while_it_lasts_whatever_was_asked_before(
    world: World,
    windows: list[tuple[float, float, float]],
    asked: list[tuple[float, float]],
    action: str,
    data: bool,
) -> None:
    """One snapshot, asked at several instants in any order: each answer is that of a world with only what counts then."""
    roles, assignments, denies = world
    timed = entries(world)
    for number, (since, until, made) in enumerate(windows[: len(assignments)]):
        index, scope, plain = timed[f"assignment{number}"][0]
        timed[f"assignment{number}"] = ((index, scope, replace(plain, since=since, until=until, made_at=made)),)
    state = Snapshot().with_changes(1, timed)
    for now, by in asked:
        left = [
            one
            for one, (since, until, made) in zip(assignments, windows, strict=False)
            if since <= now < until and made <= by
        ]
        expected = allowed((roles, left, denies), "p1", action, TARGET, data=data)
        assert granted(state, "p1", action, TARGET, now=now, by=by, data=data) == expected


@given(WORLDS, st.sampled_from(PRINCIPALS[:2]), ACTIONS, st.sampled_from([*SCOPES, TARGET]), st.booleans())
def test_it_decides_as_the_oracle_does(world: World, who: str, action: str, scope: str, data: bool) -> None:
    assert granted(snapshot(world), who, action, scope, data=data) == allowed(world, who, action, scope, data=data)


@given(WORLDS, st.sampled_from(PRINCIPALS[:2]), ACTIONS, st.sampled_from(PRINCIPALS), st.booleans())
def test_only_principals_that_are_there_and_enabled_hold_anything(
    world: World, who: str, action: str, gone: str, disabled: bool
) -> None:
    """Assignments and exclusions of a deleted or disabled principal are as if nobody had made them; denies of it go on."""
    roles, assignments, denies = world
    left = [principal for principal in PRINCIPALS if principal != gone]
    found = entries(world, disabled=(gone,)) if disabled else entries(world, known=left)
    fewer = [one for one in assignments if one[2] != gone]
    harsher = [(*deny[:3], deny[3] - {gone}, deny[4]) for deny in denies]
    expected = allowed((roles, fewer, harsher), who, action, TARGET, data=False)
    assert granted(Snapshot().with_changes(1, found), who, action, TARGET) == expected


@given(WORLDS, DENIES, st.sampled_from(PRINCIPALS[:2]), ACTIONS)
def test_adding_a_deny_never_allows(world: World, more: list[Deny], who: str, action: str) -> None:
    roles, assignments, denies = world
    if granted(snapshot((roles, assignments, [*denies, *more])), who, action, TARGET):
        assert granted(snapshot(world), who, action, TARGET)


@given(WORLDS, ASSIGNMENTS, st.sampled_from(PRINCIPALS[:2]), ACTIONS)
def test_adding_an_assignment_never_takes(
    world: World, more: list[tuple[str, int, str]], who: str, action: str
) -> None:
    roles, assignments, denies = world
    if granted(snapshot(world), who, action, TARGET):
        assert granted(snapshot((roles, [*assignments, *more], denies)), who, action, TARGET)


@given(SETS, SETS, ACTIONS)
def test_what_one_role_leaves_out_another_can_give(one: Permission, other: Permission, action: str) -> None:
    both = snapshot(([(one,), (other,)], [("/", 0, "p2"), ("/", 1, "p2")], []))
    alone = [snapshot(([(permission,)], [("/", 0, "p2")], [])) for permission in (one, other)]
    assert granted(both, "p2", action, TARGET) == any(granted(state, "p2", action, TARGET) for state in alone)


@given(SETS, ACTIONS)
def test_actions_give_no_data_and_data_actions_nothing_else(permission: Permission, action: str) -> None:
    only_actions = Permission(permission.actions, permission.not_actions, (), ())
    only_data = Permission((), (), permission.data_actions, permission.not_data_actions)
    assert not rbac.grants(only_actions, action, data=True)
    assert not rbac.grants(only_data, action, data=False)


@given(st.text("ab*/", max_size=8), st.text("ab/", max_size=8))
def test_wildcards_match_as_the_oracle_does(pattern: str, action: str) -> None:
    assert rbac.grants(Permission((pattern,), (), (), ()), action, data=False) == matches(pattern, action)


@given(WORLDS, st.randoms(use_true_random=False))
def test_the_order_of_documents_does_not_matter(world: World, random: Random) -> None:
    types = Compiler({"t": lambda document: document.body["entries"]})
    documents = [Document(name, "t", {"entries": found}) for name, found in entries(world).items()]
    wanted = snapshot(world)
    random.shuffle(documents)
    one_by_one = Snapshot()
    for number, document in enumerate(documents):
        one_by_one = types.apply(one_by_one, number, [document])
    assert one_by_one == wanted == types.apply(Snapshot(), 1, documents)


@given(WORLDS, st.integers(0, 9))
def test_a_document_that_is_gone_leaves_nothing_behind(world: World, which: int) -> None:
    found = entries(world)
    victim = list(found)[which % len(found)]
    types = Compiler({"t": lambda document: document.body["entries"]})
    gone = types.apply(snapshot(world), 2, [Document(victim, "t", {"entries": found[victim]}, state=State.GONE)])
    del found[victim]
    assert gone == Snapshot().with_changes(2, found)
