"""The first start: from an empty folder to a platform with an administrator and something to try.

Everything may be interrupted at any point and done again. What belongs together is one transaction (tenant, subscription, administrator, signing
key); the administrator's credential is on disk before that transaction commits, so that there is never an administrator whose secret
nobody knows. The demonstration resources are made through the management pipeline, with the administrator's own token, as any client would.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from stockade.boot.control_plane import identity_services, management_pipeline, management_platform
from stockade.boot.foundation import Foundation, foundation
from stockade.broker.opening import Opening
from stockade.identity import tenant
from stockade.identity.directory import Directory
from stockade.identity.signing_keys import KeyRing
from stockade.identity.token_service import Caller, ClientCredentials, TokenService
from stockade.kernel.clock import CLOCK_FILE, SimulatedClock
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.kernel.secret import Secret
from stockade.keys.broker import Broker
from stockade.keys.broker_client import BrokerClient
from stockade.keys.durable import write_durably
from stockade.keys.keyring import FILE_NAME as KEYRING
from stockade.keys.keyring import Keyring, sealing_key
from stockade.keys.root import ROOT_KEY_BYTES, RootKey
from stockade.keys.root_sources import FileSource, SharesSource, source_of
from stockade.management.first_start import assign_role, create_subscription
from stockade.management.pipeline import Head, Pipeline
from stockade.policy.builtin_roles import ACCESS_APPROVER, LOCKBOX_ADMINISTRATOR, OWNER
from stockade.serve import administrator, tls
from stockade.serve.administrator import Administrator
from stockade.serve.example import EXAMPLE_SETTINGS
from stockade.serve.files import locked, private_folder, write_private
from stockade.settings import Settings
from stockade.storage.database import Database, Reader, Writer

DEMO_ACCOUNT: Final = "demo-openai"
DEMO_DEPLOYMENTS: Final[Mapping[str, str]] = {"chat": "smollm2-135m-instruct", "embed": "all-minilm-l6-v2"}
DEMO_CAPACITY: Final = 1000
DEMO_VAULT: Final = "demo-vault"
OPENAI_USER: Final = "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd"
"""The built-in role Cognitive Services OpenAI User."""
VAULT_ADMINISTRATOR: Final = "00482a5a-887f-4fb3-b363-3b7fe8e74483"
"""The built-in role Key Vault Administrator."""
INSTALLATION: Final = "/providers/stockade.platform/installations/default"
INSTALLATION_TYPE: Final = "stockade.platform/installations"
ROLE_ASSIGNMENTS: Final = "Microsoft.Authorization/roleAssignments"
PROOF: Final = "stockade"
_AGENT: Final = "stockade-first-start"
_API_VERSION: Final = b"api-version=2025-09-01"

log = logging.getLogger(__name__)

Say = Callable[[str], None]


def ensure(settings: Settings, say: Say = lambda _: None, *, simulation: bool = False) -> Administrator:
    """Do whatever part of the first start has not been done, and return the administrator.

    say: told what is being done, once per step that does something. Fault(UNAVAILABLE) names what is in the way. No server may be running
    on the data directory. simulation: make one whose time can be moved; Fault(CONFLICT) when it is there and is none.
    """
    os.umask(0o077)
    private_folder(settings.data_dir)
    with locked(settings.data_dir / "setup.lock"):
        _sweep_temporary(settings)
        if not (settings.data_dir / "settings.toml").exists():
            write_private(settings.data_dir / "settings.toml", EXAMPLE_SETTINGS.encode())
        database = Database(settings.database)
        try:
            database.migrate()
            if _is_sealed(settings, database):
                # Nothing is made, and nothing looked at, until it has been unsealed.
                tls.prepare(settings)
                return Administrator.open(settings)
            if not settings.keys.broker_socket:
                _root_key(settings, database, say)
            _clock(settings, database, wanted=simulation)
        finally:
            database.close()
        tls.prepare(settings)
        base = foundation(settings)
        try:
            admin = _administrator(settings, base.database, base.root_key, base.clock.now(), say)
            _appoint_approver(base.database, base.clock.now())
            _demonstrate(base, admin, say)
            _demonstrate_vault(base, admin, say)
        finally:
            base.audit.close()
            base.database.close()
        return admin


def ensure_keys(settings: Settings, say: Say = lambda _: None) -> None:
    """Do what of the first start is the key broker's, where that has a data directory of its own. Done before the platform's own."""
    os.umask(0o077)
    private_folder(settings.data_dir)
    with locked(settings.data_dir / "setup.lock"):
        _sweep_temporary(settings)
        database = Database(settings.database)
        try:
            database.migrate()
            if not Opening(settings).starts_sealed:
                _root_key(settings, database, say)
        finally:
            database.close()


def _is_sealed(settings: Settings, database: Database) -> bool:
    with database.read() as reader:
        made = reader.get(INSTALLATION) is not None
    if settings.keys.broker_socket:
        elsewhere: Broker = BrokerClient(settings.broker_socket)
        return elsewhere.status().sealed
    return made and Opening(settings).starts_sealed


def _root_key(settings: Settings, database: Database, say: Say) -> None:
    """Make root key and platform keyring for documents that have none yet; refuse those that are not these documents' own."""
    with database.read() as reader:
        installation = reader.get(INSTALLATION)
    source, keyring = source_of(settings), settings.data_dir / KEYRING
    if installation is None and not keyring.exists() and isinstance(source, SharesSource):
        message = (
            'Make the platform with another root key (keys.root = "file") and hand that over to people afterwards: '
            "stockade keys recovery create, then stockade keys recovery verify --remove-file. docs/keys.md has the steps."
        )
        raise Fault(FaultKind.CONFLICT, message)
    if not source.exists() and installation is not None:
        message = (
            f"The root key {source.place} is missing, and the database is sealed with it. Put it back from your backup."
        )
        raise Fault(FaultKind.UNAVAILABLE, message)
    if not source.exists() and source.kept_here:
        say("making the root key")
        # The keyring first: a start that dies in between finds one that nothing opens and nothing depends on, and makes both again.
        made = RootKey(Secret(os.urandom(ROOT_KEY_BYTES)))
        write_durably(keyring, Keyring.new().sealed(sealing_key(made)), replace=True)
        source.put(made)
    root_key = source.read()
    if root_key is None:
        raise Fault(FaultKind.UNAVAILABLE, "The platform is sealed.")
    if installation is None:
        if not keyring.exists() and not isinstance(source, FileSource):
            write_durably(keyring, Keyring.new().sealed(sealing_key(root_key)), replace=False)
        return
    proof = base64.b64decode(installation.private["proof"])
    if keyring.exists():
        _prove(Keyring.open(keyring, sealing_key(root_key)).keys, proof, f"The platform keyring {keyring}")
    else:  # from before there was one, or lost: only the first has documents that the root key itself opens
        _prove(root_key, proof, f"There is no platform keyring at {keyring}, and the root key {source.place}")


