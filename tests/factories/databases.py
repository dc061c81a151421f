"""Both databases: a test that takes `database_url` runs on SQLite and on PostgreSQL, each time with an empty, migrated database.

PostgreSQL is a cluster of its own in a temporary folder, on a free loopback port, as a user who is not root (it refuses root). Its collation
is a language's, as operators' often are, so that nothing relies on byte order by luck.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from stockade.storage.database import Database
from tests import outside

_numbers = itertools.count(1)


class PostgreSQL:
    """A running cluster. `stop` and `start` are for tests of a database that goes away."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self._folder = Path(tempfile.mkdtemp(prefix="stockade-pg-"))
        if os.geteuid() == 0:
            shutil.chown(self._folder, self._user)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        options = ("--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8")
        self._run(
            "initdb",
            f"--pgdata={self._folder / 'data'}",
            "--username=stockade",
            *options,
            "--locale-provider=icu",
            "--icu-locale=en-US",
        )
        self.start()

    def start(self) -> None:
        flags = (
            f"-p {self.port} -h 127.0.0.1 -k {self._folder} -c fsync=off -c shared_buffers=16MB -c max_connections=80"
        )
        self._run(
            "pg_ctl", "start", "-w", "-D", str(self._folder / "data"), "-l", str(self._folder / "log"), "-o", flags
        )

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self._folder / "data"))

    def remove(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, name: str) -> str:
        return f"postgresql://stockade@127.0.0.1:{self.port}/{name}"

    def create(self, *, template: str = "template1") -> str:
        """Create a database and return its URL."""
        name = f"test_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def execute(self, statement: str) -> None:
        engine = create_engine(
            self.url("postgres").replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
        )
        try:
            with engine.connect() as connection:
                connection.execute(text(statement))
        finally:
            engine.dispose()

    def _run(self, program: str, *arguments: str) -> None:
        user = self._user if os.geteuid() == 0 else None
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(  # type: ignore[call-overload]
            [self._programs / program, *arguments],
            check=True,
            cwd="/",
            user=user,
            env={"PATH": os.environ["PATH"]},
            timeout=60,
            **quiet,
        )


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """The cluster of this run."""
    cluster = PostgreSQL(outside.program("postgresql"))
    try:
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql: PostgreSQL) -> str:
    """The name of a migrated database, to copy from."""
    url = postgresql.create()
    database = Database(url)
    database.migrate()
    database.close()
    return url.rsplit("/", 1)[1]


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database file, to copy from."""
    path = tmp_path_factory.mktemp("migrated") / "stockade.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()
    return path


BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]


@pytest.fixture(params=BOTH)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty, migrated database of either kind."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "stockade.db")
        return f"sqlite:///{tmp_path / 'stockade.db'}"
    cluster: PostgreSQL = request.getfixturevalue("postgresql")
    return cluster.create(template=request.getfixturevalue("migrated_postgresql"))


@pytest.fixture(params=BOTH)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of either kind without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    cluster: PostgreSQL = request.getfixturevalue("postgresql")
    return cluster.create()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()
