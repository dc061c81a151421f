"""How everything is joined. Read this first.

The one place that may import from everywhere. Each function builds one process's part of the platform from the settings it finds in the
environment; the processes share the data directory (documents, root key, audit log) and eight bytes of memory, the policy generation.

    data_plane()      a worker of the gateway      RSGI   many
    control_plane()   ARM, identity, metadata      ASGI   one
    key_broker()      unwraps keys, on evidence    UNIX   one
    workplace()       what goes on without a caller       one
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import uvicorn
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stockade import settings
from stockade.audit.log import AuditLog
from stockade.broker.opening import Opening
from stockade.broker.providers import Providers
from stockade.broker.service import KeyBroker
from stockade.broker.watch import Watch
from stockade.content.account_content import Contents
from stockade.content.job_grants import JobGrants, Starter
from stockade.decisions.ring import DecisionRing
from stockade.decisions.store import DecisionStore
from stockade.egress.fetch import Fetcher
from stockade.egress.resolve import resolver_for
from stockade.gateway.address import AddressBook, ClientAddresses
from stockade.gateway.admission import Admission
from stockade.gateway.app import Gateway
from stockade.gateway.content import InlineContent
from stockade.gateway.counters import RateCounters
from stockade.gateway.credential import Credentials
from stockade.gateway.http import HttpRequests
from stockade.gateway.idle import IdleConnections
from stockade.gateway.kept import KeptContent
from stockade.gateway.quota import Quota
from stockade.gateway.reply import ReplyHeaders
from stockade.gateway.usage import KeyUsage
from stockade.gateway.websocket import Address
from stockade.identity import app as identity_app
from stockade.identity import compilation, tenant
from stockade.identity.audiences import ai_audiences
from stockade.identity.directory import Directory
from stockade.identity.issuers import IssuerKeys, KeysWanted
from stockade.identity.metadata import metadata_app
from stockade.identity.services import IdentityServices
from stockade.identity.signing_keys import KeyRing
from stockade.identity.verify import TokenCache, verify
from stockade.jobs.job import Workplace
from stockade.kernel.clock import SIMULATED_HEADER, Clock, SimulatedClock, clock_of, iso
from stockade.kernel.faults import Fault
from stockade.kernel.principal import RejectedCredential, TokenCredential
from stockade.kernel.threads import BoundedThreads
from stockade.keys.broker import Broker
from stockade.keys.broker_async import AsyncBroker, AsyncBrokerClient, BrokerInThreads
from stockade.keys.broker_client import SOCKET_VARIABLE, BrokerClient
from stockade.keys.root import LentKeys, RootKey
from stockade.keys.session_token import SessionTokens
from stockade.keys.subscription import DIGEST_PURPOSE, KeyDigester
from stockade.management.access import upkeep as access
from stockade.management.app import ArmApp
from stockade.management.pipeline import Pipeline
from stockade.management.resource_type import Platform
from stockade.management.resources.cognitive_services_accounts import soft_delete
from stockade.management.routing import Registry
from stockade.policy import remote_keys
from stockade.policy.builtin_roles import builtin_roles
from stockade.policy.compile import Compiler
from stockade.policy.snapshot import Snapshot
from stockade.policy.source import SnapshotSource
from stockade.services.installed import installed
from stockade.services.routing import Router
from stockade.services.session_tokens.service import PURPOSE as SESSION_PURPOSE
from stockade.settings import Settings
from stockade.storage.database import Database
from stockade.storage.generation import GENERATION_FILE, AskedGeneration, Generation, GenerationCell
from stockade.vault import destruction, vaults
from stockade.vault.access import verifier
from stockade.vault.app import VaultApp, VaultsFirst
from stockade.vault.asked import shop_of
from stockade.vault.compile import compilers

UPKEEP_S = 60.0
JOB_STARTS, JOB_STARTS_WAITING = 2, 64
LOOK_AT_CLOCK_S = 0.25
FOLLOW_S = 0.25
METADATA_CONNECTIONS = 256
CONTROL_IDLE_S = 120.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Foundation:
    """What every process has: settings, the key broker and what it lends, the documents and the policy that follows from them."""

    settings: Settings
    clock: Clock
    broker: Broker
    """The broker's process, or below no supervisor (first start, commands, tests) one in this process."""
    root_key: RootKey
    """Derives for this platform's purposes; the root itself is the broker's."""
    database: Database
    registry: Registry
    cell: Generation
    source: SnapshotSource
    audit: AuditLog