def _prove(keys: RootKey, proof: bytes, what: str) -> None:
    try:
        keys.unseal(proof, INSTALLATION)
    except Fault as failure:
        raise Fault(FaultKind.UNAVAILABLE, f"{what} is not the one that the database is sealed with.") from failure


def _clock(settings: Settings, database: Database, *, wanted: bool) -> None:
    """Hold time to what the installation was made with: nobody can make a platform's time movable later, and a rehearsal stays one."""
    file = settings.data_dir / CLOCK_FILE
    with database.read() as reader:
        installation = reader.get(INSTALLATION)
    simulated = wanted if installation is None else installation.body.get("simulation") is True
    if wanted and not simulated:
        message = (
            f"{settings.data_dir} was not made with --simulation, and its time cannot be made movable afterwards. "
            "Make another: stockade up --simulation --data-dir ANOTHER"
        )
        raise Fault(FaultKind.CONFLICT, message)
    if simulated:
        SimulatedClock.create(file)
    elif file.exists() and installation is not None:
        message = (
            f"{file} moves the time of rehearsals, and this platform was not made with --simulation: remove the file."
        )
        raise Fault(FaultKind.CONFLICT, message)


def _administrator(settings: Settings, database: Database, root_key: RootKey, now: float, say: Say) -> Administrator:
    """Return the administrator whose credential is on disk, making the installation, or a lost credential, anew."""
    with database.read() as reader:
        installation = reader.get(INSTALLATION)
        if installation is not None and _credential_on_disk(settings, reader, installation.body):
            return Administrator.open(settings)
    with database.write() as writer:
        if installation is None:
            say("making the tenant, the subscription and the administrator")
            admin = _install(settings, writer, root_key, now)
        else:
            log.warning("the administrator's credential is missing; making a new one")
            admin = _reissue(settings, writer, root_key, installation.body, now)
        admin.save(settings)
    return Administrator.open(settings)


