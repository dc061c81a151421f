"""Azure's own clients pointed at a running server, and what tests make with them: groups, accounts, principals, assignments.

Names are new each time, so that tests on one server do not meet.
"""

from __future__ import annotations

import http.client
import json
import ssl
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from azure.identity import ClientSecretCredential
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.cognitiveservices import CognitiveServicesManagementClient
from azure.mgmt.msi import ManagedServiceIdentityClient
from azure.mgmt.resource.resources import ResourceManagementClient

from tests.live import Live

API_VERSION = "2024-10-21"
DATA_SCOPE = "https://cognitiveservices.azure.com/.default"
ARM_SCOPE = "https://management.azure.com/.default"
MODELS = {"chat": "smollm2-135m-instruct", "embed": "all-minilm-l6-v2"}
OPENAI_USER = "Cognitive Services OpenAI User"
TIMEOUT_S = 30


@dataclass(frozen=True)
class Principal:
    """A principal as `stockade identity create` answers with it."""

    client_id: str
    client_secret: str
    object_id: str


@dataclass(frozen=True)
class Account:
    """An account and what reaches it."""

    id: str
    name: str
    group: str
    endpoint: str
    key1: str
    key2: str


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def new_name(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


class Azure:
    """The administrator's clients, and what is made with them."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.tenant = live.environment["STOCKADE_TENANT"]
        self.subscription = live.environment["STOCKADE_SUBSCRIPTION"]
        self.location = live.environment["STOCKADE_LOCATION"]
        self.group = live.environment["STOCKADE_RESOURCE_GROUP"]
        self._options = {"base_url": live.environment["STOCKADE_ARM"], "credential_scopes": [ARM_SCOPE]}

    # Clients

    def credential(self, client_id: str, client_secret: str) -> ClientSecretCredential:
        authority = self.live.environment["STOCKADE_AUTHORITY"]
        return ClientSecretCredential(
            self.tenant, client_id, client_secret, authority=authority, disable_instance_discovery=True
        )

    @cached_property
    def administrator(self) -> ClientSecretCredential:
        known = self.live.environment
        return self.credential(known["STOCKADE_CLIENT_ID"], known["STOCKADE_CLIENT_SECRET"])

    @cached_property
    def cognitive(self) -> CognitiveServicesManagementClient:
        return self.cognitive_as(self.administrator)

    def cognitive_as(self, credential: Any) -> CognitiveServicesManagementClient:
        return CognitiveServicesManagementClient(credential, self.subscription, **self._options)

    @cached_property
    def authorization(self) -> AuthorizationManagementClient:
        return AuthorizationManagementClient(self.administrator, self.subscription, **self._options)

    @cached_property
    def resources(self) -> ResourceManagementClient:
        return ResourceManagementClient(self.administrator, self.subscription, **self._options)

    @cached_property
    def identities(self) -> ManagedServiceIdentityClient:
        return ManagedServiceIdentityClient(self.administrator, self.subscription, **self._options)

    # What tests make

    def new_group(self) -> str:
        name = new_name("group")
        self.resources.resource_groups.create_or_update(name, {"location": self.location})
        return name

    def new_account(
        self,
        *,
        group: str | None = None,
        kind: str = "OpenAI",
        sku: str = "S0",
        subdomain: bool = True,
        capacities: Mapping[str, int] | None = None,
        **properties: Any,
    ) -> Account:
        """Create an account.

        capacities: which of the deployments `chat` and `embed` it gets, and how large; properties: as Azure spells them.
        """
        name, group = new_name("account"), group or self.group
        if subdomain:
            properties["customSubDomainName"] = name
        made = self.cognitive.accounts.begin_create(
            group, name, {"kind": kind, "sku": {"name": sku}, "location": self.location, "properties": properties}
        ).result()
        for deployment, capacity in (capacities or {}).items():
            self.deploy(group, name, deployment, capacity)
        keys = self.cognitive.accounts.list_keys(group, name)
        return Account(made.id, name, group, made.properties.endpoint, keys.key1, keys.key2)

    def deploy(self, group: str, account: str, deployment: str, capacity: int) -> None:
        model = {"format": "OpenAI", "name": MODELS[deployment], "version": "1"}
        body = {"sku": {"name": "Standard", "capacity": capacity}, "properties": {"model": model}}
        self.cognitive.deployments.begin_create_or_update(group, account, deployment, body).result()

    def new_principal(self) -> Principal:
        made = json.loads(self.live.stockade("identity", "create", new_name("app"), "--format", "json"))
        return Principal(made["clientId"], made["clientSecret"], made["objectId"])

    def token(self, principal: Principal, scope: str = DATA_SCOPE) -> str:
        return self.credential(principal.client_id, principal.client_secret).get_token(scope).token

    def role_id(self, name: str, scope: str) -> str:
        [role] = self.authorization.role_definitions.list(scope, filter=f"roleName eq '{name}'")
        assert role.id is not None
        return str(role.id)

    def assign(self, role: str, scope: str, object_id: str, principal_type: str = "ServicePrincipal") -> str:
        """Assign a role by name; return the assignment's id."""
        body = {
            "role_definition_id": self.role_id(role, scope),
            "principal_id": object_id,
            "principal_type": principal_type,
        }
        made = self.authorization.role_assignments.create(scope, str(uuid.uuid4()), body)
        assert made.id is not None
        return str(made.id)

    # Plain HTTPS, for what no client can be brought to say

    @cached_property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.live.environment["STOCKADE_CA"])

    def connection(self, url: str) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(urlsplit(url).netloc, context=self.trust, timeout=TIMEOUT_S)

    def get(
        self, url: str, headers: Mapping[str, str] | None = None, over: http.client.HTTPSConnection | None = None
    ) -> Answer:
        return self.send("GET", url, headers, over=over)

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        over: http.client.HTTPSConnection | None = None,
    ) -> Answer:
        """Send one request, over a connection of its own unless one is given; the body as JSON."""
        connection = over or self.connection(url)
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        payload = None if body is None else json.dumps(body).encode()
        sent = {**({"content-type": "application/json"} if payload is not None else {}), **(headers or {})}
        try:
            connection.request(method, path, payload, sent)
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, named, response.read())
        finally:
            if over is None:
                connection.close()

    def models(
        self, account: Account, headers: Mapping[str, str], over: http.client.HTTPSConnection | None = None
    ) -> Answer:
        """Ask an account for its models: the cheapest question that needs a credential and a data action."""
        return self.get(models_url(account.endpoint), headers, over)

    def arm(
        self, method: str, path: str, body: Any = None, api_version: str = "2022-04-01", token: str | None = None
    ) -> Answer:
        bearer = token or self.administrator.get_token(ARM_SCOPE).token
        url = f"{self.live.environment['STOCKADE_ARM']}{path}?api-version={api_version}"
        return self.send(method, url, {"authorization": f"Bearer {bearer}"}, body)

    # The processes behind it

    def workers_of(self, connections: list[http.client.HTTPSConnection]) -> set[int]:
        """Return the processes that hold the other ends of open connections (Linux's /proc tells)."""
        ends = {(f"{each.port:04X}", f"{each.sock.getsockname()[1]:04X}") for each in connections}
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        inodes = {
            f"socket:[{line[9]}]" for line in lines if (line[1].rpartition(":")[2], line[2].rpartition(":")[2]) in ends
        }
        return {pid for pid in descendants(self.live.pid) if inodes & _descriptors(pid)}


def models_url(endpoint: str) -> str:
    return f"{endpoint}openai/models?api-version={API_VERSION}"


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def descendants(pid: int) -> dict[int, str]:
    """Return the processes below a process, and each one's command line."""
    parents, lines = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            lines[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended meanwhile
            continue
    found: dict[int, str] = {}
    wanted = {pid}
    while wanted:
        wanted = {child for child, parent in parents.items() if parent in wanted and child not in found}
        found |= {child: lines.get(child, "") for child in wanted}
    return found


def _descriptors(pid: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(str(entry.readlink()))
        except OSError:
            continue
    return found
