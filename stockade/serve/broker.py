"""The key broker's process: `python -m stockade.serve.broker`. No listener but its socket, no core dumps, memory locked where the system allows.

What it holds in memory is what nobody else may read, so it is closed to debuggers of the same user too, and to everybody once the platform is
sealed: then there is nothing in it.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import logging
import logging.config
import os
import platform
import pwd
import resource
import signal
from typing import Final

import uvloop

from stockade import settings
from stockade.boot.audit_log import AuditOffice, audit_office
from stockade.boot.foundation import Foundation
from stockade.boot.key_broker import key_broker, key_watch
from stockade.broker.server import BrokerServer
from stockade.broker.service import KeyBroker
from stockade.broker.watch import Watch
from stockade.kernel.faults import Fault
from stockade.serve import audit, child, logs
from stockade.serve.audit import PREDECESSOR_S
from stockade.serve.files import locked, private_folder
from stockade.storage.generation import GenerationCell

PROVIDERS_EVERY_S: Final = 10.0
WATCH_PAUSE_S: Final = 0.1
_PR_SET_DUMPABLE: Final = 4
_MCL_CURRENT, _MCL_FUTURE = 1, 2

log = logging.getLogger(__name__)


def harden() -> None:
    """Leave nothing of this process's memory on disk: no core dumps, no debuggers, no swap as far as the system allows."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if platform.system() != "Linux":
        log.warning("memory cannot be locked, nor debuggers be kept out, on this system")
        return
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        log.warning("this process cannot be closed to debuggers", extra={"errno": ctypes.get_errno()})
    if not _may_lock():
        # Usual without CAP_IPC_LOCK or LimitMEMLOCK=infinity; then swap has to be off or encrypted, which docs/keys.md says.
        log.info("memory is not locked, because the system limits how much may be: keys may reach swap")
    elif library.mlockall(_MCL_CURRENT | _MCL_FUTURE) != 0:
        log.warning("memory is not locked: keys may reach swap", extra={"errno": ctypes.get_errno()})


def _may_lock() -> bool:
    """Say whether all memory may be locked, now and later. With a limit, what is allocated above it one day would fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft != resource.RLIM_INFINITY and hard == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
        soft = hard
    return soft == resource.RLIM_INFINITY or os.geteuid() == 0


def peers(configured: settings.Settings) -> frozenset[int]:
    """Return the users, beside our own, that may ask; ValueError for a name that the system does not know."""
    found = set()
    for name in configured.keys.broker_peers:
        try:
            found.add(pwd.getpwnam(name).pw_uid)
        except KeyError as missing:
            raise ValueError(f"keys.broker_peers: there is no user {name!r} on this system") from missing
    return frozenset(found)


async def serve(base: Foundation, broker: KeyBroker, watch: Watch, office: AuditOffice | None = None) -> None:
    """Answer until SIGTERM. office: where the audit logs of this data directory are kept in this process."""
    configured = base.settings
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # certificates are renewed; there are none here
    folder = private_folder(configured.broker_socket.parent)
    uids = frozenset({os.geteuid(), *peers(configured)})
    if len(uids) > 1:
        folder.chmod(0o711)  # the kernel says who asks; here they only have to get to the socket
    server = BrokerServer(configured.broker_socket, broker, uids, broker)
    await server.open()
    questions = await audit.listen(office) if office is not None else None
    beside = [asyncio.create_task(_sweep(broker, configured)), asyncio.create_task(_look(broker))]
    beside.append(asyncio.create_task(_watch(base, broker, watch)))
    try:
        await stop.wait()
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await server.close()
        if questions is not None:
            questions.close()


async def _sweep(broker: KeyBroker, configured: settings.Settings) -> None:
    """Wipe what nobody may have any more, twice a lease."""
    while True:
        await asyncio.sleep(configured.keys.lease_s / 2)
        try:
            await asyncio.to_thread(broker.sweep)
        except Exception:
            log.exception("opened keys could not be looked through")


async def _watch(base: Foundation, broker: KeyBroker, watch: Watch) -> None:
    """Ask vaults elsewhere about customers' keys, as often as a lease wants it and when policy has changed. Without any it costs a comparison."""
    loop = asyncio.get_running_loop()
    while True:
        begun, seen = loop.time(), _shared(base)
        try:
            if not broker.status().sealed:
                await asyncio.to_thread(watch.look)
        except Fault as fault:
            log.warning("customers' keys elsewhere could not be asked about: %s", fault.message)
        except Exception:
            log.exception("customers' keys elsewhere could not be asked about")
        await asyncio.sleep(WATCH_PAUSE_S)
        while _shared(base) == seen and loop.time() - begun < watch.every_s:  # noqa: ASYNC110 - shared memory raises no event
            await asyncio.sleep(WATCH_PAUSE_S)


def _shared(base: Foundation) -> int:
    """Return the generation where it is in shared memory; asking the database for it ten times a second would be too much."""
    return base.cell.value if isinstance(base.cell, GenerationCell) else 0


async def _look(broker: KeyBroker) -> None:
    while True:
        try:
            await asyncio.to_thread(broker.look_at_providers)
        except Exception:
            log.exception("the key providers could not be asked")
        await asyncio.sleep(PROVIDERS_EVERY_S)


def run(configured: settings.Settings, *, alone: bool = False) -> None:
    """Be the key broker until SIGTERM."""
    harden()
    base, broker = key_broker(configured, alone=alone)
    watch = key_watch(base, broker)
    base.audit.start()
    office = audit_office(base, alone=True) if alone else None
    if office is not None:  # nobody else keeps the logs of this data directory
        office.keeper.open(PREDECESSOR_S)
        office.keeper.start()
    try:
        uvloop.run(serve(base, broker, watch, office))
    finally:
        watch.close()
        broker.close()
        base.audit.close()
        if office is not None:
            office.keeper.close()
        base.database.close()


def run_alone(configured: settings.Settings, log_level: str) -> None:
    """Be a key broker that no supervisor of the platform has started, with a data directory of its own.

    Raises ValueError for settings that do not fit, Fault(UNAVAILABLE) for what is in the way.
    """
    if not configured.keys.broker_socket:
        raise ValueError("keys.broker_socket has to name the socket: the same here and in the platform's settings")
    if not configured.database_url:
        raise ValueError("database_url has to name the platform's database: this data directory has none of its own")
    from stockade.serve import first_start  # all of management, which the broker under a supervisor has no need of

    peers(configured)
    private_folder(configured.data_dir)
    with locked(configured.data_dir / "broker.lock", wait=False) as alone:
        if not alone:
            raise ValueError(f"a key broker is running on {configured.data_dir} already")
        os.umask(0o077)
        logging.config.dictConfig(logs.configuration("broker", log_level))
        first_start.ensure_keys(configured)
        run(configured, alone=True)


def main() -> None:
    """Run the key broker for a supervisor."""
    parser = argparse.ArgumentParser(prog="python -m stockade.serve.broker")
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    child.become("broker", arguments.parent)
    run(settings.load())
    child.end()


if __name__ == "__main__":
    main()