def _install(settings: Settings, writer: Writer, root_key: RootKey, now: float) -> Administrator:
    directory = Directory(root_key, _Frozen(now))
    tenant_id = tenant.create_tenant(writer, settings.names.subscription_name)
    subscription_id = new_guid()
    create_subscription(writer, subscription_id, tenant_id, settings.names.subscription_name)
    principal, secret = directory.create_application(writer, "administrator")
    directory.machine_identity(writer)
    KeyRing(root_key).ensure(writer, now)
    _appoint(writer, subscription_id, principal.object_id, now)
    state = {
        "name": "default",
        "tenantId": tenant_id,
        "subscriptionId": subscription_id,
        "resourceGroup": settings.names.resource_group,
        "administrator": principal.object_id,
        "demonstration": "wanted",
        "approver": principal.object_id,
        "lockboxAdministrator": principal.object_id,
        "simulation": (settings.data_dir / CLOCK_FILE).exists(),
    }
    proof = base64.b64encode(root_key.seal(Secret(PROOF), INSTALLATION)).decode()
    writer.put(INSTALLATION, INSTALLATION_TYPE, state, {"proof": proof})
    assert principal.app_id is not None
    return Administrator(
        tenant_id, subscription_id, settings.names.resource_group, principal.app_id, principal.object_id, secret
    )


def _appoint(writer: Writer, subscription_id: str, principal_id: str, now: float) -> None:
    """Make a principal both who owns the subscription and who decides on what has to be asked for: on one machine they are one."""
    for role in (OWNER, ACCESS_APPROVER):
        assign_role(writer, f"/subscriptions/{subscription_id}", role, principal_id, "ServicePrincipal", now)
    assign_role(writer, "/", LOCKBOX_ADMINISTRATOR, principal_id, "ServicePrincipal", now)


def _appoint_approver(database: Database, now: float) -> None:
    """Give a platform of an older version somebody who decides, once: whom the operator dismisses later stays dismissed."""
    with database.read() as reader:
        installation = reader.get(INSTALLATION)
    if installation is None or {"approver", "lockboxAdministrator"} <= installation.body.keys():
        return
    with database.write() as writer:
        current = writer.get(INSTALLATION)
        assert current is not None
        who, scope = current.body["administrator"], f"/subscriptions/{current.body['subscriptionId']}"
        for name, place, role in (
            ("approver", scope, ACCESS_APPROVER),
            ("lockboxAdministrator", "/", LOCKBOX_ADMINISTRATOR),
        ):
            if name not in current.body:
                assign_role(writer, place, role, who, "ServicePrincipal", now)
        writer.put(INSTALLATION, INSTALLATION_TYPE, {"approver": who, "lockboxAdministrator": who, **current.body})


