"""`stockade serve`: the one process the operator sees. It starts the others, watches them, and ends with them.

It holds no policy and answers no caller: it can restart what crashed, put a new certificate into place and end cleanly, and little else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from stockade import __version__
from stockade.audit.standing import Standing
from stockade.kernel.faults import Fault
from stockade.keys.broker_client import SOCKET_VARIABLE, BrokerClient
from stockade.keys.root_sources import CREDENTIALS_VARIABLE
from stockade.serve import engines, probe, running, tls
from stockade.serve.engines import Engines
from stockade.serve.files import locked, private_folder, write_private
from stockade.serve.questions import Questions, Refusal, ask
from stockade.settings import DATA_DIR_VARIABLE, OVERRIDES_VARIABLE, Settings
from stockade.storage.generation import GENERATION_FILE

START_TIMEOUT_S = 120.0
PROBE_INTERVAL_S = 0.1
CERTIFICATE_CHECK_S = 1.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
STEADY_AFTER_S = 60.0
"""A listener that ran this long starts again without a pause."""
STOP_MARGIN_S = 5.0
BROKER_ANSWER_S = 5.0
AUDIT_STOP_S = 15.0
SEAL_CHECK_S = 1.0
LOCK_ATTEMPTS = 10
EXPIRY_WARNING = timedelta(days=14)

log = logging.getLogger(__name__)


class CannotServe(Exception):
    """The platform cannot start. The message is one line for the operator."""


def check_not_running(settings: Settings) -> None:
    """Raise CannotServe when a server runs on the data directory already."""
    if running.status(settings) is not None:
        raise CannotServe(f"Stockade is already running on {settings.data_dir}.")


class Supervisor:
    """Runs the platform until it is told to stop. overrides: the settings given by flags, for the children and for `stockade env`."""

    def __init__(self, settings: Settings, overrides: Mapping[str, Any], engine_names: frozenset[str]) -> None:
        self._settings, self._overrides = settings, overrides
        environment = {
            **os.environ,
            DATA_DIR_VARIABLE: str(settings.data_dir),
            OVERRIDES_VARIABLE: json.dumps(overrides),
            "PYTHONUNBUFFERED": "1",
        }
        stop_timeout_s = settings.limits.drain_timeout_s + STOP_MARGIN_S
        self._broker = BrokerProcess(settings, environment)
        # Where the root key is in the environment, it is for the broker alone.
        for name in (CREDENTIALS_VARIABLE, settings.keys.root_name if settings.keys.root == "environment" else ""):
            environment.pop(name, None)
        environment[SOCKET_VARIABLE] = str(settings.broker_socket)
        self._planes = [
            Plane(name, ("stockade.serve.listener", name), environment, stop_timeout_s) for name in ("data", "control")
        ]
        # Before everybody who has something to record, and after them.
        self._audit = AuditProcess(settings, environment)
        # Started when the control plane asks for it: most installations have no private endpoint.
        self._private = Plane("private", ("stockade.serve.private",), environment, stop_timeout_s)
        # Nobody waits for it: what it does has no caller.
        self._jobs = Plane("jobs", ("stockade.serve.jobs",), environment, stop_timeout_s)
        self._engines = Engines(settings, engine_names)
        answers = {"engine": ("socket", self._engines.answer), "plane": ("plane", self._start_private)}
        self._questions = Questions(settings.supervisor_socket, answers, engines.ANSWER_TIMEOUT_S)
        self._certificates = Certificates(settings)
        self._stop = asyncio.Event()

    async def run(self, ready: Callable[[], None]) -> None:
        """Start everything, call `ready`, and return after a signal has asked for the end and everything has ended.

        Raises CannotServe when it does not get that far; then nothing is left running.
        """
        private_folder(self._settings.run_dir)
        with contextlib.ExitStack() as stack:
            await self._lock(stack)
            await self._check_ports()
            self._listen_for_signals()
            try:
                # The policy generation begins anew, so that one left by a restored database cannot be ahead of the documents.
                (self._settings.run_dir / GENERATION_FILE).unlink(missing_ok=True)
                pair = self._certificates.prepare()
                self._engines.open()
                await self._questions.open()
                await self._broker.start(self._stop)
                await self._audit.start()
                while not self._stop.is_set():
                    await self._wait_until_unsealed()
                    if self._settings.audit.witnesses:
                        await self._audit.wait_for_word(self._stop)
                    await self._start(pair.leaf)
                    if not self._stop.is_set():
                        await self._jobs.start()
                        self._publish()
                        ready()
                        await self._watch()
                        ready = _said_already
            finally:
                running.status_file(self._settings).unlink(missing_ok=True)
                log.info("stopping")
                self._questions.close()
                await asyncio.gather(*(plane.stop() for plane in (*self._planes, self._private, self._jobs)))
                await self._audit.settle()
                await self._broker.stop()
                await self._audit.stop()
                await self._engines.close()
                log.info("stopped")

    async def _lock(self, stack: contextlib.ExitStack) -> None:
        for _ in range(LOCK_ATTEMPTS):  # someone who asks whether a server runs holds it for an instant
            if stack.enter_context(locked(running.lock_file(self._settings), wait=False)):
                return
            await asyncio.sleep(PROBE_INTERVAL_S)
        raise CannotServe(f"Stockade is already running on {self._settings.data_dir}.")

    async def _check_ports(self) -> None:
        # After a supervisor that was killed, what it had started is still finishing its last requests.
        leftover = running.status_file(self._settings).exists()
        deadline = time.monotonic() + (self._settings.limits.drain_timeout_s + STOP_MARGIN_S if leftover else 0)
        while True:
            try:
                taken = probe.ports_in_use(self._settings)
            except ValueError as failure:
                raise CannotServe(f"{failure}.") from failure
            if not taken:
                return
            if time.monotonic() >= deadline:
                ports = " and ".join(str(port) for port in taken)
                flags = "--data-port, --control-port, --metadata-port, --websocket-port"
                raise CannotServe(f"Port {ports} is in use by another program; choose others with {flags}.")
            await asyncio.sleep(PROBE_INTERVAL_S)

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._certificates.look_now)

    async def _start(self, leaf: bytes) -> None:
        listen = self._settings.listen
        for plane in self._planes:
            await plane.start()
        ports = {"data": listen.data_port, "control": listen.control_port}
        deadline = time.monotonic() + START_TIMEOUT_S
        for plane in self._planes:
            while not self._stop.is_set() and not await self._answers(ports[plane.name], leaf):
                if plane.ended:
                    raise CannotServe(f"The {plane.name} plane ended while it was starting; the log above says why.")
                if time.monotonic() > deadline:
                    raise CannotServe(f"The {plane.name} plane did not answer within {START_TIMEOUT_S:.0f} seconds.")
                await asyncio.sleep(PROBE_INTERVAL_S)

    async def _answers(self, port: int, leaf: bytes) -> bool:
        """Say whether a plane answers. One that serves nothing because a witness contradicts a log is up, too: it waits for an operator's word."""
        contradicted = bool(self._audit.problem)
        return await probe.answers(self._settings.listen.host, port, leaf, healthy=not contradicted)

    async def _wait_until_unsealed(self) -> None:
        """Wait, if the platform is sealed, until people have unsealed it. Nobody answers callers meanwhile."""
        if not await self._broker.sealed():
            return
        log.warning("the platform is sealed, and answers nothing until it is unsealed: stockade unseal")
        self._publish(sealed=True)
        while not self._stop.is_set() and await self._broker.sealed():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), SEAL_CHECK_S)
        log.info("the platform has been unsealed")

    async def _watch(self) -> None:
        """Keep everything running until the end is asked for, or the platform is sealed: then nobody is left who answers callers."""
        watching = [asyncio.create_task(plane.keep()) for plane in (*self._planes, self._private, self._jobs)]
        watching.append(asyncio.create_task(self._certificates.watch(self._reload)))
        watching.append(self._broker.keeping())
        stopping = asyncio.create_task(self._stop.wait())
        sealing = asyncio.create_task(self._broker.wait_until_sealed())
        try:
            done, _ = await asyncio.wait([stopping, sealing, *watching], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()  # a watcher never ends by itself: this raises what ended it
        finally:
            ended = [task for task in (stopping, sealing, *watching) if task is not self._broker.keeping()]
            for task in ended:
                task.cancel()
            await asyncio.gather(*ended, return_exceptions=True)
        if not self._stop.is_set():
            log.warning("the platform has been sealed; whoever answers callers ends")
            await asyncio.gather(*(plane.stop() for plane in (*self._planes, self._private, self._jobs)))

    def _reload(self) -> None:
        for plane in (*self._planes, self._private):
            plane.reload()

    async def _start_private(self, name: str) -> str:
        if name != self._private.name or self._stop.is_set():
            raise Refusal("there is no such plane to start")
        if not self._private.begun:
            await self._private.start()
        return name

    def _publish(self, *, sealed: bool = False) -> None:
        listen = self._settings.listen
        state = {
            "pid": os.getpid(),
            "version": __version__,
            "started": time.time(),
            "listen": {
                "host": listen.host,
                "data_port": listen.data_port,
                "control_port": listen.control_port,
                "metadata_port": listen.metadata_port,
                "websocket_port": listen.websocket_port,
            },
            "overrides": self._overrides,
            "sealed": sealed,
        }
        write_private(running.status_file(self._settings), json.dumps(state, indent=1).encode() + b"\n")


class Plane:
    """One process with listeners: started, started again after a crash, and stopped. program: a module and its arguments."""

    def __init__(
        self, name: str, program: Sequence[str], environment: Mapping[str, str], stop_timeout_s: float
    ) -> None:
        self.name = name
        self._program, self._environment, self._stop_timeout_s = program, environment, stop_timeout_s
        self._process: asyncio.subprocess.Process | None = None
        self._started = 0.0
        self._begun = False
        self._running = asyncio.Event()

    @property
    def begun(self) -> bool:
        """Whether it has ever been started; from then on `keep` sees to it that it runs."""
        return self._begun

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def ended(self) -> bool:
        return self._process is None or self._process.returncode is not None

    async def start(self) -> None:
        self._begun = True
        self._started = time.monotonic()
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *self._program, "--parent", str(os.getpid())),
            stdin=asyncio.subprocess.DEVNULL,
            env=self._environment,
            start_new_session=True,  # a Ctrl-C in the terminal reaches the supervisor alone, which then ends the others in order
        )
        self._running.set()

    async def keep(self) -> None:
        """Wait for the process to end unasked, and start it again, more slowly the more often it happens."""
        pause = FIRST_PAUSE_S
        await self._running.wait()
        while True:
            assert self._process is not None
            ended = await self._process.wait()
            if time.monotonic() - self._started > STEADY_AFTER_S:
                pause = FIRST_PAUSE_S
            log.error(
                "a listener ended and is started again", extra={"plane": self.name, "status": ended, "pause_s": pause}
            )
            await self._sweep()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
            await self.start()

    def reload(self) -> None:
        """Have it read its certificate again."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        """Let it finish what it has begun, for as long as the settings allow, and end it."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), self._stop_timeout_s)
            except TimeoutError:
                log.warning("a listener did not end in time and is killed", extra={"plane": self.name})
        await self._sweep()

    async def _sweep(self) -> None:
        """Kill whatever is left of its session, so that no orphaned worker goes on answering on the port."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()


class BrokerProcess:
    """The key broker's process, before everybody else's and after them. One that the settings name a socket of is somebody else's to run."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        own = not settings.keys.broker_socket
        self._plane = Plane("broker", ("stockade.serve.broker",), dict(environment), STOP_MARGIN_S) if own else None
        self._client = BrokerClient(settings.broker_socket, BROKER_ANSWER_S)
        self._sealed = False
        self._keeping: asyncio.Task[None] | None = None

    async def start(self, stop: asyncio.Event) -> None:
        """Return once it answers, or `stop` is set; CannotServe when it does not."""
        if self._plane is not None:
            await self._plane.start()
        deadline, said = time.monotonic() + START_TIMEOUT_S, ""
        while not stop.is_set():
            try:
                await asyncio.to_thread(self._client.status)
            except Fault as fault:
                said = fault.message
            else:
                self.keeping()
                return
            if self._plane is not None and self._plane.ended:
                raise CannotServe("The key broker ended while it was starting; the log above says why.")
            if time.monotonic() > deadline:
                raise CannotServe(f"The key broker did not answer within {START_TIMEOUT_S:.0f} seconds: {said}")
            await asyncio.sleep(PROBE_INTERVAL_S)

    async def sealed(self) -> bool:
        """Say whether the platform is sealed; a broker that does not answer, or just starts again, says nothing and counts as before."""
        with contextlib.suppress(Fault):
            self._sealed = (await asyncio.to_thread(self._client.status)).sealed
        return self._sealed

    async def wait_until_sealed(self) -> None:
        while not await self.sealed():  # noqa: ASYNC110 - another process is asked
            await asyncio.sleep(SEAL_CHECK_S)

    def keeping(self) -> asyncio.Task[None]:
        """Return what sees to it that it runs, from its start to `stop`, also while the platform is sealed. Raises what ended it."""
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._plane.keep() if self._plane is not None else _nothing())
        return self._keeping

    async def stop(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        self._client.close()
        if self._plane is not None:
            await self._plane.stop()


class AuditProcess:
    """The audit process. It writes the logs, so it is there before anybody records something, and ends when nobody does any more."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self._plane = Plane("audit", ("stockade.serve.audit",), environment, AUDIT_STOP_S)
        self._socket = settings.audit_socket
        self._standing = Standing(settings.run_dir)
        self._keeping: asyncio.Task[None] | None = None

    async def wait_for_word(self, stop: asyncio.Event) -> None:
        """Wait until it has held the logs to what witnesses know, or `stop` is set; CannotServe when it does not.

        Logs that nobody has held to anything may be those of whoever put an old disk back.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while not stop.is_set():
            said = self._standing.read()
            if said.pid == self._plane.pid and said.held:
                return
            if time.monotonic() > deadline:
                seconds = f"{START_TIMEOUT_S:.0f} seconds"
                raise CannotServe(
                    f"The audit logs were not held to their witnesses within {seconds}; the log above says why."
                )
            await asyncio.sleep(PROBE_INTERVAL_S)

    @property
    def problem(self) -> str:
        """Why nothing is served although records can be written; "" where that is not so."""
        return self._standing.read().problem

    async def start(self) -> None:
        """Start it, and see to it that it runs until `stop`. Nobody waits for it: what is recorded meanwhile lies in the spools."""
        await self._plane.start()
        self._keeping = asyncio.create_task(self._plane.keep())

    async def settle(self) -> None:
        """Have it take in and have signed what there is, while the key broker is there to sign."""
        if not self._plane.ended:
            with contextlib.suppress(Refusal):
                await ask(self._socket, "settle", "", AUDIT_STOP_S)

    async def stop(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        await self._plane.stop()


class Certificates:
    """Watches the certificate in force: renews ours before its end, takes over the operator's when its files change."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._look = asyncio.Event()
        self._pair: tls.Pair | None = None
        self._seen: object = None
        self._settling: object = None
        self._warned = datetime.min.replace(tzinfo=UTC)

    def prepare(self) -> tls.Pair:
        """Put a certificate into place; CannotServe when the operator's own is unusable."""
        self._seen = self._files()
        try:
            self._pair = tls.prepare(self._settings)
        except tls.UnusablePair as failure:
            raise CannotServe(f"The TLS certificate cannot be used: {failure}.") from failure
        return self._pair

    def look_now(self) -> None:
        """Look at the files without waiting for the next round."""
        self._look.set()

    async def watch(self, reload: Callable[[], None]) -> None:
        """Call `reload` after each change, once a good new pair is in place."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), CERTIFICATE_CHECK_S)
            self._look.clear()
            if await asyncio.to_thread(self._changed):
                reload()

    def _changed(self) -> bool:
        assert self._pair is not None
        now, files = datetime.now(UTC), self._files()
        if files not in (self._seen, self._settling):
            self._settling = (
                files  # certificate and key are two files: look again when both have stood still for a moment
            )
            return False
        own = not self._settings.tls.certificate
        if files == self._seen and not (own and self._pair.not_after - now <= tls.RENEW_BEFORE):
            self._warn(now)
            return False
        self._seen = files
        try:
            if own:
                pair = tls.prepare(self._settings, now)
                self._seen = self._files()
            else:
                pair = tls.read_pair(self._settings.certificate_file, self._settings.certificate_key_file, now)
                tls.activate(self._settings, pair)
        except (tls.UnusablePair, OSError) as failure:
            log.error("the new TLS certificate is not used, the old one stays: %s", failure)  # noqa: TRY400 - the operator's, no bug
            return False
        changed = pair.pem != self._pair.pem
        self._pair = pair
        if changed:
            log.info("a new TLS certificate is in force", extra={"not_after": pair.not_after.isoformat()})
        return changed

    def _files(self) -> object:
        return tuple(_state(path) for path in (self._settings.certificate_file, self._settings.certificate_key_file))

    def _warn(self, now: datetime) -> None:
        assert self._pair is not None
        if self._pair.not_after - now < EXPIRY_WARNING and now - self._warned > timedelta(days=1):
            self._warned = now
            log.warning("the TLS certificate ends soon", extra={"not_after": self._pair.not_after.isoformat()})


async def _nothing() -> None:
    await asyncio.Event().wait()


def _said_already() -> None:
    """Stands for `ready` when the platform starts once more, after it was sealed."""


def _state(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
