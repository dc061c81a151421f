"""DBOS Transact, and how it is used: one kind of workflow, whose steps are remembered by name. Nothing else here knows the library.

Its state is `jobs.db` in the data directory or, with PostgreSQL, the schema `stockade_jobs` of the platform's database. It holds names of
pieces and steps, and what steps say they have done, as JSON; never content, and nothing that is unpickled. No server of its library's is
asked or told anything.

DBOS itself remembers steps by their order, and so wants the same order at every run. Here a run first takes over all that is remembered and then
does what is missing, whatever the order: work may look at the world between its steps.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import sqlite3
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from dbos import DBOS, DBOSConfig, SetWorkflowID, _workflow_commands
from dbos._error import DBOSException, DBOSWorkflowIDInUseError
from dbos._serialization import DBOSPortableJSON

from stockade.kernel.faults import Fault, FaultKind
from stockade.storage.database import Database

T = TypeVar("T")

SCHEMA: Final = "stockade_jobs"
FILE: Final = "jobs.db"
WORKFLOW: Final = "job"
VERSION: Final = "1"
"""Of the rows and their meaning, not of the platform: a newer platform takes up what an older one began."""
THREADS: Final = 8
POLL_S: Final = 2.0
"""How often the library looks for what is to be taken up again."""
UNUSED_POLL_S: Final = 60.0
"""How often it looks after what is not used here: delays, time limits."""
MAX_RECOVERIES: Final = 100
"""A piece whose process has died so often is left alone: it may be what kills it."""
ENDED: Final = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
PAGE: Final = 500

Do: TypeAlias = Callable[[str, str, "Memory"], Awaitable[dict[str, str]]]
"""Does a piece of work: its kind's name, the piece, what is remembered of it; returns how it ended, in words without content."""

log = logging.getLogger(__name__)


class Superseded(Exception):
    """Somebody else does this piece now, and what is done here no longer counts."""


