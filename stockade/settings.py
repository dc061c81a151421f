"""Configuration. Every field has a safe default; sources are file < environment < flag.

The settings file is `<data dir>/settings.toml`; `stockade up` writes a commented example on first start. Secrets never stand in it: an
upstream's credential is named by environment variable or file.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from datetime import date
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec
import platformdirs

DATA_DIR_VARIABLE = "STOCKADE_DATA_DIR"
OVERRIDES_VARIABLE = "STOCKADE_OVERRIDES"
"""JSON of the settings given by flags; how the supervisor passes them to its children."""

_SINK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
MAX_SOCKET_DIR_BYTES = 60
"""Leaves room for a file name below the 100 bytes that every system takes."""


Port: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
Size: TypeAlias = Annotated[int, msgspec.Meta(gt=0)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the listeners stand. Plain HTTP exists on the metadata port alone, and only on loopback."""

    host: str = "127.0.0.1"
    data_port: Port = 8443
    control_port: Port = 8444
    metadata_port: Port = 8445
    websocket_port: Port = 8447
    """The data plane's WebSockets; 0: none. `gateway/websocket.py` says why they have a port of their own."""
    workers: Count = 0
    """Data-plane worker processes; 0 means one per core, at most 4."""
    private_port: Port = 8446
    """The port of every private endpoint, on an address of its own."""
    private_networks: tuple[str, ...] = ("127.0.0.0/8",)
    """The networks of this machine in which private endpoints may stand; an endpoint with another address is never listened for."""


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The operator's own certificate (PEM chain and key). Empty: one issued by the local CA."""

    certificate: str = ""
    key: str = ""


