"""A run that must be done by a moment answers with what it could buy until then, and says what it left out."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from saddlescope.analysis import analyze_problem
from saddlescope.contract.jobs import Options
from saddlescope.curvature.objective import Problem
from saddlescope.results import AnalysisReport

Tensors = Mapping[str, Tensor]


class Slow(torch.autograd.Function):
    """The identity, each derivative of which takes its time."""

    @staticmethod
    def forward(ctx: object, x: Tensor, seconds: float) -> Tensor:
        ctx.seconds = seconds
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, None]:
        time.sleep(ctx.seconds)
        return Slow.apply(gradient, ctx.seconds), None


def quadratic(curvatures: Tensor, seconds: float) -> Problem:
    def loss(t: Tensors, _: Tensors) -> Tensor:
        x = Slow.apply(t["x"], seconds)
        return 0.5 * (curvatures * x) @ x

    return Problem(loss, {"x": torch.zeros_like(curvatures)})


def answered(problem: Problem, seconds: float | None, **options: object) -> tuple[AnalysisReport, list[str]]:
    deadline = None if seconds is None else time.monotonic() + seconds
    report = analyze_problem(problem, Options(**options), deadline=deadline)
    return report, [warning.code for warning in report.warnings]


SADDLE = torch.cat([torch.tensor([-1.0, -0.99]), torch.linspace(0.1, 2, 5998)]).double()
RISING = torch.linspace(0.001, 2, 6000).double()


def test_lanczos_stops_early_enough_and_says_so() -> None:
    report, codes = answered(quadratic(RISING, 0.02), 4.0, density=False)
    assert report.numerics.num_matvecs < 150
    assert "cut_short" in codes
    assert report.verdict == "undecided"


def test_a_saddle_is_proven_all_the_same_where_a_few_products_show_it() -> None:
    report, codes = answered(quadratic(SADDLE, 0.02), 4.0, landscape=False)
    assert report.verdict == "saddle"
    assert report.escapes
    assert report.escapes[0].verified
    assert report.numerics.num_matvecs < 150
    assert "cut_short" in codes


def test_a_hessian_as_a_whole_gives_way_to_lanczos() -> None:
    curvatures = SADDLE[:800]
    report, codes = answered(quadratic(curvatures, 0.01), 4.0, landscape=False)
    assert (report.numerics.method, report.verdict) == ("lanczos", "saddle")
    assert "cut_short" in codes
    assert not report.inertia.exact


@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_a_deadline_that_has_come_claims_nothing_that_it_cannot(seconds: float) -> None:
    # The gradient is not zero, and nothing but its Krylov space can tell what it buys.
    curvatures = torch.linspace(0.5, 2, 6000).double()
    problem = quadratic(curvatures, 0.01)
    problem.params["x"][:] = 1e-3
    report, codes = answered(problem, seconds, landscape=False)
    assert report.verdict in {"undecided", "not_critical"}
    assert "cut_short" in codes
    assert report.numerics.num_matvecs < 60


def test_ample_time_changes_nothing() -> None:
    plain, codes = answered(quadratic(SADDLE, 0.0), None, landscape=False)
    timed, timed_codes = answered(quadratic(SADDLE, 0.0), 3600.0, landscape=False)
    first, second = plain.report.model_dump(), timed.report.model_dump()
    del first["numerics"]["seconds"], second["numerics"]["seconds"]
    assert first == second
    assert codes == timed_codes
