"""Claims about a population from a sample: unbiased, covered as often as promised, and not fooled by selection."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from saddlescope.contract.vocabulary import Reduction
from saddlescope.curvature.dense import dense_hessian
from saddlescope.curvature.noise import preflight
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.sampling import (
    GradientSampling,
    can_split,
    gradient_sampling,
    restricted,
    sampled_curvature,
    sign_flip_p_value,
)
from saddlescope.curvature.student import t_quantile, t_tail

Tensors = dict[str, Tensor]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear_and_quadratic(t: Tensors, batch: Tensors) -> Tensor:
    """Rows z_i with ℓ_i = z_iᵀw + ½ Σ_j d_ij w_j²: the population's gradient is E z and its Hessian diag(E d)."""
    return (batch["z"] @ t["w"]).mean() + 0.5 * (batch["d"] @ t["w"].square()).mean()


def sample(seed: int, *, rows: int, gradient: float, curvature: float, size: int = 8) -> Objective:
    draw = torch.randn(2, rows, size, generator=seeded(seed), dtype=torch.float64)
    data = {"z": draw[0] + gradient / math.sqrt(size), "d": curvature + draw[1]}
    return Objective(
        Problem(loss=linear_and_quadratic, params={"w": torch.zeros(size, dtype=torch.float64)}, data=data),
        dtype=torch.float64,
    )


def gradient_of(objective: Objective, seed: int) -> GradientSampling:
    outcome = gradient_sampling(objective, lambda v: v, loss_noise=0.0, generator=seeded(seed))
    assert outcome is not None
    return outcome


@pytest.mark.parametrize("degrees", [1, 2, 3, 7, 15, 40])
@pytest.mark.parametrize("tail", [0.25, 0.05, 1e-3, 1e-6])
def test_the_quantile_of_students_t_inverts_its_tail(degrees: int, tail: float) -> None:
    quantile = t_quantile(tail, degrees)
    assert t_tail(quantile, degrees) == pytest.approx(tail, rel=1e-6)
    # The density integrated from the quantile on, by a fine rule in u = 1/x.
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000 / quantile
    x = 1 / u
    log_density = (
        math.lgamma((degrees + 1) / 2)
        - math.lgamma(degrees / 2)
        - 0.5 * math.log(degrees * math.pi)
        - (degrees + 1) / 2 * torch.log1p(x**2 / degrees)
    )
    assert (log_density.exp() * x**2).mean().item() / quantile == pytest.approx(tail, rel=1e-4)


def test_known_quantiles() -> None:
    assert t_quantile(0.025, 7) == pytest.approx(2.364624, abs=1e-6)
    assert t_quantile(0.001, 15) == pytest.approx(3.732834, abs=1e-6)


def test_the_squared_norm_is_unbiased_where_the_naive_one_is_not() -> None:
    true, rows, size = 0.2, 64, 8
    outcomes, naive = [], []
    for seed in range(100):
        objective = sample(seed, rows=rows, gradient=true, curvature=1.0)
        outcomes.append(gradient_of(objective, seed))
        naive.append(objective.gradient(objective.theta)[1].square().sum().item())
    estimates = torch.tensor([outcome.squared_norm for outcome in outcomes])
    error = estimates.std() / math.sqrt(len(outcomes))
    assert abs(estimates.mean() - true**2) <= 4 * error
    assert torch.tensor(naive).mean() - true**2 == pytest.approx(size / rows, rel=0.25)
    claimed = torch.tensor([outcome.squared_norm_error for outcome in outcomes]).mean()
    assert claimed == pytest.approx(estimates.std().item(), rel=0.3)
    spread = torch.tensor([outcome.sampling_error for outcome in outcomes]).mean()
    assert spread == pytest.approx(math.sqrt(size / rows), rel=0.1)


def test_a_zero_gradient_is_called_so_as_often_as_promised_and_a_real_one_is_not() -> None:
    levels = [gradient_of(sample(seed, rows=64, gradient=0.0, curvature=1.0), seed) for seed in range(100)]
    assert 0.88 <= sum(outcome.is_zero_to_sampling for outcome in levels) / 100 <= 0.99
    real = [gradient_of(sample(seed, rows=64, gradient=1.0, curvature=1.0), seed) for seed in range(10)]
    assert not any(outcome.is_zero_to_sampling for outcome in real)