def foundation(configured: Settings, *, own_broker: bool = False, alone: bool = False) -> Foundation:
    """Build the foundation. Opens the key broker; touches the database only when policy is asked for.

    own_broker: in this process, whatever the environment says. For the broker's own process. alone: one with a data directory of its own, which
    shares no memory with the others.
    """
    clock = clock_of(configured.data_dir)
    cell: Generation
    if alone:
        database = Database(configured.database, clock=clock)
        cell = AskedGeneration(lambda: _generation(database))
    else:
        cell = GenerationCell(configured.run_dir / GENERATION_FILE)
        database = Database(configured.database, clock=clock, published=cell.publish)
    registry = Registry.load()
    compiler = Compiler(
        {
            **registry.compilers(),
            **compilation.compilers(configured),
            **compilers(configured),
            **remote_keys.compilers(),
        }
    )
    source = SnapshotSource(database, compiler, cell, builtin_roles())
    audit = AuditLog(
        configured.audit_dir, rotate_bytes=configured.audit.rotate_bytes, keep_files=configured.audit.keep_files
    )
    named = os.environ.get(SOCKET_VARIABLE, "") or configured.keys.broker_socket
    broker: Broker
    if named and not own_broker:
        broker = BrokerClient(Path(named))
    else:
        opening, providers = Opening(configured), Providers(configured.keys)
        known = source.known if isinstance(cell, GenerationCell) else _unknown
        broker = KeyBroker(configured, clock, database, source.current, audit, opening, providers, known)
    return Foundation(
        settings=configured,
        clock=clock,
        broker=broker,
        root_key=LentKeys(broker.purpose_key),
        database=database,
        registry=registry,
        cell=cell,
        source=source,
        audit=audit,
    )


def _unknown() -> Snapshot | None:
    """Whether policy has changed is a question to the database."""
    return None


def _generation(database: Database) -> int:
    with database.read() as reader:
        return reader.generation()


def key_broker(configured: Settings, *, alone: bool = False) -> tuple[Foundation, KeyBroker]:
    """Build what the key broker's process serves. alone: no supervisor of the platform has started it."""
    base = foundation(configured, own_broker=True, alone=alone)
    assert isinstance(base.broker, KeyBroker)
    return base, base.broker


def key_watch(base: Foundation, broker: KeyBroker) -> Watch:
    """Build what looks after customers' keys in vaults elsewhere, beside the broker."""
    lease_s = base.settings.keys.lease_s
    return Watch(base.database, base.clock, base.source.current, broker.vault_elsewhere, lease_s)


def async_broker(base: Foundation) -> AsyncBroker:
    """Return the same broker for an event loop. Its connections belong to the loop that first asks."""
    named = os.environ.get(SOCKET_VARIABLE, "") or base.settings.keys.broker_socket
    if isinstance(base.broker, BrokerClient):
        return AsyncBrokerClient(Path(named))
    return BrokerInThreads(base.broker)


def data_plane(port: int | None = None, websocket_tls: Callable[[Settings], ssl.SSLContext] | None = None) -> Gateway:
    """Build the gateway of one worker.

    port: where its listeners stand; None for the public one. websocket_tls: gives the context of the public WebSocket listener; None: it has none.
    """
    base = foundation(settings.load())
    configured, root_key = base.settings, base.root_key
    services = installed(configured, root_key)
    router = Router(services)
    cache, audiences, wanted = TokenCache(), ai_audiences(configured), KeysWanted(configured.run_dir)

    def verify_token(snapshot: Snapshot, token: str, now: float) -> TokenCredential | RejectedCredential:
        credential = verify(snapshot, token, now, audiences, cache)
        if isinstance(credential, RejectedCredential):
            wanted.note(credential, now)
        return credential

    credentials = Credentials(
        KeyDigester(root_key.derive(DIGEST_PURPOSE)), SessionTokens(root_key.derive(SESSION_PURPOSE)), verify_token
    )
    simulated = base.clock if isinstance(base.clock, SimulatedClock) else None
    usage, heads = KeyUsage(base.database), ReplyHeaders(configured.names.location, simulated)
    fetcher = Fetcher(configured.egress, resolver_for(configured.egress))
    content = InlineContent(fetcher, configured.egress.max_per_request)
    quota, listen = Quota(RateCounters(configured.run_dir)), configured.listen
    kept = kept_content(base)
    served_port = port if port is not None else listen.data_port
    websockets_at = None
    if websocket_tls is not None and listen.websocket_port:
        websockets_at = Address(websocket_tls(configured), listen.host, listen.websocket_port)
    return Gateway(
        source=base.source,
        admission=Admission(AddressBook(configured, router.roots), router, credentials),
        requests=HttpRequests(
            quota, usage, heads, content, kept, configured.limits, served_port, listen.websocket_port
        ),
        clients=ClientAddresses(configured.trusted_proxies),
        usage=usage,
        audit=base.audit,
        decisions=DecisionRing(
            DecisionStore(configured.data_dir, configured.decisions), configured.decisions, base.clock
        ),
        heads=heads,
        limits=configured.limits,
        clock=base.clock,
        port=served_port,
        quota=quota,
        content=content,
        websocket_port=listen.websocket_port,
        websockets_at=websockets_at,
    )