class Memory:
    """What one run remembers. Lives inside its workflow."""

    def __init__(self, remembered: dict[str, Any]) -> None:
        self._remembered = remembered

    def get(self, name: str) -> Any:
        """Return what the last step of that name that ended well answered; None when there is none."""
        return self._remembered.get(name)

    def __contains__(self, name: str) -> bool:
        return name in self._remembered

    async def step(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        """Do something and remember what it returned, in place of what was remembered under the name. Its failure is raised, and forgotten."""
        failure: BaseException | None = None

        async def kept() -> dict[str, Any]:
            nonlocal failure
            try:
                return {"result": await do()}
            except Exception as error:  # noqa: BLE001 - raised below; the library would keep it, words and all
                failure = error
                return {}

        try:
            done = await DBOS.run_step_async({"name": name}, kept)
        except DBOSException as lost:
            raise Superseded from lost
        if failure is not None:
            raise failure
        self._remembered[name] = done["result"]
        result: T = done["result"]
        return result


class Durable:
    """The library, set up. One per process; its workflows run on the loop that `open` was called in."""

    def __init__(self, database: Database, data_dir: Path, node: str) -> None:
        self._database, self._file, self.node = database, data_dir / FILE, node
        self._tasks: set[asyncio.Task[Any]] = set()

    def open(self, do: Do) -> None:
        """Begin: make or bring up to date the tables, and take up what this node left unfinished. Fault(UNAVAILABLE) when that fails."""
        for name in [name for name in os.environ if name.startswith("DBOS_")]:
            del os.environ[name]  # the library would take orders from them
        logger = logging.getLogger("dbos")
        logger.addHandler(logging.NullHandler())  # and so it adds none of its own
        logger.propagate = True

        async def job(name: str, piece: str) -> dict[str, str]:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return await do(name, piece, Memory(await _remembered()))

        config = DBOSConfig(
            name="stockade",
            system_database_url=self._url(),
            dbos_system_schema=SCHEMA,
            executor_id=self.node,
            application_version=VERSION,
            serializer=DBOSPortableJSON,
            use_listen_notify=False,  # nothing waits for another workflow's messages
            enable_otlp=False,
            max_executor_threads=THREADS,
            log_level="WARNING",
            notification_listener_polling_interval_sec=POLL_S,
            scheduler_polling_interval_sec=3600.0,
        )
        if not self._database.is_sqlite:
            config["system_database_engine"] = self._database.engine
        try:
            if self._database.is_sqlite:
                _write_ahead(self._file)
            library = DBOS(config=config)
            _workflow_commands._BACKGROUND_JOBS_INTERVAL_SEC = UNUSED_POLL_S  # noqa: SLF001 - no setting; a second by default
            self._job = DBOS.workflow(name=WORKFLOW, max_recovery_attempts=MAX_RECOVERIES)(job)
            library._registry.get_internal_queue()._polling_interval_sec = POLL_S  # noqa: SLF001 - as above
            DBOS.launch()
        except Exception as failure:
            raise Fault(FaultKind.UNAVAILABLE, "The state of jobs cannot be opened.") from failure

    async def interrupt(self) -> None:
        """Have what is under way end, unfinished; the next `open` takes it up again."""
        logging.getLogger("dbos").setLevel(logging.ERROR)  # it warns of each
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Let go of everything."""
        await self.interrupt()
        DBOS.destroy(destroy_registry=True)
        # It had put its own threads in the place of the loop's, and has ended them.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))

    async def start(self, name: str, piece: str) -> bool:
        """Begin a piece here; False when it has been begun before, here or elsewhere."""
        try:
            with SetWorkflowID(workflow_id(name, piece), workflow_id_reuse_policy="reject"):
                await DBOS.start_workflow_async(self._job, name, piece)
        except DBOSWorkflowIDInUseError:
            return False
        return True

    async def nodes(self) -> set[str]:
        """Return the nodes that have unfinished pieces."""
        found = await DBOS.list_workflows_async(status="PENDING", load_input=False, load_output=False)
        return {one.executor_id for one in found if one.executor_id}

    async def take_over(self, nodes: Collection[str]) -> None:
        """Take up what nodes that are no more have left unfinished."""
        recover = DBOS._recover_pending_workflows  # noqa: SLF001 - what its own server of jobs would call, which we have none of
        await asyncio.to_thread(recover, list(nodes))

    async def forget(self, before: float) -> int:
        """Forget pieces that ended before an instant, a page of them; return how many. A piece that is then named again is done again."""
        until = datetime.fromtimestamp(before, UTC).isoformat()
        found = await DBOS.list_workflows_async(
            status=list(ENDED), completed_before=until, limit=PAGE, load_input=False, load_output=False
        )
        if found:
            await DBOS.delete_workflows_async([one.workflow_id for one in found])
        return len(found)

    def _url(self) -> str:
        return f"sqlite:///{self._file}" if self._database.is_sqlite else self._database.url


def workflow_id(name: str, piece: str) -> str:
    """Return what a piece of work is known by everywhere."""
    return f"{name}/{piece}"


async def _remembered() -> dict[str, Any]:
    """Return what this workflow's steps answered, by name, and let the library pass over them."""
    own: str = DBOS.workflow_id  # type: ignore[assignment]  # within a workflow there is one
    # Outside of the workflow's context, where looking would be a step of its own.
    steps = await asyncio.create_task(DBOS.list_workflow_steps_async(own), context=contextvars.Context())
    found: dict[str, Any] = {}
    for step in steps:
        name = step["function_name"]
        done = await DBOS.run_step_async({"name": name}, _never)
        if "result" in done:
            found[name] = done["result"]
    return found


async def _never() -> dict[str, Any]:
    raise AssertionError("a remembered step was not remembered")


def _write_ahead(file: Path) -> None:
    """Make the file, readable by this user alone, in the mode in which writing costs least. The mode stays with it."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    os.close(descriptor)
    connection = sqlite3.connect(file, timeout=10)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()
