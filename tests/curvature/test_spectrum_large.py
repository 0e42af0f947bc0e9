"""A million parameters without a matrix: verdicts, orthogonality in single precision, memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import torch
from torch import Tensor

import saddlescope
from saddlescope.curvature.certificate import lambda_min_bound
from saddlescope.curvature.lanczos import sphere_vector, tridiagonalize

SIZE = 10**6


def rotated(spectrum: Tensor):
    normal = torch.randn(spectrum.numel(), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    normal = (normal / normal.norm()).to(spectrum.dtype)

    def loss(t: dict[str, Tensor]) -> Tensor:
        y = t["x"] - 2 * normal * torch.dot(normal, t["x"])
        return 0.5 * (spectrum * y * y).sum()

    return loss


def parts(*pieces: tuple[float, float, int]) -> Tensor:
    return torch.cat([torch.linspace(low, high, count, dtype=torch.float64) for low, high, count in pieces])


@pytest.mark.parametrize(
    ("spectrum", "verdicts"),
    [
        (parts((-0.1, -0.1, 1), (0.5, 10, SIZE - 1)), {"saddle"}),
        (parts((-3, -1, 300_000), (0, 0, 400_000), (1, 3, 300_000)), {"saddle"}),
        (parts((-10, -1, SIZE)), {"local_maximum"}),
        (parts((1, 10, SIZE)), {"local_minimum", "undecided"}),
        (parts((-1e-6, -1e-6, 1), (1, 10, SIZE - 1)), {"saddle", "undecided"}),
    ],
    ids=["one negative", "three parts", "maximum", "minimum", "a millionth negative"],
)
def test_a_million_parameters_get_the_right_verdict_or_none(spectrum: Tensor, verdicts: set[str]) -> None:
    report = saddlescope.analyze(
        rotated(spectrum), {"x": torch.zeros(SIZE, dtype=torch.float64)}, landscape=False, max_matvecs=45
    )
    assert report.verdict in verdicts, report.summary
    assert report.lambda_min.low <= spectrum.min().item() + 1e-9
    assert report.lambda_max.high >= spectrum.max().item() - 1e-9
    assert report.minimum_ratio.low <= (spectrum > 0).double().mean().item() <= report.minimum_ratio.high
    assert report.numerics.num_matvecs <= 65


def test_a_valley_with_one_curved_direction_in_a_million() -> None:
    weights = torch.ones(SIZE, dtype=torch.float64)
    report = saddlescope.analyze(
        lambda t: (1 - torch.exp(torch.log(t["w"]).sum())) ** 2, {"w": weights}, landscape=False, max_matvecs=40
    )
    assert report.verdict in {"flat_minimum", "undecided"}, report.summary
    assert report.lambda_max.estimate == pytest.approx(2 * SIZE, rel=1e-6)
    assert report.minimum_ratio.low <= 1e-6 <= report.minimum_ratio.high
    assert report.minimum_ratio.high <= 1e-4


def test_single_precision_keeps_the_basis_orthonormal_and_the_bound_below_the_truth() -> None:
    spectrum = torch.linspace(-0.2, 10, 200_000)
    generator = torch.Generator().manual_seed(0)
    start = sphere_vector(spectrum.numel(), generator=generator, dtype=torch.float32, device=torch.device("cpu"))
    cycle = tridiagonalize(lambda v: spectrum * v, start, num_matvecs=80)
    wide = cycle.basis.double()
    assert (wide @ wide.T - torch.eye(80)).abs().max() <= 8 * torch.finfo(torch.float32).eps
    relation = wide * spectrum.double() - (torch.diag(cycle.alpha) + torch.diag(cycle.beta[:-1], 1)).T @ wide
    relation[:-1] -= cycle.beta[:-1, None] * wide[1:]
    assert relation[:-1].norm(dim=1).max() <= 1e-5
    assert lambda_min_bound(cycle, size=200_000, failure_probability=1e-3, product_error=0.0) <= -0.2


def test_four_million_parameters_take_the_basis_and_six_vectors() -> None:
    script = """
    import resource, sys
    import torch
    from saddlescope.curvature.lanczos import sphere_vector, tridiagonalize
    from saddlescope.curvature.extremes import EndsGoal, find_extremes

    torch.set_num_threads(1)
    size, rows = 4_000_000, 12
    spectrum = torch.linspace(1, 10, size)
    spectrum[0] = -0.5
    generator = torch.Generator().manual_seed(0)
    spectrum[:10] * spectrum[:10]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = sphere_vector(size, generator=generator, dtype=torch.float32, device=torch.device("cpu"))
    cycle = tridiagonalize(lambda v: spectrum * v, start, num_matvecs=rows)
    del start
    goal = EndsGoal(tolerance_of=lambda scale: 1e-5 * scale, num_directions=1)
    found = find_extremes(lambda v: spectrum * v, cycle, goal, is_settled=False, max_matvecs=40, generator=generator,
                          on_progress=lambda *_: None)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print((after - before) * 1024 / (4 * size) - rows, found.lowest[0].curvature)
    """
    output = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    vectors, curvature = map(float, output.split())
    assert vectors <= 7  # q_{k+1} belongs to the basis' storage
    assert curvature == pytest.approx(-0.5, abs=1e-2)
