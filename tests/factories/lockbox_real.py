"""Lockbox with nothing pretended: management's pipeline, the key broker in this process, real tokens, content under the account's keys."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import httpx
from starlette.applications import Starlette
from starlette.testclient import TestClient

from stockade.audit.log import AuditSink
from stockade.broker.opening import Opening
from stockade.broker.providers import Providers
from stockade.broker.service import KeyBroker
from stockade.content.account_content import Contents
from stockade.identity import tokens
from stockade.identity.audiences import ARM
from stockade.identity.directory import Directory
from stockade.identity.principals import Principal
from stockade.identity.signing_keys import KeyRing
from stockade.identity.verify import verify
from stockade.kernel.evidence import ArmToken, CallerKey
from stockade.kernel.secret import Secret
from stockade.keys.broker import Broker
from stockade.keys.broker_async import BrokerInThreads
from stockade.keys.root import LentKeys
from stockade.management.app import ArmApp
from stockade.management.lockbox.reading import Reading
from stockade.management.pipeline import Pipeline
from stockade.management.resource_type import Platform
from stockade.settings import Settings
from tests.factories.contents import pieces
from tests.factories.control_plane import SUB, ControlPlane

ORIGIN = "https://localhost:8444"


class _Current:
    """The broker that runs now; another one after a restart."""

    def __init__(self, broker: KeyBroker) -> None:
        self.broker = broker

    def __getattr__(self, name: str) -> Any:
        return getattr(self.broker, name)


class RealPlane(ControlPlane):
    """A control plane whose broker and tokens are real. `send` signs in for each request. log: where records go, instead of into memory."""

    def __init__(self, folder: Path, settings: Settings | None = None, log: AuditSink | None = None) -> None:
        super().__init__(folder, settings=settings)
        self.sink: Any = log or self.audit
        self.current = _Current(self.new_broker())
        lent = LentKeys(self.current.purpose_key)
        self.directory, self.keys = Directory(lent, self.clock), KeyRing(lent)
        with self.database.write() as writer:
            self.keys.ensure(writer, self.clock.now())
        self.platform = Platform(
            self.settings,
            lent,
            self.clock,
            self.tenant_id,
            self.registry,
            self.directory,
            cast("Broker", self.current),
            self.sink,
            self.platform.logs,
        )
        self.pipeline = Pipeline(
            database=self.database,
            source=self.source,
            audit=self.sink,
            registry=self.registry,
            platform=self.platform,
            verify=verify,
        )
        self.client = TestClient(ArmApp(self.pipeline, self.settings), base_url=ORIGIN)
        asynchronous = BrokerInThreads(cast("Broker", self.current))
        self.contents = Contents(self.settings, self.database, asynchronous, clock=self.clock)
        self.reading = Reading(self.platform, self.database, self.source, verify, asynchronous, self.contents)

    def new_broker(self) -> KeyBroker:
        return KeyBroker(
            self.settings,
            self.clock,
            self.database,
            self.source.current,
            self.sink,
            Opening(self.settings),
            Providers(self.settings.keys),
            self.source.current,
        )

    def restart_broker(self) -> None:
        """End the broker's process and start another one: what was in its memory alone is gone."""
        self.current.broker = self.new_broker()

    def keep_up(self) -> None:
        """Rotate what tokens are signed with, as the control plane does from time to time."""
        with self.database.write() as writer:
            self.keys.ensure(writer, self.clock.now())

    def token(self, who: Principal | str) -> str:
        """Sign in."""
        with self.database.read() as reader:
            key = self.keys.current(reader)
            found = self.directory.get(reader, who.object_id if isinstance(who, Principal) else who)
        assert found is not None
        now = self.clock.now()
        authority = self.settings.authority
        issued = tokens.issue(key, found, authority=authority, audience=ARM, proof="secret", groups=(), now=now)
        return issued.token.reveal_text()

    def send(
        self, method: str, path: str, body: Any = None, *, by: Principal | str | None = None, **more: Any
    ) -> httpx.Response:
        return super().send(method, path, body, by=self.token(by if by is not None else self.owner), **more)

    def arm(self, who: Principal) -> ArmToken:
        return ArmToken(Secret(self.token(who)))

    def keep(self, account: str, name: str, body: bytes) -> None:
        """Keep a file as a caller with a subscription key does."""
        key = self.ok("POST", f"{account}/listKeys", {})["key1"]
        of = self.contents.of(account, CallerKey(Secret(key)), "OpenAI/files/write", "test")
        asyncio.run(of.create("files", name, {"filename": f"{name}.txt"}, pieces(body)))

    def read(self, name: str, what: str, by: Principal) -> httpx.Response:
        """Read through the endpoint."""
        path = f"/lockbox/v1/requests/{SUB}/{name}/content{what}"
        headers = {"authorization": f"Bearer {self.token(by)}"}

        async def get() -> httpx.Response:
            transport = httpx.ASGITransport(Starlette(routes=self.reading.routes), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
                return await client.get(path, headers=headers)

        return asyncio.run(get())
