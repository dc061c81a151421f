"""The look for canaries finds what it looks for; and kept content shows it nothing."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import pytest
from sqlalchemy import text

from stockade.storage.database import Database
from tests.factories.canary import canary, forms, where, where_in_database
from tests.factories.contents import Kept, pieces, whole

MARKER = "canary-0f1e2d3c-ä?".encode()
WRITTEN = {
    "plain": b"x" + MARKER + b"y",
    "utf-16-le": MARKER.decode().encode("utf-16-le"),
    "utf-16-be": MARKER.decode().encode("utf-16-be"),
    "hex": b"00" + MARKER.hex().encode(),
    "HEX": MARKER.hex().upper().encode(),
    "base64+0": base64.b64encode(MARKER + b"more"),
    "base64+1": base64.b64encode(b"x" * 4 + MARKER),
    "base64+2": base64.b64encode(b"x" * 5 + MARKER + b"more"),
    "base64url+0": base64.urlsafe_b64encode(MARKER),
    "percent": b"name=canary-0f1e2d3c-%C3%A4%3F",
    "json": json.dumps(MARKER.decode()).encode(),
    "reversed": MARKER[::-1],
}


@pytest.mark.parametrize("form", WRITTEN)
def test_a_canary_is_found_in_whatever_form(tmp_path: Path, form: str) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"\0" * 5000 + WRITTEN[form])
    assert f"{tmp_path}/deep/file: {form}" in where(MARKER, tmp_path)


def test_it_is_found_in_names_and_in_databases_and_not_where_it_is_not(tmp_path: Path, database: Database) -> None:
    assert where(MARKER, tmp_path) == []
    marker = canary()
    row = {"d": "x" + marker.decode()}
    with database.read():  # or SQLite would put its log away
        with database.bookkeeping() as connection:
            connection.execute(text("INSERT INTO key_callers VALUES (:d, 'a', 'c', 'acc', 1, 1, 1)"), row)
        assert where_in_database(marker, database.url) == ["key_callers.digest: plain"]
        if database.is_sqlite:
            assert "key_callers.digest: plain" in where(marker, tmp_path)
            assert any("-wal: plain" in place for place in where(marker, tmp_path))
    (tmp_path / marker.decode()).touch()
    assert any("in its name" in place for place in where(marker, tmp_path))


def test_a_canary_that_chance_would_find_is_refused() -> None:
    with pytest.raises(ValueError, match="at least"):
        forms(b"short")


async def test_what_is_kept_shows_nothing_of_itself(tmp_path: Path, migrated_sqlite: Path) -> None:
    shutil.copy(migrated_sqlite, tmp_path / "stockade.db")
    database = Database(f"sqlite:///{tmp_path / 'stockade.db'}")
    kept, marker = Kept(tmp_path, database), canary()
    named = {"filename": marker.decode(), "list": [{marker.decode(): 1}]}
    made = await kept.of().create("files", "file-1", named, pieces(marker * 50_000))
    await kept.of().create("responses", "resp-1", named)
    await kept.of().update(made, metadata={**named, "more": marker.decode()})
    assert (await whole(kept.of().read(made)))[: len(marker)] == marker
    assert where(marker, tmp_path) == []
    database.close()
