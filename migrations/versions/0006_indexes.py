"""Indexes for the lists of jobs by status, by verdict and by run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_jobs_list_status", "jobs", ["project", "status", "id"], unique=False)
    op.create_index("ix_jobs_list_verdict", "jobs", ["project", "verdict", "id"], unique=False, **where("verdict"))
    op.create_index(
        "ix_jobs_list_run", "jobs", ["project", "run_id", "id", "run_step"], unique=False, **where("run_id")
    )


def where(column: str) -> dict[str, sa.TextClause]:
    condition = sa.text(f"{column} IS NOT NULL")
    return {"sqlite_where": condition, "postgresql_where": condition}


def downgrade() -> None:
    for name in ("ix_jobs_list_run", "ix_jobs_list_verdict", "ix_jobs_list_status"):
        op.drop_index(name, table_name="jobs")
