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
import resource
import signal
from typing import Final

from stockade import boot, settings
from stockade.broker.server import BrokerServer
from stockade.broker.service import KeyBroker
from stockade.broker.watch import Watch
from stockade.kernel.faults import Fault
from stockade.serve import child, logs
from stockade.serve.files import private_folder

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
    if library.mlockall(_MCL_CURRENT | _MCL_FUTURE) != 0:
        # Usual without CAP_IPC_LOCK or LimitMEMLOCK=infinity; then swap has to be off or encrypted, which docs/keys.md says.
        log.info("memory is not locked: keys may reach swap", extra={"errno": ctypes.get_errno()})
        library.munlockall()


async def serve(base: boot.Foundation, broker: KeyBroker, watch: Watch) -> None:
    """Answer until SIGTERM."""
    configured = base.settings
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # certificates are renewed; there are none here
    private_folder(configured.broker_socket.parent)
    server = BrokerServer(configured.broker_socket, broker, frozenset({os.geteuid()}))
    await server.open()
    beside = [asyncio.create_task(_sweep(broker, configured)), asyncio.create_task(_look(broker))]
    beside.append(asyncio.create_task(_watch(base, broker, watch)))
    try:
        await stop.wait()
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await server.close()


async def _sweep(broker: KeyBroker, configured: settings.Settings) -> None:
    """Wipe what nobody may have any more, twice a lease."""
    while True:
        await asyncio.sleep(configured.keys.lease_s / 2)
        try:
            await asyncio.to_thread(broker.sweep)
        except Exception:
            log.exception("opened keys could not be looked through")


async def _watch(base: boot.Foundation, broker: KeyBroker, watch: Watch) -> None:
    """Ask vaults elsewhere about customers' keys, as often as a lease wants it and when policy has changed. Without any it costs a comparison."""
    loop = asyncio.get_running_loop()
    while True:
        begun, seen = loop.time(), base.cell.value
        try:
            if not broker.status().sealed:
                await asyncio.to_thread(watch.look)
        except Fault as fault:
            log.warning("customers' keys elsewhere could not be asked about: %s", fault.message)
        except Exception:
            log.exception("customers' keys elsewhere could not be asked about")
        await asyncio.sleep(WATCH_PAUSE_S)
        while base.cell.value == seen and loop.time() - begun < watch.every_s:  # noqa: ASYNC110 - shared memory raises no event
            await asyncio.sleep(WATCH_PAUSE_S)


async def _look(broker: KeyBroker) -> None:
    while True:
        try:
            await asyncio.to_thread(broker.look_at_providers)
        except Exception:
            log.exception("the key providers could not be asked")
        await asyncio.sleep(PROVIDERS_EVERY_S)


def run(configured: settings.Settings) -> None:
    """Be the key broker until SIGTERM."""
    harden()
    base, broker = boot.key_broker(configured)
    watch = boot.key_watch(base, broker)
    base.audit.start()
    try:
        asyncio.run(serve(base, broker, watch))
    finally:
        watch.close()
        broker.close()
        base.audit.close()
        base.database.close()


def run_alone(log_level: str) -> None:
    """Be a key broker that no supervisor of the platform has started."""
    os.umask(0o077)
    logging.config.dictConfig(logs.configuration("broker", log_level))
    run(settings.load())


def main() -> None:
    """Run the key broker for a supervisor."""
    parser = argparse.ArgumentParser(prog="python -m stockade.serve.broker")
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    child.become("broker", arguments.parent)
    run(settings.load())


if __name__ == "__main__":
    main()
