"""What every process has: settings, the key broker and what it lends, the documents, and the policy that follows from them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stockade.audit.hiding import Hiding
from stockade.audit.spool import Spool
from stockade.broker.opening import Opening
from stockade.broker.providers import Providers
from stockade.broker.service import KeyBroker
from stockade.gateway.address import ClientAddresses
from stockade.identity import compilation
from stockade.kernel.clock import Clock, clock_of
from stockade.keys.broker import Broker
from stockade.keys.broker_async import AsyncBroker, AsyncBrokerClient, BrokerInThreads
from stockade.keys.broker_client import SOCKET_VARIABLE, BrokerClient
from stockade.keys.root import LentKeys, RootKey
from stockade.management.routing import Registry
from stockade.policy import remote_keys
from stockade.policy.builtin_roles import builtin_roles
from stockade.policy.compile import Compiler
from stockade.policy.snapshot import Snapshot
from stockade.policy.source import SnapshotSource
from stockade.settings import Settings
from stockade.storage.database import Database
from stockade.storage.generation import GENERATION_FILE, AskedGeneration, Generation, GenerationCell
from stockade.vault.compile import compilers

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
    audit: Spool


def foundation(configured: Settings, *, own_broker: bool = False, alone: bool = False) -> Foundation:
    """Build the foundation. Opens the key broker; touches the database only when policy is asked for.

    own_broker: in this process, whatever the environment says. For the broker's own process. alone: one with a data directory of its own, which
    shares no memory with the others.
    """
    clock = clock_of(configured.data_dir)
    cell: Generation
    if alone:
        database = Database(configured.database, clock=clock)
        cell = AskedGeneration(lambda: newest_generation(database))
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
    hiding = Hiding()
    audit = Spool(configured, hiding)
    named = os.environ.get(SOCKET_VARIABLE, "") or configured.keys.broker_socket
    broker: Broker
    if named and not own_broker:
        broker = BrokerClient(Path(named))
    else:
        opening, providers = Opening(configured), Providers(configured.keys)
        known = source.known if isinstance(cell, GenerationCell) else _unknown
        broker = KeyBroker(configured, clock, database, source.current, audit, opening, providers, known)
    root_key = LentKeys(broker.purpose_key)
    hiding.derive = root_key.derive
    return Foundation(
        settings=configured,
        clock=clock,
        broker=broker,
        root_key=root_key,
        database=database,
        registry=registry,
        cell=cell,
        source=source,
        audit=audit,
    )


def _unknown() -> Snapshot | None:
    """Whether policy has changed is a question to the database."""
    return None


def newest_generation(database: Database) -> int:
    """Return the generation of the newest commit."""
    with database.read() as reader:
        return reader.generation()


def async_broker(base: Foundation) -> AsyncBroker:
    """Return the same broker for an event loop. Its connections belong to the loop that first asks."""
    named = os.environ.get(SOCKET_VARIABLE, "") or base.settings.keys.broker_socket
    if isinstance(base.broker, BrokerClient):
        return AsyncBrokerClient(Path(named))
    return BrokerInThreads(base.broker)


def client_address(configured: Settings) -> Callable[[str, str], str]:
    """Return what tells a client's address from its peer's and `X-Forwarded-For`."""
    clients = ClientAddresses(configured.trusted_proxies)

    def client(peer: str, forwarded_for: str) -> str:
        return clients.client(f"[{peer}]:0", forwarded_for)

    return client
