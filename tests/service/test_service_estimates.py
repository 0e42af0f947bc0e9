"""What a dry run says, the run does."""

from __future__ import annotations

import pytest

from saddlescope.analysis import analyze_problem
from saddlescope.contract.jobs import JobRequest
from service.estimates import estimate
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