def kept_content(base: Foundation) -> KeptContent:
    """Return what opens kept content for callers, and starts their jobs."""
    contents, grants = _contents(base), JobGrants(base.database, base.broker, base.clock)
    threads = BoundedThreads(JOB_STARTS, JOB_STARTS_WAITING)
    return KeptContent(
        contents.of,
        base.settings.content.max_file_bytes,
        lambda account_id, evidence, data_action: Starter(grants, threads, account_id, evidence, data_action),
    )


def workplace(base: Foundation) -> Workplace:
    """Return what the work of the jobs process may use. Used on one event loop."""
    grants = JobGrants(base.database, base.broker, base.clock)
    return Workplace(
        settings=base.settings,
        clock=base.clock,
        database=base.database,
        snapshot=base.source.current,
        broker=base.broker,
        audit=base.audit,
        open_content=_contents(base).of,
        grants=grants,
    )


def _contents(base: Foundation) -> Contents:
    return Contents(base.settings, base.database, async_broker(base), clock=base.clock)


WebSocketAddress: TypeAlias = Address
"""Where a gateway's `websockets` are to listen; for those who may not know the gateway's parts."""

Background: TypeAlias = Callable[[Foundation], Coroutine[Any, Any, None]]
"""What runs beside the control plane for as long as it does."""


