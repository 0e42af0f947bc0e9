"""A ladder of exact critical points: k trained units among eight, the others zero.

A unit whose weights and bias are all zero gets no gradient, so that a critical point of the network with k units is one of the
network with eight. Each zero unit brings the curvatures wd, wd ± ‖c‖, c = (∂L/∂ output) · (inputs, 1) averaged over the rows:
one of them is negative where enough is left to learn (‖c‖ > wd). From a strict minimum of k units n₋ is then 8 − k and
λ_min = wd − ‖c‖, whatever the loss; where ‖c‖ < wd, it is a strict minimum of eight units as well.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.study.asking import Question, ask, counted, significant
from benchmarks.study.networks import Shape, Stack, sinc
from benchmarks.study.scale import Scale
from benchmarks.study.training import adam, saddle_free_newton
from saddlescope import Client

NUM_POINTS = 128
NUM_UNITS = 8
WEIGHT_DECAY = 1e-4
LEARNING_RATE = 1e-2
ADAM_STEPS, NEWTON_STEPS = 3_000, 300
LARGEST_GRADIENT = 1e-11
SAME_LOSS = 1e-9


def run(client: Client, scale: Scale) -> dict[str, object]:
    wide = Stack(Shape((1, NUM_UNITS, 1), "tanh", WEIGHT_DECAY), sinc(NUM_POINTS, dtype=torch.float64))
    asked, questions = [], []
    for num_trained in scale.rungs:
        for theta in minima(num_trained, data=wide, scale=scale):
            tensors = {name: tensor.clone() for name, tensor in wide.shape.tensors(theta).items()}
            specification, rows = wide.shape.specification(), wide.data.tensors()
            questions.append(Question(tensors, specification, rows, "ladder", len(asked), {"method": "dense"}))
            asked.append((num_trained, pull(theta, wide)))
    reports = ask(client, questions)
    return {
        "num_units": NUM_UNITS,
        "num_points": NUM_POINTS,
        "weight_decay": WEIGHT_DECAY,
        "num_starts": scale.num_starts,
        "points": [
            {"num_trained": num_trained, "pull": significant(norm), "report": counted(report)}
            for (num_trained, norm), report in zip(asked, reports, strict=True)
        ],
    }


def minima(num_trained: int, *, data: Stack, scale: Scale) -> list[Tensor]:
    """Strict minima of k units that different starts lead to, of different losses, among eight units, from the highest loss."""
    narrow = Stack(Shape((1, max(num_trained, 1), 1), "tanh", WEIGHT_DECAY), data.data)
    if num_trained == 0:
        found = constant(narrow)
    else:
        start = narrow.shape.draw(scale.num_starts, seed=num_trained, dtype=torch.float64)
        trained = adam(start, narrow.gradient, num_steps=ADAM_STEPS, learning_rate=LEARNING_RATE)
        found = saddle_free_newton(trained, narrow, num_steps=NEWTON_STEPS)
        is_exact = narrow.gradient(found).norm(dim=1) <= LARGEST_GRADIENT
        is_strict = torch.linalg.eigvalsh(narrow.hessian(found))[:, 0] > 0
        found = found[is_exact & is_strict]
    losses = narrow.loss(found)
    order = losses.argsort(descending=True)
    kept = [row for place, row in enumerate(order) if place == 0 or losses[order[place - 1]] - losses[row] > SAME_LOSS]
    return [embedded(found[row], num_trained=max(num_trained, 1)) for row in kept]


def pull(theta: Tensor, wide: Stack) -> float:
    """‖c‖, what a zero unit is drawn away by."""
    outputs = wide.shape.output(wide.data.inputs, theta)
    residuals = 2 * (outputs - wide.data.targets) / wide.data.targets.numel()
    return torch.cat([residuals * wide.data.inputs, residuals], 1).sum(0).norm().item()


def constant(narrow: Stack) -> Tensor:
    """No unit at all: the output's bias that minimises L, mean(targets)·2/(2 + wd)."""
    theta = torch.zeros(1, narrow.shape.num_parameters, dtype=torch.float64)
    theta[0, -1] = 2 * narrow.data.targets.mean() / (2 + WEIGHT_DECAY)
    return theta


def embedded(theta: Tensor, *, num_trained: int) -> Tensor:
    """θ of k units (3k + 1,) among eight, the others zero (25,): input weights, their biases, output weights, its bias."""
    zeros = torch.zeros(NUM_UNITS - num_trained, dtype=theta.dtype)
    into, biases, out, bias = theta.split([num_trained, num_trained, num_trained, 1])
    return torch.cat([into, zeros, biases, zeros, out, zeros, bias])
