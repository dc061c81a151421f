"""The control plane: ARM, key vaults, the identity service, the console, the metadata endpoint."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stockade import settings
from stockade.audit.log import AuditSink
from stockade.audit.store import Logs
from stockade.boot.background import Background, in_background
from stockade.boot.console import console
from stockade.boot.foundation import Foundation, async_broker, client_address, foundation
from stockade.boot.metadata import metadata_endpoint
from stockade.console.app import ConsoleFirst
from stockade.content.account_content import Contents
from stockade.gateway.idle import IdleConnections
from stockade.identity import app as identity_app
from stockade.identity import tenant
from stockade.identity.directory import Directory
from stockade.identity.issuers import KeysWanted
from stockade.identity.services import IdentityServices
from stockade.identity.verify import verify
from stockade.kernel.clock import SIMULATED_HEADER, SimulatedClock, iso
from stockade.kernel.principal import RejectedCredential, TokenCredential
from stockade.management.app import ArmApp
from stockade.management.audit import published_keys
from stockade.management.authentication import Verify
from stockade.management.lockbox.reading import Reading
from stockade.management.pipeline import Pipeline
from stockade.management.resource_type import Platform
from stockade.policy.snapshot import Snapshot
from stockade.vault.access import verifier
from stockade.vault.app import VaultApp, VaultsFirst
from stockade.vault.asked import shop_of

CONTROL_IDLE_S = 120.0


def control_plane(*further: Background) -> ASGIApp:
    """Build the control plane: ARM, the identity service, the console, the metadata endpoint, and what has to be done from time to time."""
    base = foundation(settings.load())
    with base.database.read() as reader:
        # A crash may have come between a commit and its publication; from here on every worker knows of it.
        base.cell.restart(reader.generation())
    services, platform = identity_services(base), management_platform(base)
    pipeline = management_pipeline(base, platform)
    arm = ArmApp(pipeline, base.settings, client_address(base.settings))
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
            async with metadata_endpoint(services), in_background(services, platform, base, further):
                yield
        finally:
            idle.close()
            base.audit.close()
            base.database.close()

    rest = Starlette(
        routes=[
            Route("/healthz", _healthz(base.audit)),
            *identity_app.routes(services),
            *published_keys.routes(base.broker, platform.tenant_id),
            *lockbox_reading(base, platform).routes,
            Mount("", app=arm),
        ],
        lifespan=lifespan,
    )
    # Before the router and its middleware, which take as long as signing.
    plane = VaultsFirst(key_vaults, ConsoleFirst(console(services, pipeline), rest))
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
        client_address=client_address(base.settings),
    )


def vault_app(base: Foundation) -> VaultApp:
    """Return what answers for key vaults."""
    configured, wanted = base.settings, KeysWanted(base.settings.run_dir)
    return VaultApp(
        shop_of(configured, base.database, base.broker, base.clock, async_broker(base)),
        base.audit,
        base.source,
        verifier(configured, wanted.note),
        client_address(configured),
    )


def management_platform(base: Foundation) -> Platform:
    """Return what resource types may use."""
    with base.database.read() as reader:
        tenant_id = tenant.required_tenant(reader).id
    directory = Directory(base.root_key, base.clock)
    logs = Logs(base.settings.audit_dir)
    return Platform(
        base.settings, base.root_key, base.clock, tenant_id, base.registry, directory, base.broker, base.audit, logs
    )


def management_pipeline(base: Foundation, platform: Platform) -> Pipeline:
    """Return the one way to change resources. First start walks it too."""
    return Pipeline(
        database=base.database,
        source=base.source,
        audit=base.audit,
        registry=base.registry,
        platform=platform,
        verify=arm_verifier(base),
    )


def arm_verifier(base: Foundation) -> Verify:
    """Return what verifies tokens that are shown to ARM."""
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

    return verify_token


def lockbox_reading(base: Foundation, platform: Platform) -> Reading:
    """Return where operators read what customers have let them read."""
    broker = async_broker(base)
    contents = Contents(base.settings, base.database, broker, clock=base.clock)
    verify_token, client = arm_verifier(base), client_address(base.settings)
    return Reading(platform, base.database, base.source, verify_token, broker, contents, client)


def _healthz(audit: AuditSink) -> Callable[[Request], Awaitable[Response]]:
    async def healthz(_: Request) -> Response:
        why = audit.why
        if not why:
            return PlainTextResponse("ok")
        return PlainTextResponse(f"The audit log cannot be written ({why}).", 503, {"retry-after": "5"})

    return healthz