def control_plane(*further: Background) -> ASGIApp:
    """Build the control plane: ARM, the identity service, the metadata endpoint, and what has to be done from time to time."""
    base = foundation(settings.load())
    with base.database.read() as reader:
        # A crash may have come between a commit and its publication; from here on every worker knows of it.
        base.cell.restart(reader.generation())
    services, platform = identity_services(base), management_platform(base)
    arm = ArmApp(management_pipeline(base, platform), base.settings, _client_address(base.settings))
    key_vaults = vault_app(base)

    # Management answers within seconds, so here a connection that is still for long enough has nobody working for it.
    idle = IdleConnections(
        base.settings.listen.control_port, max(CONTROL_IDLE_S, base.settings.limits.header_timeout_s), frozenset
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        base.audit.start()
        idle.start()
        try:
            async with _metadata_endpoint(services), _in_background(services, platform, base, further):
                yield
        finally:
            idle.close()
            base.audit.close()
            base.database.close()

    rest = Starlette(
        routes=[
            Route("/healthz", _healthz(base.audit)),
            *identity_app.routes(services),
            Mount("", app=arm),
        ],
        lifespan=lifespan,
    )
    # Before the router and its middleware, which take as long as signing.
    plane = VaultsFirst(key_vaults, rest)
    return _SaysTime(plane, base.clock) if isinstance(base.clock, SimulatedClock) else plane


class _SaysTime:
    """Puts the simulated time into every reply, so that nobody takes a rehearsal for the real thing."""

    def __init__(self, app: ASGIApp, clock: SimulatedClock) -> None:
        self._app, self._clock = app, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                shown = (SIMULATED_HEADER.encode(), iso(self._clock.now()).encode())
                message = {**message, "headers": [*message.get("headers", ()), shown]}
            await send(message)

        await self._app(scope, receive, dated)


def identity_services(base: Foundation) -> IdentityServices:
    """Return what the identity service needs."""
    return IdentityServices(
        settings=base.settings,
        database=base.database,
        root_key=base.root_key,
        audit=base.audit,
        clock=base.clock,
        snapshot=base.source.current,
        client_address=_client_address(base.settings),
    )


def vault_app(base: Foundation) -> VaultApp:
    """Return what answers for key vaults."""
    configured, wanted = base.settings, KeysWanted(base.settings.run_dir)
    return VaultApp(
        shop_of(configured, base.database, base.broker, base.clock, async_broker(base)),
        base.audit,
        base.source,
        verifier(configured, wanted.note),
        _client_address(configured),
    )


def management_platform(base: Foundation) -> Platform:
    """Return what resource types may use."""
    with base.database.read() as reader:
        tenant_id = tenant.required_tenant(reader).id
    directory = Directory(base.root_key, base.clock)
    return Platform(base.settings, base.root_key, base.clock, tenant_id, base.registry, directory, base.broker)


def management_pipeline(base: Foundation, platform: Platform) -> Pipeline:
    """Return the one way to change resources. First start walks it too."""
    wanted = KeysWanted(base.settings.run_dir)

    def verify_token(
        snapshot: Snapshot, token: str, now: float, audiences: frozenset[str]
    ) -> TokenCredential | RejectedCredential:
        credential = verify(
            snapshot, token, now, audiences
        )  # no cache: these calls run in several threads, and are few
        if isinstance(credential, RejectedCredential):
            wanted.note(credential, now)
        return credential

    return Pipeline(
        database=base.database,
        source=base.source,
        audit=base.audit,
        registry=base.registry,
        platform=platform,
        verify=verify_token,
    )


class _QuietServer(uvicorn.Server):
    """uvicorn inside another server's process, whose signals are not its business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def _metadata_endpoint(services: IdentityServices) -> AsyncIterator[None]:
    """Serve managed identities on loopback, in plain HTTP, while the block runs."""
    config = uvicorn.Config(
        metadata_app(services),
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # nobody stands between a program and its own machine's endpoint
        limit_concurrency=METADATA_CONNECTIONS,
        timeout_graceful_shutdown=2,
    )
    server = _QuietServer(config)
    with socket.socket(socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # While certificates are reloaded the old and the new control plane stand side by side for some seconds.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", services.settings.listen.metadata_port))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield
        finally:
            server.should_exit = True
            await serving


@contextlib.asynccontextmanager
async def _in_background(
    services: IdentityServices, platform: Platform, base: Foundation, further: Sequence[Background]
) -> AsyncIterator[None]:
    """Fetch issuers' keys, rotate signing keys, purge what has expired, and whatever else is wanted, while the block runs."""
    tasks = [asyncio.create_task(IssuerKeys(services).run()), asyncio.create_task(_upkeep(platform, base))]
    if base.settings.keys.broker_socket or not base.database.is_sqlite:
        tasks.append(asyncio.create_task(_follow(base)))
    tasks += [asyncio.create_task(one(base)) for one in further]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _follow(base: Foundation) -> None:
    """Tell this machine of what others have committed: other nodes, and a key broker that shares no memory with it."""
    while True:
        try:
            base.cell.publish(await to_thread.run_sync(_generation, base.database))
        except Fault:
            pass  # the database is away; nothing can have been committed either
        except Exception:
            log.exception("the newest generation could not be asked for")
        await asyncio.sleep(FOLLOW_S)


async def _upkeep(platform: Platform, base: Foundation) -> None:
    ring = KeyRing(base.root_key)
    while True:
        try:
            await to_thread.run_sync(_keep_up, ring, platform, base.database, base.broker)
        except Exception:
            # The database may be away for a while; what is due stays due.
            log.exception("upkeep failed and will be tried again")
        await _pause(platform.clock, UPKEEP_S)


async def _pause(clock: Clock, seconds: float) -> None:
    """Sleep so long, or until time is moved: what has become due meanwhile is to be done at once."""
    if not isinstance(clock, SimulatedClock):
        await asyncio.sleep(seconds)
        return
    ahead, until = clock.ahead_s, clock.monotonic() + seconds
    while clock.ahead_s == ahead and clock.monotonic() < until:  # noqa: ASYNC110 - shared memory raises no event
        await asyncio.sleep(LOOK_AT_CLOCK_S)


def _keep_up(ring: KeyRing, platform: Platform, database: Database, broker: Broker) -> None:
    now = platform.clock.now()
    with database.read() as reader:
        keys_due, purge_due = ring.is_due(reader, now), bool(soft_delete.expired(reader, now))
        vaults_due, access_due = bool(vaults.expired(reader, now)), access.is_due(platform.settings, reader, now)
    if keys_due or vaults_due or access_due:
        with database.write() as writer:
            ring.ensure(writer, now)
            vaults.purge_expired(writer, now)
            access.keep_up(platform.settings, writer, now)
    database.forget_deleted()
    # What needs the key broker comes last and by itself: a sealed platform goes on doing the rest.
    if purge_due:
        with database.write() as writer:
            soft_delete.purge_expired(platform, writer, now)
    destruction.destroy_due(database, broker)


def _client_address(configured: Settings) -> Callable[[str, str], str]:
    clients = ClientAddresses(configured.trusted_proxies)

    def client(peer: str, forwarded_for: str) -> str:
        return clients.client(f"[{peer}]:0", forwarded_for)

    return client


def _healthz(audit: AuditLog) -> Callable[[Request], Awaitable[Response]]:
    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok", 200 if audit.healthy else 503)

    return healthz
