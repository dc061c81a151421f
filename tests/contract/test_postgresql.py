"""The whole platform on PostgreSQL: first start, requests, changes in force at once, and what happens when the database goes away."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from stockade import settings as configuration
from stockade.kernel.faults import Fault
from stockade.serve import first_start
from tests.factories.databases import PostgreSQL
from tests.live import Live, StartServer

pytestmark = pytest.mark.postgresql


def models(live: Live, key: str) -> int:
    return requests.get(
        f"{live.data}/demo-openai/openai/models?api-version=2024-10-21",
        headers={"api-key": key},
        verify=str(live.ca),
        timeout=30,
    ).status_code


def test_a_server_on_postgresql(live_server: StartServer, postgresql: PostgreSQL) -> None:
    live = live_server("--workers", "2", database_url=postgresql.create())
    assert not list(live.data_dir.glob("*.db*")), "nothing is kept in SQLite"
    key = live.account("demo-openai")["AZURE_OPENAI_API_KEY"]
    assert models(live, key) == 200
    new = live.stockade("keys", "regenerate", "demo-openai", "Key1", "--force").strip()
    # On whichever worker the next requests arrive.
    assert [models(live, old_or_new) for old_or_new in (key, new) * 8] == [401, 200] * 8
    assert live.stop() == 0
    live.start_again()
    assert models(live, new) == 200
    assert "PostgreSQL" in live.stockade("status")


def test_a_database_of_another_installation_is_refused(postgresql: PostgreSQL, tmp_path: Path) -> None:
    url = postgresql.create()
    first_start.ensure(configuration.load(tmp_path / "one", {"database_url": url}, environment={}))
    with pytest.raises(Fault, match="is missing, and the database is sealed with it"):
        first_start.ensure(configuration.load(tmp_path / "two", {"database_url": url}, environment={}))


def test_a_password_in_the_url_is_written_nowhere(live_server: StartServer, postgresql: PostgreSQL) -> None:
    url = postgresql.create().replace("stockade@", "stockade:canary-password@")
    live = live_server("--workers", "1", database_url=url)
    live.account("demo-openai")
    files = [live.log_file, *(path for path in live.data_dir.rglob("*") if path.is_file())]
    assert not [path for path in files if b"canary-password" in path.read_bytes()]


def test_a_database_that_cannot_be_reached_is_one_clear_line(live: Live, tmp_path: Path) -> None:
    done = live.cli(
        *(
            "serve",
            "--data-dir",
            str(tmp_path / "data"),
            "--database-url",
            "postgresql://nobody:canary@127.0.0.1:1/none",
        ),
        check=False,
    )
    assert done.returncode != 0
    assert "The database cannot be reached" in done.stderr
    assert "canary" not in done.stderr
    assert "Traceback" not in done.stderr