def _reissue(
    settings: Settings, writer: Writer, root_key: RootKey, state: Mapping[str, Any], now: float
) -> Administrator:
    """Give the administrator a new secret, or the installation a new administrator. Whoever has the data directory may: it holds the root key."""
    directory = Directory(root_key, _Frozen(now))
    principal = directory.get(writer, state["administrator"])
    if principal is None or principal.app_id is None or not principal.enabled:
        principal, secret = directory.create_application(writer, "administrator")
        _appoint(writer, state["subscriptionId"], principal.object_id, now)
        writer.put(INSTALLATION, INSTALLATION_TYPE, {**state, "administrator": principal.object_id})
    else:
        held = directory.secrets(writer, principal.object_id)
        if len(held) > 1:  # the lost one, most likely
            directory.remove_credential(
                writer, principal.object_id, max(held, key=lambda entry: entry.created_at).key_id
            )
        secret, _ = directory.add_secret(writer, principal.object_id, name="reissued")
    assert principal.app_id is not None
    return Administrator(
        state["tenantId"],
        state["subscriptionId"],
        state["resourceGroup"],
        principal.app_id,
        principal.object_id,
        secret,
    )


def _credential_on_disk(settings: Settings, reader: Reader, state: Mapping[str, Any]) -> bool:
    try:
        values = json.loads(administrator.file_of(settings).read_bytes())
    except (OSError, ValueError):
        return False
    found = reader.get(f"/providers/stockade.directory/principals/{state['administrator']}")
    return (
        isinstance(values, dict)
        and found is not None
        and found.body["enabled"] is True
        and values.get("tenantId") == state["tenantId"]
        and values.get("clientId") == found.body["appId"]
        and bool(values.get("clientSecret"))
    )


def _demonstrate(base: Foundation, admin: Administrator, say: Say) -> None:
    """Make the resource group and the demonstration account, once: what the operator deletes later stays deleted."""
    with base.database.read() as reader:
        installation = reader.get(INSTALLATION)
    assert installation is not None
    if installation.body["demonstration"] != "wanted":
        return
    say(f"making the account {DEMO_ACCOUNT} with the deployments {' and '.join(DEMO_DEPLOYMENTS)}")
    arm = _InProcess(base, admin)
    location = base.settings.names.location
    group = f"/subscriptions/{admin.subscription_id}/resourceGroups/{admin.resource_group}"
    account = f"{group}/providers/Microsoft.CognitiveServices/accounts/{DEMO_ACCOUNT}"
    arm.ensure(group, {"location": location})
    made = arm.ensure(
        account,
        {
            "kind": "OpenAI",
            "sku": {"name": "S0"},
            "location": location,
            "identity": {"type": "SystemAssigned"},
            "properties": {"customSubDomainName": DEMO_ACCOUNT, "publicNetworkAccess": "Enabled"},
        },
    )
    for name, model in DEMO_DEPLOYMENTS.items():
        arm.ensure(
            f"{account}/deployments/{name}",
            {
                "sku": {"name": "Standard", "capacity": DEMO_CAPACITY},
                "properties": {"model": {"format": "OpenAI", "name": model, "version": "1"}},
            },
        )
    arm.assign(account, OPENAI_USER, made["identity"]["principalId"])
    _note(base.database, demonstration="made", vault="wanted")


def _demonstrate_vault(base: Foundation, admin: Administrator, say: Say) -> None:
    """Make the demonstration vault, once. Installations from before there were vaults get it with their next start.

    There it is not insisted on: what the operator has since made of the group, the name or the administrator's rights must not keep the platform from
    starting.
    """
    with base.database.read() as reader:
        installation = reader.get(INSTALLATION)
    assert installation is not None
    state = installation.body.get("vault", "unknown")
    if state == "made":
        return
    arm = _InProcess(base, admin)
    location = base.settings.names.location
    group = f"/subscriptions/{admin.subscription_id}/resourceGroups/{admin.resource_group}"
    vault = f"{group}/providers/Microsoft.KeyVault/vaults/{DEMO_VAULT}"
    if arm.exists(group):
        say(f"making the key vault {DEMO_VAULT}")
        properties = {
            "tenantId": admin.tenant_id,
            "sku": {"family": "A", "name": "standard"},
            "enableRbacAuthorization": True,
            "enablePurgeProtection": True,
        }
        try:
            arm.ensure(vault, {"location": location, "properties": properties})
            arm.assign(vault, VAULT_ADMINISTRATOR, admin.object_id)
        except Fault as fault:
            if state == "wanted":
                raise
            log.warning("there is no demonstration vault: %s", fault.message)
    _note(base.database, vault="made")