class Names(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the platform calls itself. `domain` empty: addresses are `https://localhost:PORT/...` (path style)."""

    domain: str = ""
    location: str = "local"
    resource_group: str = "stockade"
    subscription_name: str = "Stockade"


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on what callers may send and how long they may take. Bytes and seconds."""

    max_body_bytes: Size = 32 * 1024 * 1024
    max_header_bytes: Size = 64 * 1024
    header_timeout_s: Seconds = 10.0
    body_timeout_s: Seconds = 30.0
    request_timeout_s: Seconds = 600.0
    upstream_connect_timeout_s: Seconds = 5.0
    websocket_timeout_s: Seconds = 3600.0
    websocket_idle_timeout_s: Seconds = 900.0
    websocket_message_bytes: Size = 4 * 1024 * 1024
    """Of one message, in either direction. A session holds a few of them in memory at most."""
    websocket_sessions: Size = 256
    """Open at once, per data-plane worker."""
    drain_timeout_s: Size = 30
    soft_delete_hours: Count = 48
    key_rotation_guard_minutes: Count = 0
    """Refuse, unless forced, to regenerate a key used within so many minutes; 0 leaves Azure's behaviour to ARM callers."""


class Egress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The one way out: what is fetched on behalf of a request, from where and how much. Bytes and seconds."""

    allowed_networks: tuple[str, ...] = ()
    """Networks that may be connected to although they are not public. Engines that the settings name need no entry."""
    allow_http: bool = False
    """Fetch over http too, where an account's list allows the host; without it only where the list entry itself names `http://`."""
    dns_servers: tuple[str, ...] = ()
    """Name servers to ask (`192.0.2.53`, `127.0.0.1:5353`, `[2001:db8::53]:53`); empty: as this system resolves names."""
    ca_file: str = ""
    """The authorities that servers are believed under, PEM; empty: the system's."""
    max_bytes: Size = 20 * 1024 * 1024
    """Of one content. All contents of one request also have to fit into what its operation takes as a body."""
    max_redirects: Count = 3
    resolve_timeout_s: Seconds = 3.0
    connect_timeout_s: Seconds = 3.0
    fetch_timeout_s: Seconds = 10.0
    """For one content, waiting, redirects and all."""
    max_per_request: Size = 50
    max_concurrent: Size = 32
    """Fetches at a time in one worker; as many again may wait, others are refused."""
    max_concurrent_per_account: Size = 8


class ConsoleClient(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The console's own registration at an issuer, so that people sign in there. Its redirect URI is `<console>/console/sign-in/<name>`."""

    name: str
    """On the sign-in page and in the redirect URI: lower-case letters, digits and `-`."""
    client_id: str
    scope: str = "openid"
    """What is asked for, `openid` and what makes the access token one for this platform (`openid api://stockade/.default`)."""
    credential_env: str = ""
    credential_file: str = ""
    """Of its secret, where it is a client that has one."""


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A further OIDC issuer to trust: a real Entra tenant, Keycloak, any other."""

    issuer: str
    jwks_url: str = ""
    """Empty: found by OIDC discovery below the issuer."""
    audiences: tuple[str, ...] = ()
    """Empty: the AI services' and ARM's audiences."""
    object_id_claim: str = "oid"
    app_id_claim: str = "appid"
    tenant_id: str = ""
    """The tenant its principals are counted to; empty: this platform's."""
    ca_file: str = ""
    """The authority of its https certificate, PEM; empty: the system's."""
    refresh_s: Annotated[float, msgspec.Meta(ge=1)] = 300.0
    """How often its keys are fetched. A token with an unknown key brings the next fetch forward, to half a minute after the last."""
    keys_max_age_s: Annotated[float, msgspec.Meta(ge=4)] = 24 * 3600.0
    """How long its keys are trusted while it does not answer; after that its tokens are refused."""
    console: ConsoleClient | None = None
    """None: nobody signs in to the console with it."""


class Upstream(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A server of the operator's.

    A model's speaks the OpenAI API, and `url` includes the path below which `/chat/completions` lies, e.g. `http://127.0.0.1:11434/v1`; a
    service's speaks that service's own API (an Azure AI container, say, or Azure itself), and `url` is what stands before its paths.
    """

    url: str
    model: str = ""
    """The model's name there; empty: as in the catalogue."""
    credential_env: str = ""
    credential_file: str = ""
    credential_header: str = "Authorization"
    """`Authorization` sends `Bearer <credential>`; any other header sends the bare value (`api-key` for real Azure OpenAI)."""
    ca_file: str = ""
    timeout_s: Seconds = 300.0


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model of the catalogue."""

    name: str
    version: str = "1"
    format: str = "OpenAI"
    capabilities: tuple[str, ...] = ("chatCompletion",)
    """Of `chatCompletion`, `completion`, `embeddings`, `realtime` (only with an upstream)."""
    upstream: Upstream | None = None
    """None: the built-in engine of that name."""


class Service(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What answers for one of the AI services other than Azure OpenAI: `face`, `speech`, `translator`, ... (docs/services.md has all)."""

    name: str
    upstream: Upstream


class Sink(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A place that audit records are sent on to. `docs/audit.md` has an example of each type.

    Diagnostic settings name it `/providers/Stockade.Audit/sinks/<name>`. everything: it gets every record, without any diagnostic setting.
    """

    name: str
    type: Literal["file", "syslog", "http", "otlp"]
    url: str
    """`file:///var/log/stockade`, `tls://syslog.example:6514`, `https://collector.example/in`, `https://otel.example:4318/v1/logs`."""
    everything: bool = False
    credential_env: str = ""
    credential_file: str = ""
    """Of what is sent as `Authorization: Bearer ...` (http, otlp)."""
    ca_file: str = ""
    timeout_s: Seconds = 5.0


class Witness(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where signed tree heads are pinned, so that a log that was rolled back is noticed: a file elsewhere, or an https address that takes POST."""

    url: str
    credential_env: str = ""
    credential_file: str = ""
    ca_file: str = ""
    timeout_s: Seconds = 5.0


class Audit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The audit log: a tree per subscription and one for the platform, and a plain copy beside it (`mirror`), rotated by size."""

    within_s: Seconds = 1.0
    """Within which a record is on disk that is not there before the reply (allowed, unprivileged requests)."""
    buffer_bytes: Size = 256 * 1024 * 1024
    """Records on disk that have not been put into the log yet; above it requests are refused."""
    head_every_s: Seconds = 10.0
    """How often the newest tree heads are signed."""
    keep_days: Count = 400
    """How long records are kept where a subscription says nothing; 0: for good."""
    segment_bytes: Size = 64 * 1024 * 1024
    mirror: str = ""
    """The folder of the copy; empty: `audit` in the data directory. On another disk it outlives a full one."""
    rotate_bytes: Size = 64 * 1024 * 1024
    keep_files: Size = 20
    """Of the copy."""
    sinks: tuple[Sink, ...] = ()
    witnesses: tuple[Witness, ...] = ()


class Lockbox(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How operators ask for customers' content. What approvers have signed decides; this only makes it narrower."""

    request_days: Annotated[float, msgspec.Meta(gt=0, le=4)] = 4.0
    """After so long an unanswered request lapses."""
    max_hours: Annotated[float, msgspec.Meta(gt=0, le=8)] = 8.0
    """The longest access that can be asked for."""
    sign_in_s: Seconds = 900.0
    """How old an operator's sign-in may be when a request is made and when it is used."""
    require_mfa: bool = False
    """Refuse operators whose token does not say that several factors were used (`amr`), whoever issued it. Without this, only where the
    issuer's tokens say how people signed in."""
    review: bool = False
    """A second operator (role `Stockade Lockbox Reviewer`) looks at each request before the customer is asked."""
    break_glass: bool = False
    """Whether statements' break-glass clauses are honoured on this platform at all."""


class Decisions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Past decisions, for `stockade explain`, `what-if` and `report`. All of it is bounded; the oldest goes first."""

    keep_per_account: Size = 500
    keep: Size = 20_000
    """Over all accounts."""
    keep_days: Size = 30
    """How long it is counted what controls refused or would have refused."""
    findings_per_account: Size = 2_000
    """Different callers and subjects counted of one account; further ones are counted together."""
    findings: Size = 100_000


class Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A place other than the platform's own software where keys are held. `docs/keys.md` has an example of each type."""

    name: str
    """What vaults and the root key name it by; `software` is taken."""
    type: Literal["pkcs11", "azure-key-vault", "transit", "aws-kms"]
    url: str = ""
    """Of the vault or service; of PKCS#11 the module's file (`/usr/lib/softhsm/libsofthsm2.so`)."""
    place: str = ""
    """The token's label (PKCS#11), the mount (transit) or the region (AWS)."""
    credential_env: str = ""
    credential_file: str = ""
    """Where the PIN, token or secret stands; empty: as the maker's client finds its own."""
    ca_file: str = ""
    timeout_s: Seconds = 5.0


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the root key comes from, who else holds keys, and how long keys are lent."""

    root: Literal["file", "environment", "credential", "provider", "shares"] = "file"
    """`file`: root.key in the data directory. `environment` and `credential` (systemd's LoadCredential) are named by `root_name`; `provider`
    unwraps root.sealed with the key `root_name` of the provider `root_provider`; `shares`: people unseal it."""
    root_name: str = ""
    root_provider: str = ""
    providers: tuple[Provider, ...] = ()
    lease_s: Seconds = 5.0
    """How long a process may use a key it was lent before it has to ask again."""
    broker_socket: str = ""
    """Of a key broker that something else starts (`stockade broker`), as a user of its own; empty: the platform starts its own."""
    broker_peers: tuple[str, ...] = ()
    """For `stockade broker`: the system's users, beside its own, that may ask it: the platform's."""


class Vault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Key vaults."""

    default: str = "demo-vault"
    """The vault that answers where the address names none, `https://localhost:PORT/keys/...`."""
    provider: str = "software"
    """Who holds keys of types RSA and EC."""
    hsm_provider: str = "software"
    """Who holds RSA-HSM and EC-HSM keys of premium vaults. `software` is for trying: such keys say `hsmPlatform` 0."""
    transactions_per_10_s: Size = 4000
    """Per vault; above it 429."""


class Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What accounts keep: where, how much and how long. Always encrypted above the store."""

    url: str = ""
    """Empty: below the data directory. Else `s3://bucket/prefix`, `az://container/prefix`, `gs://bucket/prefix` or `file:///path`."""
    endpoint: str = ""
    """Of an S3 or Azure Blob server of one's own; empty: the maker's."""
    region: str = ""
    credential_env: str = ""
    credential_file: str = ""
    """JSON with the store's own option names (`access_key_id`, `account_key`, ...); empty: as its client finds its own."""
    ca_file: str = ""
    timeout_s: Seconds = 30.0
    max_file_bytes: Size = 1024 * 1024 * 1024
    max_account_bytes: Size = 100 * 1024 * 1024 * 1024
    files_days: Count = 0
    """How long files are kept; 0 until somebody deletes them."""
    batches_days: Count = 30
    responses_days: Count = 30
    completions_days: Count = 30


class Jobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Work that goes on without a caller. Its state is in `jobs.db` or, with PostgreSQL, in a schema of the platform's database."""

    concurrency: Size = 2
    """Jobs of one kind at a time on one node: batches do not keep anything else waiting."""
    lines_at_a_time: Size = 4
    """Requests of one batch under way at once."""
    max_batch_lines: Size = 100_000


class Mail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How notices are mailed. host empty: they are not."""

    host: str = ""
    port: Port = 587
    tls: Literal["starttls", "tls", "none"] = "starttls"
    sender: str = ""
    user: str = ""
    credential_env: str = ""
    credential_file: str = ""
    ca_file: str = ""
    timeout_s: Seconds = 10.0


class Notices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is told of what waits for a person, beside the person it is about."""

    mail: Mail = Mail()
    operators: tuple[str, ...] = ()
    """Addresses of e-mail that hear of new requests."""
    webhook: str = ""
    """An https address that gets every notice as JSON, signed with `webhook_secret_*` (HMAC-SHA-256, header `x-stockade-signature`)."""
    webhook_secret_env: str = ""
    webhook_secret_file: str = ""
    webhook_ca_file: str = ""


class Access(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What has to be asked for: the SKU E0 and its queue, and roles for a while."""

    e0_capacity: Count = 100
    """E0 accounts of one kind per region."""
    answer_days: tuple[int, int] = (3, 5)
    """Business days within which requests are answered; after the second one a request is overdue."""
    holidays: tuple[str, ...] = ()
    """Days that are no business days, beside Saturdays and Sundays: `2026-12-25`."""
    role_max_hours: Annotated[float, msgspec.Meta(gt=0, le=24)] = 8.0
    """The longest for which a role can be asked for (`stockade access request`)."""


class Metadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The managed-identity endpoint."""

    user_assigned: tuple[str, ...] = ()
    """ARM ids of the user-assigned identities that programs on this machine may use without a secret."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it. `data_dir` is filled in by `load`."""

    data_dir: Path = Path()
    database_url: str = ""
    """Empty: SQLite in the data directory."""
    strict_parity: bool = False
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of proxies whose `X-Forwarded-For` is believed."""
    listen: Listen = Listen()
    tls: Tls = Tls()
    names: Names = Names()
    limits: Limits = Limits()
    egress: Egress = Egress()
    audit: Audit = Audit()
    decisions: Decisions = Decisions()
    keys: Keys = Keys()
    vault: Vault = Vault()
    content: Content = Content()
    jobs: Jobs = Jobs()
    access: Access = Access()
    lockbox: Lockbox = Lockbox()
    notices: Notices = Notices()
    metadata: Metadata = Metadata()
    issuers: tuple[Issuer, ...] = ()
    models: tuple[Model, ...] = ()
    """Added to the built-in models; an entry of the same name and version replaces one."""
    services: tuple[Service, ...] = ()

    @property
    def run_dir(self) -> Path:
        """Sockets and the generation cell."""
        return self.data_dir / "run"

    @property
    def socket_dir(self) -> Path:
        """Where UNIX sockets lie: the run folder, unless its path is too long for a socket's address (108 bytes).

        Then a private folder of this user and data directory among the temporary files; `serve/files.py` makes it and checks its owner.
        """
        if len(os.fsencode(self.run_dir)) <= MAX_SOCKET_DIR_BYTES:
            return self.run_dir
        name = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"stockade-{os.geteuid()}-{name}"

    @property
    def supervisor_socket(self) -> Path:
        """Where a worker asks for a built-in engine to be started."""
        return self.socket_dir / "supervisor.sock"

    @property
    def audit_socket(self) -> Path:
        """Where the audit process says which place a record has in its log."""
        return self.socket_dir / "audit.sock"

    @property
    def broker_socket(self) -> Path:
        """Where the key broker listens."""
        return Path(self.keys.broker_socket) if self.keys.broker_socket else self.socket_dir / "keys" / "broker.sock"

    def vault_uri(self, name: str) -> str:
        """Return a key vault's address as things are configured, lower case and without a trailing slash."""
        domain = self.names.domain or "stockade.localhost"
        return f"https://{name.lower()}.vault.{domain}{_port(self.listen.control_port)}"

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir / 'stockade.db'}"

    @property
    def root_key_file(self) -> Path:
        return self.data_dir / "root.key"

    @property
    def ca_file(self) -> Path:
        """The local CA's certificate alone."""
        return self.data_dir / "tls" / "ca.pem"

    @property
    def ca_bundle_file(self) -> Path:
        """The system's CAs and ours."""
        return self.data_dir / "tls" / "bundle.pem"

    @property
    def certificate_file(self) -> Path:
        return Path(self.tls.certificate) if self.tls.certificate else self.data_dir / "tls" / "server.pem"

    @property
    def certificate_key_file(self) -> Path:
        return Path(self.tls.key) if self.tls.key else self.data_dir / "tls" / "server.key"

    @property
    def audit_dir(self) -> Path:
        return self.data_dir / "audit"

    @property
    def delivery_dir(self) -> Path:
        """How far sinks and witnesses of the audit log have got."""
        return self.audit_dir / "delivery"

    @property
    def mirror_dir(self) -> Path:
        """Where the copy of the audit logs lies."""
        return Path(self.audit.mirror) if self.audit.mirror else self.audit_dir

    @property
    def arm_endpoint(self) -> str:
        """ARM's address as clients on this machine reach it, without a trailing slash."""
        if self.names.domain:
            return f"https://management.{self.names.domain}{_port(self.listen.control_port)}"
        return f"https://localhost:{self.listen.control_port}"

    @property
    def authority(self) -> str:
        """The identity service's address, without tenant or trailing slash."""
        if self.names.domain:
            return f"https://login.{self.names.domain}{_port(self.listen.control_port)}"
        return self.arm_endpoint

    @property
    def console_endpoint(self) -> str:
        """The console's address as browsers write its origin, without a trailing slash."""
        if self.names.domain:
            return f"https://console.{self.names.domain.lower()}{_port(self.listen.control_port)}"
        return self.arm_endpoint

    def account_endpoint(self, subdomain: str | None) -> str:
        """Return the address an account answers at as things are configured, with a trailing slash."""
        if self.names.domain:
            host = f"{subdomain}.ai" if subdomain else f"{self.names.location}.api"
            return f"https://{host}.{self.names.domain}{_port(self.listen.data_port)}/"
        base = f"https://localhost:{self.listen.data_port}/"
        return f"{base}{subdomain}/" if subdomain else base

    def websocket_endpoint(self, account_endpoint: str) -> str:
        """Return where an account takes WebSockets, with a trailing slash; "" where the settings turn them off."""
        if not self.listen.websocket_port:
            return ""
        parts = urlsplit(account_endpoint)
        return f"wss://{parts.hostname}{_port(self.listen.websocket_port)}{parts.path}"

    @property
    def metadata_endpoint(self) -> str:
        return f"http://127.0.0.1:{self.listen.metadata_port}"


def default_data_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the data directory: the environment's, else one inside the user's state folder."""
    named = environment.get(DATA_DIR_VARIABLE, "")
    return Path(named).expanduser().absolute() if named else Path(platformdirs.user_state_dir("stockade"))


def load(
    data_dir: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Settings:
    """Read the settings: file, then environment, then flags.

    overrides: nested like the file, e.g. `{"listen": {"data_port": 9443}}`; None values are left out.
    Raises ValueError naming the file and field for unknown fields and wrong types.
    """
    directory = data_dir or default_data_dir(environment)
    file = directory / "settings.toml"
    merged: dict[str, Any] = {}
    try:
        merged = tomllib.loads(file.read_text())
    except FileNotFoundError:
        pass
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise ValueError(f"{file}: {failure}") from failure
    if environment.get("STOCKADE_DATABASE_URL"):
        merged["database_url"] = environment["STOCKADE_DATABASE_URL"]
    _merge(merged, msgspec.json.decode(environment.get(OVERRIDES_VARIABLE, "{}")))
    _merge(merged, overrides or {})
    merged["data_dir"] = str(directory)
    try:
        found = msgspec.convert(merged, Settings, strict=True, dec_hook=_decode)
    except msgspec.ValidationError as failure:
        raise ValueError(f"{file}: {failure}") from failure
    for name, networks in (
        ("trusted_proxies", found.trusted_proxies),
        ("listen.private_networks", found.listen.private_networks),
    ):
        for text in networks:
            try:
                ip_network(text, strict=False)
            except ValueError as failure:
                raise ValueError(f"{file}: {failure} - at `$.{name}`") from failure
    problems = (*_access_problems(found.access), *_notice_problems(found.notices), *_audit_problems(found.audit))
    for name, problem in problems:
        raise ValueError(f"{file}: {problem} - at `$.{name}`")
    return found


def _access_problems(access: Access) -> Iterator[tuple[str, str]]:
    if not 1 <= access.answer_days[0] <= access.answer_days[1] <= 366:
        yield "access.answer_days", "two numbers of days, the smaller one first"
    for day in access.holidays:
        try:
            date.fromisoformat(day)
        except ValueError:
            yield "access.holidays", f"'{day}' is no day like 2026-12-25"


def _issuer_problems(issuers: tuple[Issuer, ...]) -> Iterator[tuple[str, str]]:
    clients = [issuer.console for issuer in issuers if issuer.console is not None]
    names = [client.name for client in clients]
    if len(set(names)) != len(names):
        yield "issuers.console.name", "each issuer's is another one"
    for client in clients:
        if re.fullmatch("[a-z0-9][a-z0-9-]{0,31}", client.name) is None:
            yield (
                "issuers.console.name",
                f"'{client.name}' is not made of lower-case letters, digits and '-', at most 32",
            )
        if not client.client_id or "openid" not in client.scope.split():
            yield "issuers.console", "a client_id, and a scope with `openid` in it"


def _notice_problems(notices: Notices) -> Iterator[tuple[str, str]]:
    webhook, mail = urlsplit(notices.webhook), notices.mail
    if notices.webhook:
        if webhook.scheme != "https" or not webhook.hostname or "@" in webhook.netloc or webhook.fragment:
            yield "notices.webhook", "an https address, without a user name"
        if not (notices.webhook_secret_env or notices.webhook_secret_file):
            yield "notices.webhook", "name the secret to sign with: webhook_secret_env or webhook_secret_file"
    if mail.host and "@" not in mail.sender:
        yield "notices.mail.sender", "an address that mail comes from"
    if mail.user and not (mail.credential_env or mail.credential_file):
        yield "notices.mail.user", "name the password: credential_env or credential_file"
    if mail.user and mail.tls == "none":
        yield "notices.mail.tls", "no password is sent without TLS"


def _audit_problems(audit: Audit) -> Iterator[tuple[str, str]]:
    names = [one.name.lower() for one in audit.sinks]
    for sink in audit.sinks:
        if not _SINK_NAME.fullmatch(sink.name):
            yield "audit.sinks.name", f"'{sink.name}' is no name: letters, digits, '-' and '_', 63 at most"
        if names.count(sink.name.lower()) > 1:
            yield "audit.sinks.name", f"two sinks are called '{sink.name}'"
        schemes = {"file": ("file",), "syslog": ("tls",), "http": ("https", "http"), "otlp": ("https", "http")}[
            sink.type
        ]
        yield from _receiver_problems("audit.sinks.url", sink.url, schemes)
    for witness in audit.witnesses:
        yield from _receiver_problems("audit.witnesses.url", witness.url, ("file", "https"))


def _receiver_problems(name: str, url: str, schemes: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        yield name, "no address can be read like this"
        return
    here = parts.hostname == "localhost" or _is_loopback(parts.hostname or "")
    if parts.scheme not in schemes:
        yield name, f"an address that begins with {' or '.join(f'{one}://' for one in schemes)}"
    elif "@" in parts.netloc or parts.fragment:
        yield name, "an address without a user name; a credential is named by credential_env or credential_file"
    elif parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/") or parts.path == "/" or parts.query:
            yield name, "a path on this machine, file:///..."
    elif not parts.hostname:
        yield name, "an address with a host"
    elif parts.scheme == "http" and not here:
        yield name, "https, unless it is on this machine"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _decode(wanted: type, value: object) -> object:
    if wanted is Path or issubclass(wanted, Path):
        return Path(str(value))
    raise NotImplementedError(wanted)


def _merge(base: dict[str, Any], extra: Mapping[str, Any]) -> None:
    for key, value in extra.items():
        if isinstance(value, Mapping) and isinstance(base.setdefault(key, {}), dict):
            _merge(base[key], value)
        elif value is not None:
            base[key] = value


def _port(port: int) -> str:
    return "" if port == 443 else f":{port}"
