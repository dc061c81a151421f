"""The sections of the settings: one class each, every field with a safe default."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

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
