"""Roles for a while and Lockbox by the command line, two people and more, on a platform whose time can be moved; Azure's client watches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.mgmt.authorization import AuthorizationManagementClient

from stockade.cli import outcome
from tests.live import Live, finish, start, wait_for

VERSION = "2025-04-01"


@dataclass(frozen=True)
class Person:
    """Somebody with a credential of their own, and the variables that the commands take it from."""

    name: str
    object_id: str
    client_id: str
    secret: str

    def variables(self, part: str) -> Mapping[str, str]:
        return {f"STOCKADE_{part}_ID": self.client_id, f"STOCKADE_{part}_SECRET": self.secret}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    server = start(tmp_path_factory.mktemp("while") / "data", "--workers", "1", "--simulation")
    yield server
    finish(server)


def person(live: Live, name: str, *roles: str, scope: str = "") -> Person:
    made = live.identity(name)
    for role in roles:
        live.stockade("identity", "assign", name, role, *(("--scope", scope) if scope else ()))
    return Person(name, made["objectId"], made["clientId"], made["clientSecret"])


def advance(live: Live, period: str) -> None:
    """Move time; the administrator's token has ended by then."""
    live.stockade("clock", "advance", period)
    live._token = ("", 0.0)


# Roles for a while


@contextmanager
def authorization(live: Live) -> Iterator[AuthorizationManagementClient]:
    """Azure's client, with a token of this moment: time moves here."""
    options: Any = {"base_url": live.arm, "retry_total": 0, "connection_verify": str(live.bundle)}
    with (
        live.credential() as credential,
        AuthorizationManagementClient(credential, live.subscription, **options) as client,
    ):
        yield client


def token_of(live: Live, who: Person) -> str:
    with live.credential(who.client_id, who.secret) as credential:
        return str(credential.get_token("https://management.azure.com/.default").token)


def test_a_role_is_asked_for_decided_on_used_and_over(platform: Live) -> None:
    scope = platform.account_id("demo-openai")
    asker = person(platform, "night-shift", "Stockade Access Requester")
    decider = person(platform, "day-shift", "Stockade Access Approver", "User Access Administrator")
    asks, decides = asker.variables("OPERATOR"), decider.variables("APPROVER")

    def may() -> bool:
        reply = platform.request("GET", scope, token=token_of(platform, asker))
        return bool(reply.status_code == 200)

    def ask(name: str) -> None:
        wanted = ("--role", "Reader", "--for", "2h", "--reason", "look at it", "--scope", scope, "--name", name)
        assert f"{name}  Pending" in platform.cli("access", "request", *wanted, **asks).stdout

    def assigned() -> list[str]:
        with authorization(platform) as azure:
            found = azure.role_assignments.list_for_scope(scope, filter=f"principalId eq '{asker.object_id}'")
            return [str(one.id) for one in found if str(one.scope).lower() == scope.lower()]

    ask("look")
    assert "look  " in platform.cli("access", "list", **decides).stdout
    own = platform.cli("access", "approve", "look", check=False, **asker.variables("APPROVER"))
    assert (own.returncode, "roleRequests/approve/action" in own.stderr) == (outcome.REFUSED, True), own.stderr
    assert not may() and assigned() == []

    done = json.loads(platform.cli("access", "approve", "look", "--format", "json", **decides).stdout)["properties"]
    assert assigned() == [done["roleAssignmentId"]]
    with authorization(platform) as azure:
        shown = azure.role_assignments.get_by_id(done["roleAssignmentId"])
    assert shown.principal_id == asker.object_id
    assert shown.role_definition_id.endswith(done["roleDefinitionId"].rsplit("/", 1)[-1])
    assert done["endsAt"][:19] in str(shown.description)
    assert may()

    advance(platform, "1h59m")
    assert may()
    advance(platform, "2m")
    assert not may(), "by the clock, before anybody has taken it away"
    refused = platform.request("GET", scope, token=token_of(platform, asker))
    assert "The role 'Reader', which was given for a while, ended at" in refused.json()["error"]["message"]
    with authorization(platform) as azure, pytest.raises(ResourceNotFoundError):
        azure.role_assignments.get_by_id(done["roleAssignmentId"])

    def recorded() -> bool:
        files = (platform.data_dir / "audit").glob("*.jsonl")
        return any('"Stockade.Access/roleRequests/completed"' in file.read_text() for file in files)

    wait_for(recorded, "upkeep takes away what is over, and that is on record")
    told = platform.cli("access", "show", "look", **decides).stdout
    assert ("look  Completed" in told, "Completed  Stockade" in told) == (True, True), told

    ask("again")
    platform.cli("access", "approve", "again", **decides)
    assert may()
    assert "Revoked" in platform.cli("access", "revoke", "again", "--reason", "enough", **decides).stdout
    assert not may() and assigned() == []

    ask("late")
    advance(platform, "96h")
    late = platform.cli("access", "approve", "late", check=False, **decides)
    assert late.returncode == outcome.CONFLICT
    assert "The request is Expired" in late.stderr
