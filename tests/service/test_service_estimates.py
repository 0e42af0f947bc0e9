"""What a dry run says, the run does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from saddlescope.analysis import analyze_problem
from saddlescope.contract.jobs import JobRequest, Usage
from service.estimates import estimate
from store.precedents import Precedent
from workers.building import build_problem


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "lanczos", "max_matvecs": 5},
        {"max_matvecs": 7},
        {"dtype": "float32"},
        {"method": "dense", "dtype": "float32"},
    ],
)
def test_method_precision_and_products_are_those_of_the_run(options: dict[str, object]) -> None:
    request = JobRequest.model_validate(
        {
            "checkpoint": {"inline": {"w": [0.1 * k for k in range(12)]}},
            "loss": {"kind": "expression", "expression": "sum((1 - w**2)**2)"},
            "options": {**options, "landscape": False},
        }
    )
    told = estimate(request, {})
    report = analyze_problem(build_problem(request, {}).problem, request.options).report
    assert (told.method, told.dtype) == (report.numerics.method, report.numerics.dtype)
    assert told.num_parameters == report.num_parameters
    # Beside the main run: pre-flight, smoothness, criticality and the measurements of directions.
    assert told.matvecs <= report.numerics.num_matvecs <= told.matvecs + 50


def asked(step: int, **changes: object) -> dict[str, object]:
    """A checkpoint of a run: the same loss and data, other weights."""
    rows = [[0.1 * k, 1.0] for k in range(30)]
    request = {
        "checkpoint": {"inline": {"w": [0.01 * step, 1.0]}},
        "loss": {"kind": "expression", "expression": "mean((x @ w)**2)"},
        "data": {"inline": {"x": rows}},
        "options": {"landscape": False},
        "force": True,
    }
    return request | changes


def test_seconds_are_those_of_the_run_s_last_checkpoints(client: TestClient, finish: Callable[[str], None]) -> None:
    def told(body: dict[str, object]) -> dict[str, object]:
        answer = client.post("/v1/jobs?dry_run=true", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert told(asked(0))["seconds"] is None
    finish(client.post("/v1/jobs", json=asked(0)).json()["id"])  # the worker says 0.1 s
    assert told(asked(1))["seconds"] == pytest.approx(0.1)
    assert told(asked(1, options={"landscape": False, "seed": 7}))["seconds"] == pytest.approx(0.1)
    rows = {"x": [[1.0, 1.0]] * 700}
    assert (
        told(asked(1, data={"inline": rows}, loss={"kind": "expression", "expression": "sum(w**4)"}))["seconds"] is None
    )


@pytest.mark.parametrize(("factor", "is_told"), [(0.1, True), (1.0, True), (9.0, True), (11.0, False), (0.09, False)])
def test_seconds_go_with_work_between_jobs_of_comparable_work(factor: float, is_told: bool) -> None:
    request = JobRequest.model_validate(asked(1))
    plain = estimate(request, {})
    work = plain.matvecs * plain.num_parameters * (plain.num_examples or 0)
    assert work == 2 * 2 * 30
    report = analyze_problem(build_problem(request, {}).problem, request.options).report
    numerics = report.numerics.model_copy(update={"num_matvecs": 1, "method": plain.method})
    report = report.model_copy(
        update={"numerics": numerics, "num_parameters": 1, "num_examples": work / factor}  # as much work over `factor`
    )
    other = JobRequest.model_validate(asked(1, loss={"kind": "expression", "expression": "mean((x @ w)**4)"}))
    usage = Usage(seconds=3.0, matvecs=1, peak_memory_bytes=1, device="cpu")
    told = estimate(request, {}, [Precedent(other, report, usage)])
    assert told.seconds == (pytest.approx(3.0 * factor) if is_told else None)
    assert told.model_copy(update={"seconds": None}) == plain
