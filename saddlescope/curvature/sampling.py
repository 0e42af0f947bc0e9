"""When the rows are a sample: is the gradient zero, and is a curvature negative, for the population they stand for?

The naive ‖ḡ‖² is biased upwards by tr Cov(ḡ); products of gradients from disjoint chunks of rows are not. A direction of
negative curvature that was chosen on the rows it is measured on is biased downwards, so it is found on one half of the
rows and measured chunk by chunk on the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from saddlescope.contract.vocabulary import Reduction
from saddlescope.curvature.criticality import saddle_free_decrease
from saddlescope.curvature.lanczos import LanczosCycle, sphere_vector, tridiagonalize
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.student import t_quantile

NUM_CHUNKS = 16
MIN_CHUNKS = 8
GRADIENT_NUMBERS = 2**28  # chunk gradients that are held at once
SIGN_LEVEL = 0.05
NOISE_DRAWS = 3
SEARCH_PRODUCTS = 60
SEARCH_RTOL = 1e-3


@dataclass(frozen=True)
class GradientSampling:
    """What sampling does to the gradient.

    Attributes:
        squared_norm: unbiased estimate of ‖∇L‖² of the population, the mean of g_aᵀg_b over pairs of chunks, which is
            ḡ₁ᵀḡ₂ averaged over every split into halves; it may be negative.
        squared_norm_error: its standard error.
        sampling_error: √tr Cov(ḡ), how far ḡ lies from the population's gradient, in the units of ‖g‖.
        p_value: chance of a gradient as large as this if the population's is zero, by flipping signs of chunks.
        decrease: what a gradient of pure sampling noise would appear to buy, in the units of L.
        num_chunks: disjoint chunks of rows that were compared.
    """

    squared_norm: float
    squared_norm_error: float
    sampling_error: float
    p_value: float
    decrease: float
    num_chunks: int

    @property
    def is_zero_to_sampling(self) -> bool:
        return self.p_value > SIGN_LEVEL


@dataclass(frozen=True)
class SampledCurvature:
    """The curvature of a direction that was chosen on other rows than those it is measured on.

    Attributes:
        vector: unit direction (n,).
        found: its curvature on the half it was found on; too low by selection.
        mean: its curvature on the other half.
        standard_error: of the mean, from the spread between chunks.
        quantile: Student's t at the asked confidence.
        failure_probability: of `upper` as a bound.
    """

    vector: Tensor
    found: float
    mean: float
    standard_error: float
    quantile: float
    failure_probability: float
    num_chunks: int

    @property
    def upper(self) -> float:
        """An upper confidence bound on the population's curvature along the direction, hence on its λ_min."""
        return self.mean + self.quantile * self.standard_error

    def is_below(self, zero_tol: float) -> bool:
        """Whether negative curvature may be claimed for the population."""
        return self.upper < -zero_tol


def can_split(problem: Problem) -> bool:
    """Whether there are rows enough, and a loss that may be taken over some of them."""
    return problem.is_additive and problem.num_examples >= 2 * MIN_CHUNKS


def shuffled_rows(problem: Problem, *, generator: torch.Generator) -> Tensor:
    """A random order of the rows (N,) on the CPU."""
    return torch.randperm(problem.num_examples, generator=generator)


def restricted(objective: Objective, rows: Tensor) -> Objective:
    """The estimate of L from some rows (m,): the same mean, or N/m times the same sum, with the same weight decay.

    Raises:
        ValueError: if the loss may not be taken over a part of the rows.
    """
    problem = objective.problem
    if not problem.is_additive:
        raise ValueError("this loss is not a sum over rows, so it cannot be estimated from some of them")
    grow = 1.0 if problem.reduction is Reduction.MEAN else problem.num_examples / rows.numel()
    part = replace(
        problem,
        data={name: tensor[rows.to(tensor.device)] for name, tensor in problem.data.items()},
        scale=problem.scale * grow,
    )
    size = min(objective.batch_size, rows.numel())
    return Objective(part, dtype=objective.dtype, device=str(objective.device), batch_size=size)


