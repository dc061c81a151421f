"""The first tables: documents, counters, key callers."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_json = sa.JSON()
_id = sa.String(2048).with_variant(sa.String(2048, collation="C"), "postgresql")
_ordinal = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "documents",
        sa.Column("ordinal", _ordinal, sa.Identity(), primary_key=True, autoincrement=True),
        sa.Column("id", _id, nullable=False, unique=True),
        sa.Column("type", sa.String(256), nullable=False),
        sa.Column("subscription", sa.String(64), nullable=False),
        sa.Column("resource_group", sa.String(128), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("etag", sa.String(64), nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
        sa.Column("purge_at", sa.Float, nullable=True),
        sa.Column("body", _json, nullable=False),
        sa.Column("private", _json, nullable=False),
    )
    op.create_index("documents_by_generation", "documents", ["generation"])
    op.create_index("documents_by_type", "documents", ["type", "subscription", "resource_group"])
    counters = op.create_table(
        "counters",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(counters, [{"name": "generation", "value": 0}])
    op.create_table(
        "key_callers",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("address", sa.String(64), primary_key=True),
        sa.Column("client", sa.String(128), primary_key=True),
        sa.Column("account", sa.String(2048), nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("first_seen", sa.Float, nullable=False),
        sa.Column("last_seen", sa.Float, nullable=False),
    )
    op.create_index("key_callers_by_account", "key_callers", ["account"])


def downgrade() -> None:
    for table in ("key_callers", "counters", "documents"):
        op.drop_table(table)
