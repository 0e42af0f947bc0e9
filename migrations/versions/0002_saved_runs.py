"""Saved runs; what a claim looks at: memory, fair shares; answers that jobs share; the last words of an attempt."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "saved_runs",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("blob", sa.String(length=71), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("matvecs", sa.Integer(), nullable=False),
        sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_saved_runs_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_saved_runs")),
    )
    op.create_index(op.f("ix_saved_runs_blob"), "saved_runs", ["blob"], unique=False)
    op.add_column("jobs", sa.Column("memory_bytes", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("waiting_because", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("deduplicated_from", sa.String(length=40), nullable=True))
    op.add_column("attempts", sa.Column("errors", sa.Text(), nullable=True))
    op.add_column("workers", sa.Column("memory_bytes", sa.BigInteger(), nullable=True))
    op.drop_index("ix_jobs_claim", "jobs")
    op.create_index("ix_jobs_claim", "jobs", ["status", "project", "queue", "priority", "id"])
    op.create_index("ix_jobs_started", "jobs", ["project", "started_at"])


def downgrade() -> None:
    op.drop_index("ix_jobs_started", "jobs")
    op.drop_index("ix_jobs_claim", "jobs")
    op.create_index("ix_jobs_claim", "jobs", ["status", "queue", "priority", "id"])
    op.drop_column("workers", "memory_bytes")
    op.drop_column("attempts", "errors")
    op.drop_column("jobs", "deduplicated_from")
    op.drop_column("jobs", "waiting_because")
    op.drop_column("jobs", "memory_bytes")
    op.drop_table("saved_runs")