def gradient_sampling(
    objective: Objective, matvec: Callable[[Tensor], Tensor], *, loss_noise: float, generator: torch.Generator
) -> GradientSampling | None:
    """Split the rows into up to 16 chunks and compare their gradients; None where they cannot be split.

    Costs one pass of gradients over the data and 90 products. Chunk gradients (C, n) are held at once. Every balanced
    sign pattern of the chunks cancels the mean and keeps the noise, which is what the p-value and `decrease` rest on.
    """
    if not can_split(objective.problem):
        return None
    room = max(GRADIENT_NUMBERS // objective.num_parameters, MIN_CHUNKS)
    count = min(NUM_CHUNKS, objective.num_examples // 2, room)
    rows = shuffled_rows(objective.problem, generator=generator).tensor_split(count)
    gradients = torch.stack([restricted(objective, part).gradient(objective.theta)[1] for part in rows])  # (C, n)
    weights = torch.tensor([part.numel() for part in rows], dtype=torch.float64)
    weights = weights / weights.mean()  # chunks differ by at most one row
    gram = _gram(gradients) * weights[:, None] * weights
    scales = objective.relative_scales()
    noises = []
    for _ in range(NOISE_DRAWS):
        signs = _balanced_signs(count, generator) * weights
        noise = scales * (signs.to(gradients) @ gradients) / count
        found, _ = saddle_free_decrease(
            lambda v: scales * matvec(scales * v), noise, loss_noise=loss_noise, bases=objective.problem.bases
        )
        noises.append(found)
    squared, squared_error = _unbiased_square(gram)
    total = gram.sum().item() / count**2
    spread = max(gram.trace().item() / count - total, 0.0) / (count - 1)
    return GradientSampling(
        squared_norm=squared,
        squared_norm_error=squared_error,
        sampling_error=math.sqrt(spread),
        p_value=sign_flip_p_value(gram),
        decrease=max(noises),
        num_chunks=count,
    )


def _gram(gradients: Tensor) -> Tensor:
    """G Gᵀ (C, C) in float64 on the CPU, a block of columns at a time: G (C, n) is never copied whole."""
    gram = torch.zeros(gradients.shape[0], gradients.shape[0], dtype=torch.float64, device=gradients.device)
    for block in torch.split(gradients, 2**20, dim=1):
        wide = block.double()
        gram += wide @ wide.T
    return gram.cpu()


def _unbiased_square(gram: Tensor) -> tuple[float, float]:
    """The mean of g_aᵀg_b over a ≠ b, and its standard error as a U-statistic of order two (Hoeffding 1948)."""
    count = gram.shape[0]
    off = gram - torch.diag(gram.diagonal())
    pairs = count * (count - 1)
    mean = off.sum().item() / pairs
    zeta_two = ((off**2).sum().item() / pairs - mean**2) * pairs / (pairs - 2)
    # A row's mean of count − 1 products carries ζ₂/(count − 1) of noise besides ζ₁.
    zeta_one = max((off.sum(1) / (count - 1)).var().item() - zeta_two / (count - 1), 0.0)
    return mean, math.sqrt(max(4 * (count - 2) * zeta_one + 2 * zeta_two, 0.0) / pairs)


def sign_flip_p_value(gram: Tensor) -> float:
    """The share of the 2^(C−1) sign patterns s for which sᵀGs is at least 1ᵀG1, G (C, C) the chunks' inner products.

    Exact for any law of chunk gradients that is symmetric about zero (Fisher 1935).
    """
    count = gram.shape[0]
    codes = torch.arange(2 ** (count - 1))
    bits = torch.bitwise_right_shift(codes[:, None], torch.arange(count)) & 1
    signs = 1.0 - 2.0 * bits.double()  # (2^(C−1), C); the last sign is +1
    values = ((signs @ gram) * signs).sum(1)
    return (values >= values[0] * (1 - 1e-12)).double().mean().item()


def _balanced_signs(count: int, generator: torch.Generator) -> Tensor:
    signs = torch.ones(count, dtype=torch.float64)
    signs[torch.randperm(count, generator=generator)[: count // 2]] = -1.0
    return signs if count % 2 == 0 else signs - signs.mean()


def sampled_curvature(
    objective: Objective, *, failure_probability: float, generator: torch.Generator
) -> SampledCurvature | None:
    """Find the lowest curvature on one half of the rows and measure it per chunk on the other half.

    The start vector is drawn at random: one that knows the other half would carry its noise over. Costs up to 60
    products over the first half and one over the second. None where the rows cannot be split.
    """
    if not can_split(objective.problem):
        return None
    order = shuffled_rows(objective.problem, generator=generator)
    first, second = order.tensor_split(2)
    operator = HessianOperator(restricted(objective, first), objective.theta)
    start = sphere_vector(operator.size, generator=generator, dtype=objective.dtype, device=objective.device)
    cycle = tridiagonalize(
        operator.matvec,
        start,
        num_matvecs=min(SEARCH_PRODUCTS, operator.size),
        should_stop=_is_settled,
        bases=objective.problem.bases,
    )
    ritz = cycle.ritz()
    vector = cycle.vector(ritz.coefficients[:, 0])
    failure = min(max(failure_probability, 1e-12), 0.5)
    parts = second.tensor_split(min(NUM_CHUNKS, second.numel()))
    curvatures = [_curvature(restricted(objective, part), vector) for part in parts]
    mean, error = mean_and_error(curvatures, [part.numel() for part in parts])
    return SampledCurvature(
        vector=vector,
        found=ritz.values[0].item(),
        mean=mean,
        standard_error=error,
        quantile=t_quantile(failure, len(curvatures) - 1),
        failure_probability=failure,
        num_chunks=len(curvatures),
    )


def _is_settled(cycle: LanczosCycle) -> bool:
    ritz = cycle.ritz()
    return bool(ritz.residual_norms[0] <= SEARCH_RTOL * ritz.values.abs().max())


def _curvature(objective: Objective, vector: Tensor) -> float:
    product = HessianOperator(objective, objective.theta, graph_bytes=0).matvec(vector)
    return torch.dot(vector.double(), product.double()).item()


def mean_and_error(values: Sequence[float], rows: Sequence[int]) -> tuple[float, float]:
    """The mean of chunk means weighted by their rows, and its standard error from their spread."""
    total, count = sum(rows), len(values)
    mean = sum(value * n for value, n in zip(values, rows, strict=True)) / total
    squares = sum((n / total * (value - mean)) ** 2 for value, n in zip(values, rows, strict=True))
    return mean, math.sqrt(squares * count / (count - 1))