def test_sign_flips_agree_with_enumeration() -> None:
    gradients = torch.randn(5, 3, generator=seeded(0), dtype=torch.float64)
    totals = []
    for code in range(16):
        signs = torch.tensor([1.0 - 2.0 * ((code >> bit) & 1) for bit in range(5)], dtype=torch.float64)
        totals.append((signs @ gradients).square().sum().item())
    expected = sum(total >= totals[0] * (1 - 1e-12) for total in totals) / 16
    assert sign_flip_p_value(gradients @ gradients.T) == expected


def test_what_noise_appears_to_buy_shrinks_with_the_rows() -> None:
    few, many = (
        sum(gradient_of(sample(seed, rows=rows, gradient=0.0, curvature=1.0), seed).decrease for seed in range(6))
        for rows in (64, 1024)
    )
    assert few / many == pytest.approx(16, rel=0.5)


@pytest.mark.parametrize("reduction", [Reduction.MEAN, Reduction.SUM])
def test_parts_average_to_the_whole(reduction: Reduction) -> None:
    data = {"x": torch.randn(30, 2, generator=seeded(0), dtype=torch.float64)}
    reduce = torch.mean if reduction is Reduction.MEAN else torch.sum
    problem = Problem(
        loss=lambda t, b: reduce(torch.tanh(b["x"] @ t["w"])),
        params={"w": torch.tensor([0.3, -0.7], dtype=torch.float64)},
        data=data,
        reduction=reduction,
        scale=0.5,
        weight_decay=0.1,
    )
    objective = Objective(problem, dtype=torch.float64, batch_size=7)
    parts = torch.randperm(30, generator=seeded(1)).tensor_split(3)
    losses, gradients = zip(*(restricted(objective, part).gradient(objective.theta) for part in parts), strict=True)
    loss, gradient = objective.gradient(objective.theta)
    assert sum(losses) / 3 == pytest.approx(loss, rel=1e-12)
    assert torch.allclose(sum(gradients) / 3, gradient, rtol=1e-12)


def test_negative_curvature_that_only_the_sample_shows_is_not_claimed() -> None:
    false_claims = biased = 0
    for seed in range(40):
        objective = sample(seed, rows=64, gradient=0.0, curvature=0.0)  # the population is flat
        naive = torch.linalg.eigvalsh(dense_hessian(HessianOperator(objective, objective.theta)))[0].item()
        outcome = sampled_curvature(objective, failure_probability=0.05, generator=seeded(seed))
        assert outcome is not None
        biased += naive < -0.1
        false_claims += outcome.is_below(0.0)
    assert biased > 20  # choosing the direction on the rows it is measured on would claim it
    assert false_claims <= 6  # 5 % of 40 is 2; 7 or more has a chance below 1 %


def test_negative_curvature_of_the_population_is_claimed() -> None:
    objective = sample(0, rows=512, gradient=0.0, curvature=-1.0)
    outcome = sampled_curvature(objective, failure_probability=1e-3, generator=seeded(0))
    assert outcome is not None
    assert outcome.is_below(0.1)
    assert outcome.found < outcome.mean < 0
    assert outcome.num_chunks == 16
    assert outcome.upper == pytest.approx(outcome.mean + t_quantile(1e-3, 15) * outcome.standard_error)


def test_too_few_rows_or_a_loss_of_all_rows_say_nothing() -> None:
    few = sample(0, rows=12, gradient=0.0, curvature=1.0)
    assert not can_split(few.problem)
    assert gradient_sampling(few, lambda v: v, loss_noise=0.0, generator=seeded(0)) is None
    assert sampled_curvature(few, failure_probability=0.01, generator=seeded(0)) is None


def test_the_same_seed_gives_the_same_answer() -> None:
    objective = sample(0, rows=100, gradient=0.1, curvature=0.0)
    assert gradient_of(objective, 5) == gradient_of(objective, 5)
    assert preflight(objective, HessianOperator(objective, objective.theta), generator=seeded(0)).loss == 0.0
