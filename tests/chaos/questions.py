"""Questions whose verdicts are known in closed form: each number asks another one, so that no answer is shared."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np
from sklearn.datasets import load_digits

from saddlescope import Client
from saddlescope.client.job import Job

NUM_HIDDEN, NUM_ROWS = 4, 300
DIGITS_EVERY, LANCZOS_AT = 10, 5
PITS = "sum((1 - w*w)**2) + 0.01 * sum(sin(w))**2"


@dataclass(frozen=True)
class Question:
    checkpoint: dict[str, object]
    loss: str | dict[str, object]
    verdict: str
    data: dict[str, object] | None = None
    options: dict[str, object] = field(default_factory=dict)

    def submit(self, client: Client, *, key: str, seed: int) -> Job:
        return client.submit(
            self.checkpoint, self.loss, self.data, idempotency_key=key, seed=seed, landscape=False, **self.options
        )


TOYS = (
    Question({"w1": 0.0, "w2": 0.0}, "(1 - w1*w2)**2", "saddle"),
    Question({"w1": 1.0, "w2": 1.0}, "(1 - w1*w2)**2", "flat_minimum"),
    Question({"w1": 1.0, "w2": 0.0}, "(1 - w1*w2)**2", "not_critical"),
    Question({"w": 0.0}, "(1 - w*w)**2", "local_maximum"),
    Question({"w": 1.0}, "(1 - w*w)**2", "local_minimum"),
    Question({"x": 0.0, "y": 0.0}, "x**3 - 3*x*y**2", "saddle"),
    Question({"w1": 0.0, "w2": 0.0}, "(1 - w1*w2)**2 + 1.5 * (w1**2 + w2**2)", "local_minimum"),
    Question({"x": 0.6, "y": 0.8}, "(x**2 + y**2 - 1)**2", "flat_minimum"),
)

# At 0 the Hessian is 0.02 times a matrix of ones, less 4 times the identity: one positive eigenvalue, from 200 numbers on.
LANCZOS = Question({"w": [0.0] * 3000}, PITS, "saddle", options={"method": "lanczos"})


def question(number: int) -> Question:
    """The question with this number, always the same: mostly toys, now and then a network, one matrix-free."""
    if number == LANCZOS_AT:
        return LANCZOS
    if number % DIGITS_EVERY == 2:
        return digits(number)
    return TOYS[number % len(TOYS)]


@cache
def digits(number: int) -> Question:
    """A network of digits whose weights are zero and whose last biases are the logarithms of the frequencies.

    There all gradients vanish, and the first weights meet the second ones in the Hessian only off the diagonal: a saddle.
    """
    images, classes = load_digits(return_X_y=True)
    rows = np.arange(number, number + NUM_ROWS)  # other rows, another artifact
    targets = classes[rows].astype(np.int64)
    frequencies = np.bincount(targets, minlength=10) / NUM_ROWS
    loss = {
        "kind": "network",
        "layers": [
            {"type": "linear", "in_features": 64, "out_features": NUM_HIDDEN},
            {"type": "tanh"},
            {"type": "linear", "in_features": NUM_HIDDEN, "out_features": 10},
        ],
        "criterion": {"type": "cross_entropy"},
    }
    checkpoint = {
        "0.weight": np.zeros((NUM_HIDDEN, 64)),
        "0.bias": np.zeros(NUM_HIDDEN),
        "2.weight": np.zeros((10, NUM_HIDDEN)),
        "2.bias": np.log(frequencies),
    }
    return Question(checkpoint, loss, "saddle", data={"inputs": images[rows] / 16, "targets": targets})


@cache
def long_question(num_hidden: int = 128, num_matvecs: int = 250) -> Question:
    """A matrix-free run of some seconds, away from any critical point."""
    images, classes = load_digits(return_X_y=True)
    generator = np.random.default_rng(7)
    layers: list[dict[str, object]] = [
        {"type": "linear", "in_features": 64, "out_features": num_hidden},
        {"type": "tanh"},
        {"type": "linear", "in_features": num_hidden, "out_features": 10},
    ]
    checkpoint: dict[str, object] = {
        "0.weight": 0.1 * generator.standard_normal((num_hidden, 64)),
        "0.bias": np.zeros(num_hidden),
        "2.weight": 0.1 * generator.standard_normal((10, num_hidden)),
        "2.bias": np.zeros(10),
    }
    return Question(
        checkpoint,
        {"kind": "network", "layers": layers, "criterion": {"type": "cross_entropy"}},
        "not_critical",
        data={"inputs": images / 16, "targets": classes.astype(np.int64)},
        options={"method": "lanczos", "max_matvecs": num_matvecs, "dtype": "float64", "force": True},
    )
