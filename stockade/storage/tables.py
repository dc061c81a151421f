"""The tables, as SQLAlchemy Core sees them. Changes here come with a migration in `migrations/versions`."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Float, Identity, Index, Integer, MetaData, String, Table

metadata = MetaData()

# Not JSONB: it refuses U+0000 in a string, which SQLite and Azure take, and nothing here is searched inside the database.
_json = JSON()
# Byte order, as SQLite compares: in a language's order "/" is next to nothing, and what is below an id would not be found.
_id = String(2048).with_variant(String(2048, collation="C"), "postgresql")
_ordinal = Integer().with_variant(BigInteger(), "postgresql")

documents = Table(
    "documents",
    metadata,
    Column("ordinal", _ordinal, Identity(), primary_key=True, autoincrement=True),
    Column("id", _id, nullable=False, unique=True),
    Column("type", String(256), nullable=False),
    Column("subscription", String(64), nullable=False, default=""),
    Column("resource_group", String(128), nullable=False, default=""),
    Column("state", String(16), nullable=False),
    Column("etag", String(64), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("purge_at", Float, nullable=True),
    Column("body", _json, nullable=False),
    Column("private", _json, nullable=False),
    Index("documents_by_generation", "generation"),
    Index("documents_by_type", "type", "subscription", "resource_group"),
)

counters = Table(
    "counters",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

key_callers = Table(
    "key_callers",
    metadata,
    # Who used which key value: the digest, not the slot, so that a regenerated key starts with an empty history.
    Column("digest", String(64), primary_key=True),
    Column("address", String(64), primary_key=True),
    Column("client", String(128), primary_key=True),
    Column("account", String(2048), nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("first_seen", Float, nullable=False),
    Column("last_seen", Float, nullable=False),
    Index("key_callers_by_account", "account"),
)
