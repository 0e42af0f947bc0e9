"""About as many large eigenvalues as classes (Sagun et al. 2017, Papyan 2020): networks that tell the first C of the digits apart.

The cross-entropy of C logits is unchanged by the same shift of all of them: its own curvature has rank C − 1 in every example.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from benchmarks.study.asking import Question, ask, counted, significant
from benchmarks.study.scale import Scale
from examples.digits import NUM_HIDDEN, NUM_PIXELS, digits
from saddlescope import Client

NUM_STEPS = 300
LEARNING_RATE = 0.01


def run(client: Client, scale: Scale) -> dict[str, object]:
    asked = [(num_classes, seed) for num_classes in scale.classes for seed in range(scale.num_class_seeds)]
    reports = ask(client, (_question(num_classes, seed, step) for step, (num_classes, seed) in enumerate(asked)))
    points = []
    for (num_classes, seed), report in zip(asked, reports, strict=True):
        eigenvalues = report.spectrum.eigenvalues
        assert eigenvalues is not None
        largest = [significant(value) for value in reversed(eigenvalues[-3 * num_classes - 1 :])]
        points.append(
            {
                "num_classes": num_classes,
                "seed": seed,
                "num_parameters": report.num_parameters,
                "largest": largest,
                "num_outliers": num_outliers(largest),
                "report": counted(report),
            }
        )
    return {"num_steps": NUM_STEPS, "learning_rate": LEARNING_RATE, "num_hidden": NUM_HIDDEN, "points": points}


def num_outliers(largest: Sequence[float]) -> int:
    """How many stand above the widest gap, as a ratio of neighbours, in a descending sequence of positive numbers.

    The gap below the first does not count, so that there must be three classes or more.
    """
    ratios = [above / below for above, below in pairwise(largest[1:])]
    return 2 + max(range(len(ratios)), key=ratios.__getitem__)


def _question(num_classes: int, seed: int, step: int) -> Question:
    data = digits()
    is_shown = data["targets"] < num_classes
    inputs, targets = data["inputs"][is_shown], data["targets"][is_shown]
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(NUM_PIXELS, NUM_HIDDEN), nn.Tanh(), nn.Linear(NUM_HIDDEN, num_classes))
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    for _ in range(NUM_STEPS):
        optimizer.zero_grad()
        functional.cross_entropy(network(inputs), targets).backward()
        optimizer.step()
    layers = [
        {"type": "linear", "in_features": NUM_PIXELS, "out_features": NUM_HIDDEN},
        {"type": "tanh"},
        {"type": "linear", "in_features": NUM_HIDDEN, "out_features": num_classes},
    ]
    loss: dict[str, object] = {"kind": "network", "layers": layers, "criterion": {"type": "cross_entropy"}}
    tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    return Question(tensors, loss, {"inputs": inputs, "targets": targets}, "classes", step, {"method": "dense"})
