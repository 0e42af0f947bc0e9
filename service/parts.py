"""The parts that every request works with, opened once per process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from celery import Celery
from fastapi import Depends, Request
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from service.bells import Bells
from service.drawn import Drawn
from service.metrics import Metrics
from service.rates import Rates
from service.receptions import Receptions
from service.settings import Settings
from store.blobs import BlobStore, open_blobs
from store.commits import SharedCommits
from store.database import close_engine, on_outage, open_engine, open_glances, open_sessions
from store.doorbell import celery_app
from store.keys import load_pepper
from store.staging import Staging, open_staging


@dataclass(frozen=True)
class Parts:
    settings: Settings
    engine: Engine
    sessions: sessionmaker[Session]
    glances: sessionmaker[Session]
    """For a read of one statement."""
    blobs: BlobStore
    staging: Staging
    receptions: Receptions
    doorbell: Celery
    metrics: Metrics
    pepper: bytes
    commits: SharedCommits
    bells: Bells
    rates: Rates
    drawn: Drawn

    def close(self) -> None:
        """Ring for what was accepted, then let go of broker and database."""
        self.bells.close()
        self.doorbell.close()
        close_engine(self.engine)


def open_parts(settings: Settings) -> Parts:
    """Open database, blobs and doorbell. The database has been migrated; the broker may be down.

    Raises:
        ValueError: if no broker is named.
    """
    if settings.broker_url is None:
        raise ValueError("no broker: set SADDLESCOPE_BROKER_URL, or start `python -m service`, which embeds one")
    engine, metrics = open_engine(settings.database()), Metrics()
    on_outage(engine, metrics.errors.labels("database").inc)
    sessions, doorbell = open_sessions(engine), celery_app(settings.broker_url)
    commits = SharedCommits(sessions)
    blobs = open_blobs(settings.blobs(), local=settings.data / "local")
    return Parts(
        settings=settings,
        engine=engine,
        sessions=sessions,
        glances=open_glances(engine),
        blobs=blobs,
        staging=open_staging(blobs),
        receptions=Receptions(),
        doorbell=doorbell,
        metrics=metrics,
        pepper=key_pepper(settings),
        commits=commits,
        bells=Bells(doorbell, commits, metrics),
        rates=Rates(settings.broker_url),
        drawn=Drawn(),
    )


def key_pepper(settings: Settings) -> bytes:
    """The secret under which API keys are hashed; made on first use where none is configured."""
    if settings.key_pepper is not None:
        return settings.key_pepper.get_secret_value().encode()
    settings.data.mkdir(parents=True, exist_ok=True)
    return load_pepper(settings.data / "key-pepper")


# Async, as all dependencies that wait for nothing: FastAPI sends the others through a thread, which costs more than they do.
async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


PartsOf = Annotated[Parts, Depends(_parts)]
