"""Which way to compute Hessian-vector products: a short measurement on the job's own shapes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from saddlescope.curvature.backoff import Answer, is_out_of_memory
from saddlescope.curvature.errors import NotDifferentiable
from saddlescope.curvature.objective import Objective
from saddlescope.curvature.products import BatchProducts, Mode, prepare

QUICK_SECONDS = 1e-3
FEW_MATVECS = 30
NUM_TIMED = 2
AGREEMENT = {torch.float32: 1e-4, torch.float64: 1e-9}
CANDIDATES = (Mode.KEPT_GRAPH, Mode.LINEARIZED, Mode.FORWARD_OVER_REVERSE)


@dataclass(frozen=True)
class Timing:
    """Of one mode on the first batch: seconds a product, seconds to prepare, bytes kept."""

    product_seconds: float
    prepare_seconds: float
    num_bytes: int


@dataclass(frozen=True)
class ModeChoice:
    """What was chosen, and why.

    Attributes:
        mode: for the batches whose graph or record fits in memory.
        overflow: for the other batches; it keeps nothing.
        timings: of the modes measured, empty when there was nothing to gain.
        rejected: modes that failed or disagreed with reverse over reverse from scratch, and how.
        first: the products of the first batch, where the choice left them behind.
    """

    mode: Mode
    overflow: Mode = Mode.REVERSE_OVER_REVERSE
    timings: Mapping[Mode, Timing] | None = None
    rejected: Mapping[Mode, str] | None = None
    first: BatchProducts | None = None


def choose_mode(objective: Objective, theta: Tensor, *, expected_matvecs: int, budget_bytes: int) -> ModeChoice:
    """The mode with the least total time for so many products over the whole data set, within the memory budget.

    Each is timed on the first batch and compared with reverse over reverse from scratch (relative 1e-4 in float32, 1e-9 in
    float64). Costs about 35 gradients of one batch; two products where a product takes less than a millisecond or few
    are expected.

    Raises:
        NotDifferentiable: if an operation has no second derivative.
    """
    _, batch = next(objective.batches())
    vector = _probe(theta)
    if expected_matvecs < FEW_MATVECS or _is_quick(objective, theta, vector):
        return _unmeasured(objective, theta, budget_bytes)
    scratch = prepare(Mode.REVERSE_OVER_REVERSE, objective, theta, batch)
    truth, scratch_seconds = _timed(theta.device, lambda: scratch.product(vector))
    timings = {Mode.REVERSE_OVER_REVERSE: Timing(scratch_seconds, 0.0, 0)}
    rejected: dict[Mode, str] = {}
    first: BatchProducts | None = None
    for mode in CANDIDATES:
        outcome = _try(mode, objective, theta, truth=truth, vector=vector)
        if isinstance(outcome, str):
            rejected[mode] = outcome
        elif outcome[1].num_bytes > budget_bytes:
            rejected[mode] = f"keeps {outcome[1].num_bytes} bytes a batch, more than {budget_bytes}"
        else:
            timings[mode] = outcome[1]
            cost = _total_seconds(timings, objective.num_batches(), budget_bytes, expected_matvecs)
            # Losers are released at once: two kept graphs may not fit.
            first = outcome[0] if min(cost, key=cost.__getitem__) is mode else first
        del outcome
    cost = _total_seconds(timings, objective.num_batches(), budget_bytes, expected_matvecs)
    mode = min(cost, key=cost.__getitem__)
    return ModeChoice(mode, _overflow(timings), timings, rejected, first)


def _is_quick(objective: Objective, theta: Tensor, vector: Tensor) -> bool:
    """Whether a product with a kept graph takes so little time that measuring more would not pay."""
    _, batch = next(objective.batches())
    kept = prepare(Mode.KEPT_GRAPH, objective, theta, batch)
    _, seconds = _timed(theta.device, lambda: kept.product(vector))
    return seconds < QUICK_SECONDS


def _unmeasured(objective: Objective, theta: Tensor, budget_bytes: int) -> ModeChoice:
    _, batch = next(objective.batches())
    kept = prepare(Mode.KEPT_GRAPH, objective, theta, batch)
    if kept.num_bytes > budget_bytes:
        return ModeChoice(Mode.REVERSE_OVER_REVERSE)
    return ModeChoice(Mode.KEPT_GRAPH, first=kept)


def _overflow(timings: Mapping[Mode, Timing]) -> Mode:
    """The fastest mode that keeps nothing."""
    return min((mode for mode in timings if not mode.keeps_memory), key=lambda mode: timings[mode].product_seconds)


def _total_seconds(
    timings: Mapping[Mode, Timing], num_batches: int, budget_bytes: int, num_matvecs: int
) -> dict[Mode, float]:
    """What is still to be done: preparing all batches but the first, and all products, those beyond the budget by the overflow."""
    overflow = timings[_overflow(timings)].product_seconds
    totals = {}
    for mode, timing in timings.items():
        fitting = num_batches if not timing.num_bytes else min(num_batches, budget_bytes // timing.num_bytes)
        products = fitting * timing.product_seconds + (num_batches - fitting) * overflow
        totals[mode] = max(0, fitting - 1) * timing.prepare_seconds + num_matvecs * products
    return totals


def _try(
    mode: Mode, objective: Objective, theta: Tensor, *, truth: Tensor, vector: Tensor
) -> tuple[BatchProducts, Timing] | str:
    """The mode's products and timing on the first batch, or why it is dropped."""
    _, batch = next(objective.batches())
    try:
        products, prepare_seconds = _timed(theta.device, lambda: prepare(mode, objective, theta, batch))
        found, _ = _timed(theta.device, lambda: products.product(vector))
        product_seconds = min(_timed(theta.device, lambda: products.product(vector))[1] for _ in range(NUM_TIMED))
    # Whatever an operation without this kind of derivative raises inside torch: another mode does the work.
    except (RuntimeError, NotImplementedError, TypeError, ValueError, NotDifferentiable) as failure:
        return "out of memory" if is_out_of_memory(failure) else f"{type(failure).__name__}: {failure}"
    difference = (found.double() - truth.double()).norm().item()
    if not difference <= AGREEMENT[theta.dtype] * truth.double().norm().item():
        return f"differs from reverse over reverse by {difference:.3g}"
    return products, Timing(product_seconds, prepare_seconds, products.num_bytes)


def _probe(theta: Tensor) -> Tensor:
    """A fixed Gaussian unit vector (n,): what agrees on it is the same linear map, with probability one."""
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(theta.numel(), generator=generator, dtype=torch.float64)
    unit: Tensor = (vector / vector.norm()).to(theta)
    return unit


def _timed(device: torch.device, action: Callable[[], Answer]) -> tuple[Answer, float]:
    _settle(device)
    began = time.perf_counter()
    result = action()
    _settle(device)
    return result, time.perf_counter() - began


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
