"""Looks for a canary - bytes that were given to the platform - in everything it has written: files and their names, databases, WALs, logs.

    marker = canary()                     # to be put into prompts, files, names
    assert where(marker, data_dir, temporary_dir) == []
    assert where_in_database(marker, url) == []

Looked for as it is and in the forms in which programs write things down: UTF-16, base64 at every offset, hexadecimal, percent-encoded, as JSON
escapes, backwards. Databases are looked at as files, and SQLite's once more value by value, since a value may be broken across pages.
What is compressed or encrypted is not found: the first would be a fault of this look (nothing here compresses), the second is the point.
"""

from __future__ import annotations

import base64
import json
import mmap
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import MetaData, create_engine, select

SQLITE = b"SQLite format 3\0"
LEAST = 12
"""Bytes of the shortest canary; shorter ones would be found by chance."""


def canary() -> bytes:
    """Return a new one: short enough not to be broken up by those who write in lines, and never there by chance."""
    return b"canary-" + secrets.token_hex(8).encode()


def forms(marker: bytes) -> dict[str, bytes]:
    """Return what to look for, by the form's name."""
    if len(marker) < LEAST:
        raise ValueError(f"a canary has at least {LEAST} bytes")
    found = {
        "plain": marker,
        "hex": marker.hex().encode(),
        "HEX": marker.hex().upper().encode(),
        "reversed": marker[::-1],
    }
    for offset in range(3):
        # The characters of base64 that depend on the canary alone, wherever it begins.
        encoded = base64.b64encode(bytes(offset) + marker)
        first, last = -(-offset * 8 // 6), (offset + len(marker)) * 8 // 6
        found[f"base64+{offset}"] = encoded[first:last]
        found[f"base64url+{offset}"] = encoded[first:last].translate(bytes.maketrans(b"+/", b"-_"))
    try:
        text = marker.decode()
    except UnicodeDecodeError:
        return found
    found |= {"utf-16-le": text.encode("utf-16-le"), "utf-16-be": text.encode("utf-16-be")}
    escaped = {"percent": quote(text, safe="").encode(), "json": json.dumps(text)[1:-1].encode()}
    return found | {form: bytes_ for form, bytes_ in escaped.items() if bytes_ != marker}


def where(marker: bytes, *folders: Path) -> list[str]:
    """Return `file: form` for every place below the folders where the canary is."""
    wanted = forms(marker)
    places: list[str] = []
    for file in sorted(path for folder in folders for path in _files(folder)):
        places += [f"{file}: {form} in its name" for form, bytes_ in wanted.items() if bytes_ in os.fsencode(file.name)]
        places += [f"{file}: {form}" for form in _in_file(file, wanted)]
        if _begins_with(file, SQLITE):
            places += where_in_database(marker, f"sqlite:///file:{file}?mode=ro&uri=true")
    return places


def where_in_database(marker: bytes, url: str) -> list[str]:
    """Return `table.column: form` for every value of a database in which the canary is."""
    wanted = forms(marker)
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    places: list[str] = []
    try:
        with engine.connect() as connection:
            tables = MetaData()
            tables.reflect(connection)
            for table in tables.sorted_tables:
                for row in connection.execute(select(table)).mappings():
                    for column, value in row.items():
                        data = _written(value)
                        places += [
                            f"{table.name}.{column}: {form}" for form, bytes_ in wanted.items() if bytes_ in data
                        ]
    finally:
        engine.dispose()
    return sorted(set(places))


def _written(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return shown.encode("utf-8", "surrogatepass")


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (path for name in names if (path := Path(place) / name).is_file() and not path.is_symlink())


def _in_file(file: Path, wanted: dict[str, bytes]) -> list[str]:
    try:
        with file.open("rb") as opened:
            if os.fstat(opened.fileno()).st_size == 0:
                return []
            with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return [form for form, bytes_ in wanted.items() if data.find(bytes_) >= 0]
    except FileNotFoundError:
        return []  # gone since it was listed


def _begins_with(file: Path, start: bytes) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(start)) == start
    except FileNotFoundError:
        return False
