"""The tables, as SQLAlchemy Core sees them. Changes here come with a migration in `migrations/versions`."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

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

content_items = Table(
    "content_items",
    metadata,
    # Grows with every item, so pages are in the order of creation whatever the clock did meanwhile.
    Column("ordinal", _ordinal, Identity(), primary_key=True, autoincrement=True),
    Column("account", _id, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("id", String(256), nullable=False),
    Column("state", String(16), nullable=False),
    Column("status", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    # What it counts of the account's share: body, metadata and the row.
    Column("charged", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("expires_at", Float, nullable=True),
    # The metadata, and the version and data key it is sealed under.
    Column("version", String(32), nullable=False),
    Column("data_key", String(32), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    # The body: where it is, "" without one, and what it is bound to; its version stays when the metadata's moves on.
    Column("location", String(128), nullable=False),
    Column("body_version", String(32), nullable=False),
    Column("body_data_key", String(32), nullable=False),
    # The process that is writing it, while it is pending.
    Column("writer", String(128), nullable=False),
    UniqueConstraint("account", "kind", "id", name="content_items_by_id"),
    Index("content_items_by_account", "account", "kind", "ordinal"),
    Index("content_items_by_state", "state", "updated_at"),
    Index("content_items_by_expiry", "expires_at"),
    # An ordinal is nobody else's ever again: what a slow writer or sweeper says of one it says of that item.
    sqlite_autoincrement=True,
)

content_usage = Table(
    "content_usage",
    metadata,
    Column("account", _id, primary_key=True),
    Column("kept_bytes", BigInteger, nullable=False),
    Column("kept_items", BigInteger, nullable=False),
)

job_grants = Table(
    "job_grants",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("piece", String(128), primary_key=True),
    Column("account", _id, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Index("job_grants_by_account", "kind", "account"),
)
