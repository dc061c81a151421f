"""Roles for a while and Lockbox by the command line, two people and more, on a platform whose time can be moved; Azure's client watches."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core.exceptions import ResourceNotFoundError
from azure.mgmt.authorization import AuthorizationManagementClient

from stockade.cli import outcome
from tests.factories.commands import command
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
    server = start(
        tmp_path_factory.mktemp("while") / "data",
        "--workers",
        "1",
        "--simulation",
        settings="[lockbox]\nbreak_glass = true\n",
    )
    yield server
    finish(server)


def person(live: Live, name: str, *roles: str, scope: str = "") -> Person:
    made = json.loads(command(live, "identity", "create", name, "--format", "json").stdout)
    for role in roles:
        done = command(live, "identity", "assign", name, role, *(("--scope", scope) if scope else ()))
        assert done.returncode == 0, done.stderr
    return Person(name, made["objectId"], made["clientId"], made["clientSecret"])


def advance(live: Live, period: str) -> None:
    """Move time; the administrator's token has ended by then."""
    assert command(live, "clock", "advance", period).returncode == 0
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
        assert f"{name}  Pending" in command(platform, "access", "request", *wanted, **asks).stdout

    def assigned() -> list[str]:
        with authorization(platform) as azure:
            found = azure.role_assignments.list_for_scope(scope, filter=f"principalId eq '{asker.object_id}'")
            return [str(one.id) for one in found if str(one.scope).lower() == scope.lower()]

    ask("look")
    assert "look  " in command(platform, "access", "list", **decides).stdout
    own = command(platform, "access", "approve", "look", **asker.variables("APPROVER"))
    assert (own.returncode, "roleRequests/approve/action" in own.stderr) == (outcome.REFUSED, True), own.stderr
    assert not may() and assigned() == []

    done = json.loads(command(platform, "access", "approve", "look", "--format", "json", **decides).stdout)[
        "properties"
    ]
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
    told = command(platform, "access", "show", "look", **decides).stdout
    assert ("look  Completed" in told, "Completed  Stockade" in told) == (True, True), told

    ask("again")
    command(platform, "access", "approve", "again", **decides)
    assert may()
    assert "Revoked" in command(platform, "access", "revoke", "again", "--reason", "enough", **decides).stdout
    assert not may() and assigned() == []

    ask("late")
    advance(platform, "96h")
    late = command(platform, "access", "approve", "late", **decides)
    assert late.returncode == outcome.CONFLICT
    assert "The request is Expired" in late.stderr


# Lockbox


BODY = b"what nobody at the platform is to read: 6f1c\n" * 40


