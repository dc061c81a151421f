"""What the identity service does by itself, in the control plane's lifespan: rotate signing keys, refresh issuers' keys."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from anyio import to_thread

from stockade.identity.issuers import IssuerKeys
from stockade.identity.services import IdentityServices
from stockade.identity.signing_keys import KeyRing
from stockade.kernel.faults import Fault

CHECK_S: Final = 600.0

log = logging.getLogger(__name__)


async def run(services: IdentityServices) -> None:
    """Run until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(IssuerKeys(services).run())
        tasks.create_task(_rotate(services))


def rotate_if_due(services: IdentityServices) -> bool:
    """Rotate the signing key and drop ended ones when it is time; says whether anything changed."""
    ring, now = KeyRing(services.root_key), services.clock.now()
    with services.database.read() as reader:
        if not ring.is_due(reader, now):
            return False
    with services.database.write() as writer:
        return ring.ensure(writer, now)


async def _rotate(services: IdentityServices) -> None:
    while True:
        try:
            if await to_thread.run_sync(rotate_if_due, services):
                log.info("the token signing keys were rotated or tidied")
        except Fault as fault:
            log.warning("the token signing keys could not be looked after: %s", fault.message)
        await asyncio.sleep(CHECK_S)
