"""The history of placements."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "placements",
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.String(255), nullable=False),
        sa.Column("task", sa.String(255), nullable=False),
        sa.Column("service", sa.String(64), nullable=False),
        sa.Column("host", sa.String(128), nullable=True),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("placed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claims", sa.Text(), nullable=False),
        sa.Column("reasons", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("request_id", "attempt", name=op.f("pk_placements")),
    )
    op.create_index(op.f("ix_placements_task_id"), "placements", ["task_id"])
    op.create_index(op.f("ix_placements_task_ended_at"), "placements", ["task", "ended_at"])
    op.create_index(op.f("ix_placements_host_ended_at"), "placements", ["host", "ended_at"])
    op.create_index(op.f("ix_placements_ended_at"), "placements", ["ended_at"])


def downgrade() -> None:
    op.drop_table("placements")
