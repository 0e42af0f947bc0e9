"""`Idempotency-Key`: the answer that a key was given before, for seven days."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from saddlescope.contract.limits import IDEMPOTENCY_DAYS
from store import tables
from store.moments import now, seconds_from_now
from store.upserts import insert_or

KEPT_SECONDS = IDEMPOTENCY_DAYS * 86_400


class KeyTaken(Exception):
    """Another request of the project holds the key. Roll back, then answer what `find_idempotent` finds."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the idempotency key {key!r} was used by a request at the same time")
        self.key = key


@dataclass(frozen=True)
class IdempotencyEntry:
    """A key with the SHA-256 (hex) of the body it came with, and the job that answered it once there is one."""

    key: str
    body_digest: str
    job_id: str | None = None


def find_idempotent(session: Session, *, project: str, key: str) -> IdempotencyEntry | None:
    row = session.scalars(
        select(tables.IdempotencyKey).where(
            tables.IdempotencyKey.project == project,
            tables.IdempotencyKey.key == key,
            tables.IdempotencyKey.created_at > seconds_from_now(-KEPT_SECONDS),
        )
    ).one_or_none()
    return None if row is None else IdempotencyEntry(row.key, row.body_digest, row.job_id)


def remember_key(session: Session, *, project: str, entry: IdempotencyEntry, job_id: str) -> None:
    """Bind a key to the job that answers it.

    Raises:
        KeyTaken: if the key is bound already; two requests at once are settled here, by the primary key.
    """
    insert = insert_or(session, tables.IdempotencyKey).values(
        project=project,
        key=entry.key,
        body_digest=entry.body_digest,
        job_id=job_id,
        is_deduplicated=False,
        created_at=now(),
    )
    bound = session.execute(
        insert.on_conflict_do_update(
            index_elements=["project", "key"],
            set_={
                "body_digest": insert.excluded.body_digest,
                "job_id": insert.excluded.job_id,
                "is_deduplicated": insert.excluded.is_deduplicated,
                "created_at": insert.excluded.created_at,
            },
            where=tables.IdempotencyKey.created_at <= seconds_from_now(-KEPT_SECONDS),
        ).returning(tables.IdempotencyKey.key)
    )
    if bound.first() is None:
        raise KeyTaken(entry.key)


def forget_keys(session: Session) -> int:
    """Delete the keys that are older than they are kept; returns how many."""
    gone = session.execute(
        delete(tables.IdempotencyKey)
        .where(tables.IdempotencyKey.created_at <= seconds_from_now(-KEPT_SECONDS))
        .returning(tables.IdempotencyKey.key)
    )
    return len(gone.all())
