"""What accounts keep, and how much of it there is."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_id = sa.String(2048).with_variant(sa.String(2048, collation="C"), "postgresql")
_ordinal = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "content_items",
        sa.Column("ordinal", _ordinal, sa.Identity(), primary_key=True, autoincrement=True),
        sa.Column("account", _id, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("id", sa.String(256), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("status", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("charged", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=True),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("data_key", sa.String(32), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("location", sa.String(128), nullable=False),
        sa.Column("body_version", sa.String(32), nullable=False),
        sa.Column("body_data_key", sa.String(32), nullable=False),
        sa.Column("writer", sa.String(128), nullable=False),
        sa.UniqueConstraint("account", "kind", "id", name="content_items_by_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("content_items_by_account", "content_items", ["account", "kind", "ordinal"])
    op.create_index("content_items_by_state", "content_items", ["state", "updated_at"])
    op.create_index("content_items_by_expiry", "content_items", ["expires_at"])
    op.create_table(
        "content_usage",
        sa.Column("account", _id, primary_key=True),
        sa.Column("kept_bytes", sa.BigInteger, nullable=False),
        sa.Column("kept_items", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in ("content_usage", "content_items"):
        op.drop_table(table)