def _note(database: Database, **state: str) -> None:
    with database.write() as writer:
        current = writer.get(INSTALLATION)
        assert current is not None
        writer.put(INSTALLATION, INSTALLATION_TYPE, {**current.body, **state})


class _InProcess:
    """Management requests without a network in between: the same token, the same checks, the same audit records."""

    def __init__(self, base: Foundation, admin: Administrator) -> None:
        self._subscription = admin.subscription_id
        self._pipeline: Pipeline = management_pipeline(base, management_platform(base))
        issued = TokenService(identity_services(base)).issue_to_client(
            ClientCredentials(
                admin.tenant_id, admin.client_id, "https://management.azure.com", secret=admin.client_secret
            ),
            Caller("", _AGENT, new_guid()),
        )
        self._token = issued.token

    def ensure(self, resource: str, body: Mapping[str, Any]) -> Any:
        """Return the resource, creating it when it is not there."""
        status, found = self._send("GET", resource, {})
        if status == 404:
            status, found = self._send("PUT", resource, body)
        if status >= 400:
            error = found.get("error", {}) if isinstance(found, dict) else {}
            raise Fault(
                FaultKind.INTERNAL, f"The first start could not make {resource}: {error.get('message', status)}"
            )
        return found

    def exists(self, resource: str) -> bool:
        """Say whether a resource is there."""
        return self._send("GET", resource, {})[0] < 400

    def assign(self, scope: str, role: str, principal_id: str) -> None:
        """Assign a built-in role to a service principal."""
        definition = f"/subscriptions/{self._subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}"
        # A name that follows from what it says, so that doing it twice is doing it once.
        name = uuid.uuid5(uuid.UUID(self._subscription), f"{scope} {role}".lower())
        properties = {
            "roleDefinitionId": definition,
            "principalId": principal_id,
            "principalType": "ServicePrincipal",
        }
        self.ensure(f"{scope}/providers/{ROLE_ASSIGNMENTS}/{name}", {"properties": properties})

    def _send(self, method: str, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {self._token.reveal_text()}", "user-agent": _AGENT}
        head = Head(method, path.encode(), _API_VERSION, headers, new_guid())
        try:
            admitted = self._pipeline.admit(head)
        except Fault as fault:
            reply = self._pipeline.refuse(head, fault)
        else:
            reply = self._pipeline.answer(admitted, dict(body))
        return reply.status, reply.body


class _Frozen:
    """One reading of the clock for everything that is made together."""

    def __init__(self, now: float) -> None:
        self._now = now

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now


def _sweep_temporary(settings: Settings) -> None:
    """Remove what an interrupted start left half written."""
    for folder in (settings.data_dir, settings.ca_file.parent, settings.run_dir):
        for path in folder.glob(".*.*") if folder.is_dir() else ():
            # `write_private` names its temporary files `.<name>.<random>`; only ours, and only files.
            if path.is_file() and any(path.name.startswith(f".{name}.") for name in _WRITTEN):
                path.unlink(missing_ok=True)


_WRITTEN: Final = (
    "root.key",
    "platform.keys",
    "root.sealed",
    "recovery.json",
    "admin.json",
    "settings.toml",
    "ca.key",
    "ca.pem",
    "server.key",
    "server.pem",
    "bundle.pem",
    "tls.pem",
    "serve.json",
)
