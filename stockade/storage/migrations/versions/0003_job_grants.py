"""What jobs go on with when their starter has gone."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_id = sa.String(2048).with_variant(sa.String(2048, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "job_grants",
        sa.Column("kind", sa.String(32), primary_key=True),
        sa.Column("piece", sa.String(128), primary_key=True),
        sa.Column("account", _id, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
    )
    op.create_index("job_grants_by_account", "job_grants", ["kind", "account"])


def downgrade() -> None:
    op.drop_table("job_grants")
