"""The history of all jobs together, in one order that never changes: what a project's stream of events reads.

Transactions commit in another order than they began, so no number that is drawn inside of one can tell a reader that
he has seen everything before it. Events therefore get their position after their commit: whoever reads places the ones
that have none, under the lock of one row. Positions are without gaps and are committed in their order, and the events
of one job have theirs in the order of that job's history.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from store.events import EventRow, event_row
from store.tables import Event, EventFeed, Job
from store.upserts import insert_ignoring

BATCH = 1000
_THE_ROW = 1


@dataclass(frozen=True)
class FeedEntry:
    """An event with its position, and whose it is."""

    position: int
    project: str
    run: str | None
    event: EventRow


def has_unplaced(session: Session) -> bool:
    """Whether there is anything to place; takes no lock."""
    return session.scalar(select(Event.id).where(Event.position.is_(None)).limit(1)) is not None


def place_events(session: Session, *, limit: int = BATCH) -> int:
    """Give positions to committed events that have none, at most `limit`; returns to how many."""
    session.execute(insert_ignoring(session, EventFeed).values(id=_THE_ROW, last_position=0))
    last = session.scalar(select(EventFeed.last_position).where(EventFeed.id == _THE_ROW).with_for_update()) or 0
    # By the database's clock, and by number within a job: when one of its events can be seen, so can all before it.
    order = (Event.created_at, Event.job_id, Event.number)
    ranked = (
        select(Event.id, func.row_number().over(order_by=order).label("rank"))
        .where(Event.position.is_(None))
        .order_by(*order)
        .limit(limit)
        .subquery()
    )
    placed = session.execute(
        update(Event)
        .where(Event.id == ranked.c.id)
        .values(position=last + ranked.c.rank)
        .returning(Event.id)
        .execution_options(synchronize_session=False)
    ).all()
    session.execute(
        update(EventFeed)
        .where(EventFeed.id == _THE_ROW)
        .values(last_position=last + len(placed))
        .execution_options(synchronize_session=False)
    )
    return len(placed)


def last_position(session: Session) -> int:
    """The position that was given last; 0 before the first."""
    return session.scalar(select(EventFeed.last_position).where(EventFeed.id == _THE_ROW)) or 0


def read_feed(
    session: Session,
    *,
    after: int | None = None,
    limit: int,
    project: str | None = None,
    run: str | None = None,
    newest_first: bool = False,
) -> tuple[FeedEntry, ...]:
    """Placed events beyond a position, in their order or from the newest; of all projects when none is named."""
    query: Select[Event, str, str | None] = (
        select(Event, Job.project, Job.run_id).join(Job, Job.id == Event.job_id).where(Event.position.is_not(None))
    )
    if project is not None:
        query = query.where(Job.project == project)
    if run is not None:
        query = query.where(Job.run_id == run)
    if after is not None:
        query = query.where(Event.position < after if newest_first else Event.position > after)
    query = query.order_by(Event.position.desc() if newest_first else Event.position).limit(limit)
    rows = session.execute(query, execution_options={"populate_existing": True})
    return tuple(
        FeedEntry(event.position, project, run, event_row(event))
        for event, project, run in rows
        if event.position is not None
    )


def position_of(session: Session, *, project: str, event_id: str) -> int | None:
    """The position of a project's event.

    Of one that is gone with its job, the position before the first that was made after it; None if there is none.
    """
    own = select(Event.position).join(Job, Job.id == Event.job_id).where(Job.project == project)
    placed = own.where(Event.position.is_not(None))
    exact = session.scalar(placed.where(Event.id == event_id))
    if exact is not None:
        return exact
    following = session.scalar(placed.where(Event.id > event_id).order_by(Event.id).limit(1))
    return None if following is None else following - 1
