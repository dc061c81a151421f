"""What runs beside the control plane from time to time: issuers' keys, signing keys, what has expired."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeAlias

from anyio import to_thread

from stockade.boot.foundation import Foundation, newest_generation
from stockade.identity.issuers import IssuerKeys
from stockade.identity.services import IdentityServices
from stockade.identity.signing_keys import KeyRing
from stockade.kernel.clock import Clock, SimulatedClock
from stockade.kernel.faults import Fault
from stockade.management.access import upkeep as access
from stockade.management.lockbox import upkeep as lockbox
from stockade.management.resource_type import Platform
from stockade.management.resources.cognitive_services_accounts import soft_delete
from stockade.vault import destruction, vaults

Background: TypeAlias = Callable[[Foundation], Coroutine[Any, Any, None]]
"""What runs beside the control plane for as long as it does."""


UPKEEP_S = 60.0


LOOK_AT_CLOCK_S = 0.25


FOLLOW_S = 0.25


log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def in_background(
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
            base.cell.publish(await to_thread.run_sync(newest_generation, base.database))
        except Fault:
            pass  # the database is away; nothing can have been committed either
        except Exception:
            log.exception("the newest generation could not be asked for")
        await asyncio.sleep(FOLLOW_S)


async def _upkeep(platform: Platform, base: Foundation) -> None:
    ring = KeyRing(base.root_key)
    while True:
        try:
            await to_thread.run_sync(_keep_up, ring, platform, base)
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


def _keep_up(ring: KeyRing, platform: Platform, base: Foundation) -> None:
    database, now = base.database, platform.clock.now()
    with database.read() as reader:
        keys_due, purge_due = ring.is_due(reader, now), bool(soft_delete.expired(reader, now))
        vaults_due, access_due = bool(vaults.expired(reader, now)), access.is_due(platform.settings, reader, now)
        lockbox_due = lockbox.is_due(reader, now)
    if keys_due or vaults_due or access_due:
        with database.write() as writer:
            ring.ensure(writer, now)
            vaults.purge_expired(writer, now)
            access.keep_up(platform.settings, writer, base.audit, now)
    if lockbox_due:
        with database.write() as writer:
            lockbox.keep_up(platform, writer, now)
    database.forget_deleted()
    # What needs the key broker comes last and by itself: a sealed platform goes on doing the rest.
    if purge_due:
        with database.write() as writer:
            soft_delete.purge_expired(platform, writer, now)
    destruction.destroy_due(database, base.broker)
