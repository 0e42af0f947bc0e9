"""`by_lanczos` as a whole: within its budget and memory, certified."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from saddlescope.curvature.knowledge import SpectralKnowledge
from saddlescope.curvature.noise import preflight
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.spectrum import by_eigendecomposition, by_lanczos

SIZE = 800


def analysed(
    spectrum: Tensor, *, seed: int = 0, budget: int = 300, wanted: int = 4, **options
) -> tuple[SpectralKnowledge, int]:
    problem = Problem(lambda t, _: 0.5 * (spectrum * t["x"] ** 2).sum(), {"x": torch.zeros_like(spectrum)})
    objective = Objective(problem, dtype=spectrum.dtype)
    operator, generator = HessianOperator(objective, objective.theta), torch.Generator().manual_seed(seed)
    measured = preflight(objective, operator, generator=generator)
    before, fractions = operator.num_matvecs, []
    knowledge = by_lanczos(
        operator,
        measured,
        max_matvecs=budget,
        failure_probability=1e-3,
        zero_tol=None,
        num_directions=wanted,
        generator=generator,
        on_progress=lambda fraction, *_: fractions.append(fraction),
        **options,
    )
    assert fractions == sorted(fractions)
    assert all(fraction <= 1 for fraction in fractions)
    return knowledge, operator.num_matvecs - before


SPECTRA = {
    "double negative": [-1.0, -1.0, -0.2, *torch.linspace(0.5, 10, SIZE - 3).tolist()],
    "kernel": [0.0] * 300 + torch.linspace(1, 3, SIZE - 300).tolist(),
    "minimum": torch.linspace(0.5, 3, SIZE).tolist(),
    "maximum": torch.linspace(-3, -0.5, SIZE).tolist(),
    "clustered": [-1.0, -1.0 + 1e-8, *[1.0] * 300, *[1.0 + 1e-8] * (SIZE - 302)],
    "a millionth": [-1e-6, *torch.linspace(0.1, 1, SIZE - 1).tolist()],
}


@pytest.mark.parametrize("rows", [3, 30, 300])
@pytest.mark.parametrize("name", SPECTRA)
def test_every_bound_holds_in_any_memory(name: str, rows: int) -> None:
    spectrum = torch.tensor(SPECTRA[name], dtype=torch.float64)
    knowledge, products = analysed(spectrum, basis_bytes=8 * SIZE * (rows + 1))
    assert products <= 300 + len(knowledge.lowest) + 2
    assert knowledge.lambda_min.low - 1e-12 <= spectrum.min().item() <= knowledge.lambda_min.high + 1e-12
    assert knowledge.lambda_max.low - 1e-12 <= spectrum.max().item() <= knowledge.lambda_max.high + 1e-12
    tau = knowledge.zero_tol
    truth = [(spectrum < -tau).sum(), (spectrum.abs() <= tau).sum(), (spectrum > tau).sum()]
    for share, count in zip((knowledge.negative, knowledge.zero, knowledge.positive), truth, strict=True):
        assert share.low - 1e-12 <= count.item() / SIZE <= share.high + 1e-12
        assert share.low - 1e-12 <= share.estimate <= share.high + 1e-12
    negatives = int(truth[0])
    if negatives and rows > 3:
        expected = sorted(spectrum.tolist())[: min(4, negatives)]
        found = [direction.curvature for direction in knowledge.lowest]
        if not knowledge.is_budget_spent and negatives <= 4:
            assert found == pytest.approx(expected, abs=1e-2)
        assert knowledge.lowest
    assert all(direction.curvature < -tau for direction in knowledge.lowest)
    assert bool(knowledge.lowest) or not negatives or name == "a millionth"
    assert knowledge.cycle is not None
    assert knowledge.cycle.basis.numel() == 0


def test_the_bound_fails_no_more_often_than_it_says_whatever_follows_the_first_cycle() -> None:
    spectrum = torch.cat([torch.tensor([-0.3]), torch.linspace(0.5, 10, SIZE - 1)]).double()
    failures = 0
    for seed in range(60):
        knowledge, _ = analysed(spectrum, seed=seed, budget=14, basis_bytes=8 * SIZE * 9)
        failures += not knowledge.lambda_min.low <= -0.3 <= knowledge.lambda_min.high
    assert failures <= 1e-3 * 60 + 3.5 * math.sqrt(60 * 1e-3)


def test_both_methods_tell_the_same_story() -> None:
    spectrum = torch.tensor(SPECTRA["double negative"], dtype=torch.float64)[:200]
    problem = Problem(lambda t, _: 0.5 * (spectrum * t["x"] ** 2).sum(), {"x": torch.zeros_like(spectrum)})
    objective = Objective(problem, dtype=torch.float64)
    operator, generator = HessianOperator(objective, objective.theta), torch.Generator().manual_seed(0)
    measured = preflight(objective, operator, generator=generator)
    dense = by_eigendecomposition(
        operator, measured, zero_tol=None, num_directions=4, generator=generator, on_progress=lambda _: None
    )
    free, _ = analysed(spectrum, budget=200)
    assert dense.inertia == (3, 0, 197)
    assert [d.curvature for d in free.lowest] == pytest.approx([d.curvature for d in dense.lowest], abs=1e-3)
    assert free.lowest_direction == free.lowest[0]
    assert free.negative.low >= 3 / 200 - 1e-12


@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_a_proven_saddle_ends_the_run_where_nothing_more_is_asked(wanted: int) -> None:
    spectrum = torch.tensor(SPECTRA["double negative"], dtype=torch.float64)
    thorough, _ = analysed(spectrum, wanted=wanted)
    brief, products = analysed(spectrum, wanted=wanted, is_brief=True)
    assert brief.cycle is not None
    steps = brief.cycle.num_steps
    assert products == steps + max(1, wanted) + 1  # and a measurement of each direction
    assert thorough.num_probes > brief.num_probes == 1
    assert len(brief.lowest) == max(1, wanted)
    assert brief.lowest[0].curvature == pytest.approx(-1.0, abs=1e-3)
    assert brief.positive.low <= thorough.positive.estimate <= brief.positive.high


def test_what_is_not_proven_is_looked_at_in_full_however_brief() -> None:
    spectrum = torch.tensor(SPECTRA["kernel"], dtype=torch.float64)
    assert analysed(spectrum, is_brief=True)[1] == analysed(spectrum)[1]