@dataclass(frozen=True)
class Case:
    """An account with a file, a customer who owns it, and an operator."""

    live: Live
    account: str
    file: str
    alice: Person
    ollie: Person

    @property
    def path(self) -> str:
        return f"files/{self.file}"

    def customer(self, *arguments: str, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run(arguments, code, self.alice.variables("APPROVER"), variables)

    def operator(self, *arguments: str, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run(arguments, code, self.ollie.variables("OPERATOR"), variables)

    def run(
        self, arguments: Sequence[str], code: int, who: Mapping[str, str], variables: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        done = command(self.live, "lockbox", *arguments, **{**who, **variables})
        assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        return done

    def ask(self, *more: str) -> str:
        """File a request for the file and return its GUID."""
        wanted = ("--account", self.account, "--scope", self.path, "--reason", "the customer's case 4711")
        done = self.operator("request", *wanted, "--case", "https://support.example/4711", *more, "--format", "json")
        return str(json.loads(done.stdout)["properties"]["requestId"])

    def status(self, request: str) -> str:
        done = self.customer("requests", "show", request, "--format", "json")
        return str(json.loads(done.stdout)["properties"]["status"])


def upload(live: Live, account: str) -> str:
    """Keep a file in an account, as its own programs do."""
    found = live.account(account)
    reply = requests.post(
        f"{found['AZURE_OPENAI_ENDPOINT']}openai/files?api-version=2024-10-21",
        headers={"api-key": found["AZURE_OPENAI_API_KEY"]},
        files={"file": ("a telling name.jsonl", BODY)},
        data={"purpose": "assistants"},
        verify=str(live.bundle),
        timeout=60,
    )
    assert reply.status_code in (200, 201), reply.text
    return str(reply.json()["id"])


@pytest.fixture(scope="module")
def case(platform: Live) -> Case:
    body = {"kind": "OpenAI", "location": platform.location, "sku": {"name": "S0"}}
    body["properties"] = {"customSubDomainName": "kept-safe"}  # type: ignore[assignment]
    platform.request("PUT", platform.account_id("kept-safe"), body).raise_for_status()
    alice = person(platform, "alice", "Owner", "Key Vault Crypto User")
    ollie = person(platform, "ollie", "Stockade Support Engineer")
    return Case(platform, "kept-safe", upload(platform, "kept-safe"), alice, ollie)


@pytest.fixture(scope="module")
def key(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Protect the account by a key in a file with a passphrase, and return it."""
    file = tmp_path_factory.mktemp("keys") / "approver.pem"
    refused = case.operator(
        "request", "--account", case.account, "--scope", case.path, "--reason", "r", code=outcome.REFUSED
    )
    assert "Lockbox is off" in refused.stderr or "turns it on" in refused.stderr
    assert command(case.live, "lockbox", "enable").returncode == 0
    none = case.operator(
        "request", "--account", case.account, "--scope", case.path, "--reason", "r", code=outcome.REFUSED
    )
    assert "has no Lockbox statement, so nobody can sign an approval" in none.stderr
    case.customer("new-key", "-o", str(file), **PHRASE)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and b"ENCRYPTED" in file.read_bytes()
    unasked = ("protect", "--account", case.account, "--approver-key", f"file:{file}", "--callers", "platform")
    assert "add --yes" in case.customer(*unasked, code=outcome.USAGE, **PHRASE).stderr
    done = case.customer(*unasked, "--yes", **PHRASE)
    assert "stops          an operator with no approval and no other right" in done.stdout, done.stdout
    assert "DOES NOT STOP  who writes the database" in done.stdout
    assert "kept-safe is protected by statement" in done.stdout
    return file


PHRASE = {"STOCKADE_LOCKBOX_PASSPHRASE": "correct horse battery"}


def test_two_people_walk_the_whole_path(case: Case, key: Path, tmp_path: Path) -> None:
    seen = case.operator("objects", "--account", case.account).stdout
    assert case.path in seen and "telling name" not in seen
    request = case.ask("--duration", "2h")
    assert case.status(request) == "Pending"
    early = case.operator("read", request, case.path, "-o", str(tmp_path / "early"), code=outcome.CONFLICT)
    assert not (tmp_path / "early").exists(), early.stderr
    own = case.run(
        ("approve", request, "-m", "ok", "--key", f"file:{key}", "--yes"),
        outcome.REFUSED,
        case.ollie.variables("APPROVER"),
        PHRASE,
    )
    assert own.stderr
    done = case.customer("approve", request, "--reason", "go ahead", "--key", f"file:{key}", "--yes", **PHRASE)
    assert "May be read  " + case.path in done.stdout and f"{request}  Approved: until" in done.stdout
    assert "Approved by alice" in case.operator("wait", request, "--timeout", "30s").stdout
    case.operator("read", request, case.path, "-o", str(tmp_path / "body"))
    assert (tmp_path / "body").read_bytes() == BODY
    assert "a telling name.jsonl" in case.operator("read", request).stdout
    further = f"files/{upload(case.live, case.account)}"
    other = case.operator("read", request, further, "-o", str(tmp_path / "other"), code=outcome.REFUSED)
    assert not (tmp_path / "other").exists(), other.stderr
    assert "Completed" in case.operator("done", request, "-m", "found it").stdout
    case.operator("read", request, case.path, "-o", str(tmp_path / "later"), code=outcome.CONFLICT)


def test_a_vault_key_signs_for_another_approver(case: Case, key: Path, tmp_path: Path) -> None:
    vault = case.live.environment["STOCKADE_VAULT"]
    name = vault.split("//")[1].split(".")[0]
    body = {"properties": {"kty": "EC", "curveName": "P-256"}}
    place = f"{case.live.group_id}/providers/Microsoft.KeyVault/vaults/{name}/keys/approver"
    case.live.request("PUT", place, body).raise_for_status()
    more = (
        "--approver-key",
        f"file:{key}",
        "--approver-key",
        f"{vault}/keys/approver",
        "--key",
        f"file:{key}",
        "--yes",
    )
    done = case.customer("protect", "--account", case.account, *more, **PHRASE)
    assert "Statement number 2" in done.stdout and "alice-2" in done.stdout
    request = case.ask()
    done = case.customer("approve", request, "-m", "by the vault", "--key", f"{vault}/keys/approver", "--yes")
    assert "Approved: until" in done.stdout
    assert "Revoked" in case.customer("revoke", request, "--reason", "enough").stdout
    assert case.operator("wait", request, code=outcome.REFUSED).stdout.strip().endswith("Revoked by alice: enough")


def test_refusals_say_what_is_wrong(case: Case, key: Path, tmp_path: Path) -> None:
    request = case.ask()
    stranger = tmp_path / "stranger.pem"
    case.customer("new-key", "-o", str(stranger), "--no-passphrase")
    wrong = case.customer("approve", request, "-m", "x", "--key", f"file:{stranger}", "--yes", code=outcome.USAGE)
    assert "none of the keys that the statement has" in wrong.stderr
    missing = case.customer("approve", request, "-m", "x", "--key", f"file:{key}", "--yes", code=outcome.USAGE)
    assert "STOCKADE_LOCKBOX_PASSPHRASE" in missing.stderr
    wider = case.customer(
        "approve", request, "-m", "x", "--key", f"file:{stranger}", "--scope", "files/*", "--yes", code=outcome.USAGE
    )
    assert "can only leave out" in wider.stderr
    denied = case.customer("deny", request, "--reason", "not without a ticket")
    assert "Denied" in denied.stdout
    told = case.operator("wait", request, code=outcome.REFUSED)
    assert "Denied by alice: not without a ticket" in told.stdout
    again = case.customer(
        "approve", request, "-m", "x", "--key", f"file:{key}", "--yes", code=outcome.CONFLICT, **PHRASE
    )
    assert "nothing to sign" in again.stderr
    assert "cancelled any more" in case.operator("cancel", request, code=outcome.CONFLICT).stderr


def test_two_approvers_sign_one_from_a_machine_of_their_own(case: Case, key: Path, tmp_path: Path) -> None:
    """A statement that takes two goes from one to the other as a file; an approval waits for both, and each sends an own signature."""
    bob = person(case.live, "bob", "Owner")
    theirs, draft = tmp_path / "bob.pem", tmp_path / "draft.json"
    # Another machine: no data directory of the server's, only what `stockade env` prints.
    away = {
        name: value
        for name, value in case.live.environment.items()
        if name.startswith("STOCKADE_") and "CLIENT" not in name
    }
    elsewhere = {**bob.variables("APPROVER"), **away, "STOCKADE_DATA_DIR": str(tmp_path / "nothing here")}

    def from_away(*arguments: str) -> str:
        return case.run(arguments, 0, elsewhere, {}).stdout

    from_away("new-key", "-o", str(theirs), "--no-passphrase")
    both = ("--approver-key", f"file:{key}", "--approver-key", f"bob=file:{theirs}", "--threshold", "2")
    done = case.customer("protect", "--account", case.account, *both, "--draft", str(draft), **PHRASE)
    assert "2 of them" in done.stdout and "signed by nobody yet" in done.stdout
    case.customer("policy", "sign", str(draft), "--key", f"file:{key}", "--yes", **PHRASE)
    assert "protected by statement" in case.customer("policy", "send", str(draft)).stdout
    assert "bob" in from_away("policy", "show", "--account", case.account)

    request = case.ask()
    first = case.customer("approve", request, "-m", "one", "--key", f"file:{key}", "--yes", **PHRASE)
    assert "Approving: 1 of 2 have signed" in first.stdout
    assert case.status(request) == "Approving"
    second = from_away("approve", request, "-m", "two", "--key", f"file:{theirs}", "--yes")
    assert "Approved: until" in second

    # From now on both sign what changes the statement; one alone is refused, and changes nothing.
    back = ("protect", "--account", case.account, "--threshold", "1", "--approver-key", f"file:{key}")
    alone = case.customer(*back, "--key", f"file:{key}", "--yes", code=outcome.REFUSED, **PHRASE)
    assert "2 of its approvers have to sign" in alone.stderr
    case.customer(*back, "--draft", str(draft), **PHRASE)
    case.customer("policy", "sign", str(draft), "--key", f"file:{key}", "--yes", **PHRASE)
    assert "signed by alice, bob" in from_away("policy", "sign", str(draft), "--key", f"file:{theirs}", "--yes")
    from_away("policy", "send", str(draft))


def test_breaking_the_glass_takes_two_operators_and_a_clause_that_was_signed(
    case: Case, key: Path, tmp_path: Path
) -> None:
    oscar = person(case.live, "oscar", "Stockade Support Engineer")
    keys = {who.name: tmp_path / f"{who.name}.pem" for who in (case.ollie, oscar)}
    for file in keys.values():
        case.operator("new-key", "-o", str(file), "--no-passphrase")
    wanted = ("request", "--account", case.account, "--scope", case.path, "--reason", "it burns", "--break-glass")
    assert "off in the account's statement" in case.operator(*wanted, code=outcome.REFUSED).stderr
    clause = [part for name, file in keys.items() for part in ("--break-glass-key", f"{name}=file:{file}")]
    signs = ("--key", f"file:{key}", "--yes")
    done = case.customer("protect", "--account", case.account, *clause, *signs, **PHRASE)
    assert "2 of them, for 1 hours; you are told at once" in done.stdout

    request = str(json.loads(case.operator(*wanted, "--format", "json").stdout)["properties"]["requestId"])
    case.operator("read", request, case.path, "-o", str(tmp_path / "early"), code=outcome.CONFLICT)
    own = ("break-glass", request, "--key")
    unnamed = case.operator(*own, f"file:{keys['ollie']}", "--yes", code=outcome.USAGE)
    assert "with --as: ollie, oscar" in " ".join(unnamed.stderr.replace("│", " ").split())
    first = case.operator(*own, f"file:{keys['ollie']}", "--as", "ollie", "--yes")
    assert "BREAK THE GLASS" in first.stdout and f"{request}  Approving" in first.stdout
    second = case.run((*own, f"file:{keys['oscar']}", "--as", "oscar", "--yes"), 0, oscar.variables("OPERATOR"), {})
    assert f"{request}  Approved" in second.stdout and "AutoApproved" in second.stdout
    case.operator("read", request, case.path, "-o", str(tmp_path / "body"))
    assert (tmp_path / "body").read_bytes() == BODY
    assert "Break-glass   yes" in case.customer("requests", "show", request).stdout
    assert "Revoked" in case.customer("revoke", request, "--reason", "that will do").stdout
    case.operator("read", request, case.path, "-o", str(tmp_path / "later"), code=outcome.CONFLICT)
    case.customer("protect", "--account", case.account, "--no-break-glass", *signs, **PHRASE)


def test_what_nobody_answers_lapses_after_four_days(case: Case, key: Path) -> None:
    request = case.ask()
    advance(case.live, "95h")
    assert case.status(request) == "Pending"
    advance(case.live, "1h")
    assert case.status(request) == "Expired"
    late = case.customer(
        "approve", request, "-m", "x", "--key", f"file:{key}", "--yes", code=outcome.CONFLICT, **PHRASE
    )
    assert "Expired" in late.stderr


def test_the_protection_is_ended_as_it_was_begun(case: Case, key: Path) -> None:
    assert "kept-safe" in command(case.live, "lockbox", "status").stdout
    done = case.customer("unprotect", "--account", case.account, "--key", f"file:{key}", "--yes", **PHRASE)
    assert "NO: this ends the protection" in done.stdout and "protected no more" in done.stdout
    gone = case.operator(
        "request", "--account", case.account, "--scope", case.path, "--reason", "r", code=outcome.REFUSED
    )
    assert "has no Lockbox statement" in gone.stderr
    assert "Lockbox is off" in command(case.live, "lockbox", "disable").stdout
