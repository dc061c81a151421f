"""What an account's rows say without a key, for operators: never what is sealed. `lockbox/visible.py` says what each column is."""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import Connection, select

from stockade.storage.tables import content_items as items

MOST: Final = 1000
"""Objects of one page."""


class Outside(NamedTuple):
    """One kept object from outside. Times in epoch seconds."""

    ordinal: int
    kind: str
    id: str
    state: str
    status: str
    size: int
    created_at: float
    updated_at: float
    expires_at: float | None
    data_key: str


def page(connection: Connection, account_id: str, after: int, limit: int) -> list[Outside]:
    """Return an account's objects in the order in which they were made. after: the ordinal of the last one before. account_id: lower case."""
    columns = [items.c[name] for name in Outside._fields]
    wanted = (
        select(*columns).where(items.c.account == account_id, items.c.ordinal > after).order_by(items.c.ordinal)
    ).limit(limit)
    return [Outside(*row) for row in connection.execute(wanted)]
