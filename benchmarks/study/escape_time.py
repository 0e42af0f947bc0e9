"""How long gradient descent stays near a strict saddle, with and without a perturbation.

From θ + εz, z a random direction, the part along a negative eigenvector grows by 1 + η|λ| at each step, so that the time to leave
is ln(1/ε)/ln(1 + η|λ_min|) and a constant: logarithmic in the distance, and endless from the saddle itself. Perturbed descent
(Jin et al. 2017) adds once, where the gradient is small, a perturbation of a fixed length: its time no longer depends on ε.
"""

from __future__ import annotations

import math
from statistics import median

import numpy as np
import torch
from torch import Tensor

from benchmarks.study.asking import Question, ask, counted, significant
from benchmarks.study.ladder import NUM_POINTS, NUM_UNITS, WEIGHT_DECAY, minima
from benchmarks.study.networks import Shape, Stack, sinc
from benchmarks.study.scale import Scale
from saddlescope import Client

LEARNING_RATE = 0.5
NUM_DIRECTIONS = 10
NUM_STEPS = 2_000
RADIUS = 1e-2
SMALL_GRADIENT = 1e-3
"""‖g‖ below which perturbed descent adds its perturbation of length `RADIUS`, once."""
GONE = 0.1
"""Left: L has fallen by this share of what the way out of the report gains."""


def run(client: Client, scale: Scale) -> dict[str, object]:
    wide = Stack(Shape((1, NUM_UNITS, 1), "tanh", WEIGHT_DECAY), sinc(NUM_POINTS, dtype=torch.float64))
    [saddle] = minima(0, data=wide, scale=scale)
    checkpoint = {name: tensor.clone() for name, tensor in wide.shape.tensors(saddle).items()}
    question = Question(checkpoint, wide.shape.specification(), wide.data.tensors(), "escape-time", 0)
    [report] = ask(client, [question])
    escape = report.escapes[0]
    level = escape.loss_before - GONE * escape.decrease
    directions, perturbations = unit_rows(saddle.numel(), seed=0), RADIUS * unit_rows(saddle.numel(), seed=1)
    here = saddle.expand(NUM_DIRECTIONS, -1)
    starts = [saddle + distance * directions for distance in scale.distances]
    plain = [steps_to_leave(start, wide, level=level) for start in starts]
    perturbed = [steps_to_leave(start, wide, level=level, perturbations=perturbations) for start in starts]
    efolds = [math.log(1 / distance) for distance in scale.distances]
    return {
        "learning_rate": LEARNING_RATE,
        "num_directions": NUM_DIRECTIONS,
        "num_steps": NUM_STEPS,
        "radius": RADIUS,
        "small_gradient": SMALL_GRADIENT,
        "gone": GONE,
        "distances": list(scale.distances),
        "plain": plain,
        "perturbed": perturbed,
        "steps_per_efold": significant(float(np.polyfit(efolds, [median(times) for times in plain], 1)[0])),
        "steps_per_efold_of_theory": significant(1 / math.log1p(-LEARNING_RATE * report.lambda_min.estimate)),
        "plain_from_the_saddle": steps_to_leave(here[:1], wide, level=level)[0],
        "perturbed_from_the_saddle": steps_to_leave(here, wide, level=level, perturbations=perturbations),
        "escape": {"step": significant(escape.step), "decrease": significant(escape.decrease)},
        "report": counted(report),
    }


def unit_rows(size: int, *, seed: int) -> Tensor:
    """Random directions (NUM_DIRECTIONS, size)."""
    draws = torch.Generator().manual_seed(seed)
    rows = torch.randn(NUM_DIRECTIONS, size, generator=draws, dtype=torch.float64)
    return rows / rows.norm(dim=1, keepdim=True)


def steps_to_leave(theta: Tensor, stack: Stack, *, level: float, perturbations: Tensor | None = None) -> list[int]:
    """Steps of each row until L is at the level; `NUM_STEPS` where that takes at least so many."""
    times = torch.full(theta.shape[:1], NUM_STEPS)
    is_due = torch.full(theta.shape[:1], perturbations is not None)
    for step in range(NUM_STEPS):
        times = torch.where(stack.loss(theta) <= level, times.clamp(max=step), times)
        if (times <= step).all():
            break
        gradient = stack.gradient(theta)
        if perturbations is not None:
            is_now = is_due & (gradient.norm(dim=1) <= SMALL_GRADIENT)
            theta, is_due = theta + is_now.unsqueeze(1) * perturbations, is_due & ~is_now
        theta = theta - LEARNING_RATE * gradient
    return times.tolist()
