"""Which way to compute Hessian-vector products: a short measurement on the job's own shapes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from saddlescope.curvature.backoff import Answer, is_out_of_memory
from saddlescope.curvature.errors import NotDifferentiable
from saddlescope.curvature.objective import Objective
from saddlescope.curvature.products import BatchProducts, Mode, prepare

QUICK_SECONDS = 1.0
QUICK_BYTES = 100 * 2**20
FEW_MATVECS = 30
NUM_ROUNDS = 4
CLOSE = 1.5
CLEARLY = 0.85
"""A mode gives way to one further down in `PREFERENCE` for at most this share of its time: noise is less, two runs choose alike."""
AGREEMENT = {torch.float32: 1e-4, torch.float64: 1e-9}
PREFERENCE = (Mode.LINEARIZED, Mode.KEPT_GRAPH, Mode.REVERSE_OVER_REVERSE, Mode.FORWARD_OVER_REVERSE)


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
    float64). Those that are close are timed again by turns, the least of each counts, and between equals `PREFERENCE`
    decides. Costs about 45 gradients of one batch; two products where graphs and products are tiny or few are expected.

    Raises:
        NotDifferentiable: if an operation has no second derivative.
    """
    _, batch = next(objective.batches())
    vector = _probe(theta)
    if expected_matvecs < FEW_MATVECS or _is_quick(objective, theta, vector, expected_matvecs):
        return _unmeasured(objective, theta, budget_bytes)

    def costs() -> dict[Mode, float]:
        return _total_seconds(timings, objective.num_batches(), budget_bytes, expected_matvecs)

    scratch = prepare(Mode.REVERSE_OVER_REVERSE, objective, theta, batch)
    truth, scratch_seconds = _timed(theta.device, lambda: scratch.product(vector))
    timings = {Mode.REVERSE_OVER_REVERSE: Timing(scratch_seconds, 0.0, 0)}
    rejected: dict[Mode, str] = {}
    held: dict[Mode, BatchProducts] = {Mode.REVERSE_OVER_REVERSE: scratch}
    for mode in PREFERENCE:
        outcome = None if mode in timings else _try(mode, objective, theta, truth=truth, vector=vector)
        if isinstance(outcome, str):
            rejected[mode] = outcome
        elif outcome is not None and outcome[1].num_bytes > budget_bytes:
            rejected[mode] = f"keeps {outcome[1].num_bytes} bytes a batch, more than {budget_bytes}"
        elif outcome is not None:
            held[mode], timings[mode] = outcome
            # Losers are released at once: two kept graphs may not fit.
            held = _within(budget_bytes, held, costs())
        del outcome
    for _ in range(NUM_ROUNDS if len(held) > 1 else 0):
        for mode, products in held.items():
            _, seconds = _timed(theta.device, partial(products.product, vector))
            timings[mode] = replace(timings[mode], product_seconds=min(seconds, timings[mode].product_seconds))
    mode = preferred(costs())
    return ModeChoice(mode, _overflow(timings), timings, rejected, held.get(mode))


def preferred(seconds: Mapping[Mode, float]) -> Mode:
    """The first in order of preference that nothing beats clearly."""
    least = min(seconds.values())
    return next(mode for mode in PREFERENCE if mode in seconds and CLEARLY * seconds[mode] <= least)


def _within(
    budget_bytes: int, held: Mapping[Mode, BatchProducts], seconds: Mapping[Mode, float]
) -> dict[Mode, BatchProducts]:
    """Those that may still win, the best first, as far as they fit together."""
    kept, used = dict[Mode, BatchProducts](), 0
    for mode in sorted(held, key=seconds.__getitem__):
        used += held[mode].num_bytes
        if used <= budget_bytes and seconds[mode] <= CLOSE * min(seconds.values()):
            kept[mode] = held[mode]
    return kept


def _is_quick(objective: Objective, theta: Tensor, vector: Tensor, num_matvecs: int) -> bool:
    """Whether all products together run over so little memory, in so little time, that measuring more would not pay."""
    _, batch = next(objective.batches())
    kept = prepare(Mode.KEPT_GRAPH, objective, theta, batch)
    _, seconds = _timed(theta.device, lambda: kept.product(vector))
    count = objective.num_batches() * num_matvecs
    # Bytes are the same in every run; seconds alone would decide by noise.
    return count * kept.num_bytes < QUICK_BYTES and count * seconds < QUICK_SECONDS


def _unmeasured(objective: Objective, theta: Tensor, budget_bytes: int) -> ModeChoice:
    _, batch = next(objective.batches())
    kept = prepare(Mode.KEPT_GRAPH, objective, theta, batch)
    if kept.num_bytes > budget_bytes:
        return ModeChoice(Mode.REVERSE_OVER_REVERSE)
    return ModeChoice(Mode.KEPT_GRAPH, first=kept)


def _overflow(timings: Mapping[Mode, Timing]) -> Mode:
    """The fastest mode that keeps nothing."""
    return preferred({mode: timing.product_seconds for mode, timing in timings.items() if not mode.keeps_memory})


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
        repeats = 2 if mode.keeps_memory and objective.num_batches() > 1 else 1  # at first, torch imports what it needs
        for _ in range(repeats):
            products, prepare_seconds = _timed(theta.device, lambda: prepare(mode, objective, theta, batch))
        found, _ = _timed(theta.device, lambda: products.product(vector))
        _, product_seconds = _timed(theta.device, lambda: products.product(vector))
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
