"""How deliveries to webhooks go, and the order of their messages.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ORDERS = (["webhook", "event"], ["webhook", "next_at"], ["webhook", "subject", "event"])


def upgrade() -> None:
    # Nothing has written to the outbox before this version.
    op.drop_table("outbox")
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("webhook", sa.String(), nullable=False),
        sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("last_error", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["webhook"], ["webhooks.id"], name="fk_outbox_webhook_webhooks", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sqlite_autoincrement=True,
    )
    for columns in ORDERS:
        op.create_index("ix_outbox_" + "_".join(columns), "outbox", columns, unique=False)
    op.create_table(
        "webhook_states",
        sa.Column("webhook", sa.String(), nullable=False),
        sa.Column("claimed_by", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("claimed_until", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("rests_until", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("delivered", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("given_up", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("delivered_at", sa.BigInteger(), nullable=True),
        sa.Column("last_error", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("old_secret", sa.String(), nullable=True),
        sa.Column("old_secret_until", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["webhook"], ["webhooks.id"], name="fk_webhook_states_webhook_webhooks", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("webhook", name="pk_webhook_states"),
    )


def downgrade() -> None:
    op.drop_table("webhook_states")
    for columns in ORDERS:
        op.drop_index("ix_outbox_" + "_".join(columns), "outbox")
    op.drop_column("outbox", "subject")
    op.create_index("ix_outbox_webhook", "outbox", ["webhook"], unique=False)
    op.create_index("ix_outbox_next_at", "outbox", ["next_at"], unique=False)
