"""The parts that every request works with, opened once per process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from celery import Celery
from fastapi import Depends, Request
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from service.metrics import Metrics
from service.settings import Settings
from store.blobs import BlobStore, open_blobs
from store.database import open_engine, open_sessions
from store.doorbell import celery_app
from store.keys import load_pepper


@dataclass(frozen=True)
class Parts:
    settings: Settings
    engine: Engine
    sessions: sessionmaker[Session]
    blobs: BlobStore
    doorbell: Celery
    metrics: Metrics
    pepper: bytes


def open_parts(settings: Settings) -> Parts:
    """Open database, blobs and doorbell. The database has been migrated; the broker may be down.

    Raises:
        ValueError: if no broker is named.
    """
    if settings.broker_url is None:
        raise ValueError("no broker: set SADDLESCOPE_BROKER_URL, or start `python -m service`, which embeds one")
    engine = open_engine(settings.database())
    return Parts(
        settings=settings,
        engine=engine,
        sessions=open_sessions(engine),
        blobs=open_blobs(settings.blobs(), local=settings.data / "local"),
        doorbell=celery_app(settings.broker_url),
        metrics=Metrics(),
        pepper=key_pepper(settings),
    )


def key_pepper(settings: Settings) -> bytes:
    """The secret under which API keys are hashed; made on first use where none is configured."""
    if settings.key_pepper is not None:
        return settings.key_pepper.get_secret_value().encode()
    settings.data.mkdir(parents=True, exist_ok=True)
    return load_pepper(settings.data / "key-pepper")


def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


PartsOf = Annotated[Parts, Depends(_parts)]
