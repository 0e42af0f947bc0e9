"""Inertia, criticality and the bounds of the minimum ratio beside the reports, and lists of jobs by their numbers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SORTED = ("loss", "gradient_norm", "minimum_ratio", "lambda_min", "lambda_max")
# Nullable: processes of the version before write reports without them.
ADDED = (
    ("is_critical", sa.Boolean(), ("criticality", "is_critical")),
    ("num_negative", sa.BigInteger(), ("inertia", "negative")),
    ("num_zero", sa.BigInteger(), ("inertia", "zero")),
    ("num_positive", sa.BigInteger(), ("inertia", "positive")),
    ("ratio_low", sa.Double(), ("minimum_ratio", "low")),
    ("ratio_high", sa.Double(), ("minimum_ratio", "high")),
)


def upgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for name, kind, _ in ADDED:
        op.add_column("reports", sa.Column(name, kind, nullable=True))
    told = ", ".join(f"{name} = {_told(kind, *path, is_sqlite=is_sqlite)}" for name, kind, path in ADDED)
    op.execute(f"UPDATE reports SET {told}")  # noqa: S608 - names of this file
    for name in SORTED:
        op.create_index(f"ix_reports_{name}", "reports", [name, "job_id"], unique=False)


def _told(kind: sa.types.TypeEngine[object], outer: str, inner: str, *, is_sqlite: bool) -> str:
    if is_sqlite:
        return f"json_extract(report, '$.{outer}.{inner}')"
    cast = {sa.Boolean: "boolean", sa.BigInteger: "bigint", sa.Double: "double precision"}[type(kind)]
    return f"(report -> '{outer}' ->> '{inner}')::{cast}"


def downgrade() -> None:
    for name in reversed(SORTED):
        op.drop_index(f"ix_reports_{name}", table_name="reports")
    for name, _, _ in reversed(ADDED):
        op.drop_column("reports", name)
