"""Real databases: every law that takes `sessions` is held on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import database
from sqlalchemy.orm import Session, sessionmaker

from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.reports import Report
from store.database import open_engine, open_sessions
from store.fingerprints import fingerprint
from store.jobs import insert_job
from store.records import JobRow


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    with database(request.getfixturevalue("postgresql")) as url:
        yield url


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
