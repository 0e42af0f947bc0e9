"""The cases of the demonstration: six plateaus at saddles, and three trainings that the way out does not help."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from examples import digits
from examples.plateaus.gpt import TinyGPT, licence, next_token_loss, words_said_twice
from examples.plateaus.training import Batch, Plateau, Task, train_for, train_until_it_stands


@dataclass(frozen=True)
class Case:
    """A way to a plateau, and how long training is compared from there."""

    name: str
    title: str
    setting: str
    reach: Callable[[int], Plateau]
    num_steps: int = 400


def momentum(model: nn.Module, *, learning_rate: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-3)


def classify(model: Callable[..., Tensor], batch: Batch) -> Tensor:
    return functional.cross_entropy(model(batch["inputs"]), batch["targets"])


def tanh_network(*, depth: int, scale: float, seed: int, width: int = 32) -> nn.Sequential:
    """Weights normal at scale/√fan-in, biases zero."""
    draws = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([digits.NUM_PIXELS, *[width] * (depth - 1), digits.NUM_CLASSES]):
        linear = nn.Linear(inputs, outputs)
        nn.init.normal_(linear.weight, std=scale / math.sqrt(inputs), generator=draws)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def small_weights(
    seed: int, *, depth: int, scale: float, optimizer: Callable[[nn.Module], torch.optim.Optimizer]
) -> Plateau:
    task = Task(classify, digits.digits(), optimizer)
    return train_until_it_stands(tanh_network(depth=depth, scale=scale, seed=seed), task)


def ordinary_weights(seed: int) -> Plateau:
    return train_for(tanh_network(depth=3, scale=1.0, seed=seed), Task(classify, digits.digits(), adam), num_steps=15)


def doubled_units(seed: int) -> Plateau:
    """Two hidden units trained to their end, each then replaced by two of half its outgoing weights, and that trained to its end.

    Twins get the same gradient, so that no gradient method tells them apart, and four units go on as two.
    """
    task = Task(classify, digits.digits(), partial(momentum, learning_rate=0.1), weight_decay=3e-3)
    narrow = tanh_network(depth=2, scale=1.0, seed=seed, width=2)
    minimise(narrow, task)
    wide = tanh_network(depth=2, scale=1.0, seed=seed, width=4)
    with torch.no_grad():
        wide[0].weight.copy_(narrow[0].weight.repeat(2, 1))
        wide[0].bias.copy_(narrow[0].bias.repeat(2))
        wide[2].weight.copy_(narrow[2].weight.repeat(1, 2) / 2)
        wide[2].bias.copy_(narrow[2].bias)
    minimise(wide, task)
    return Plateau(wide, task, None, 0)


def added_units(seed: int) -> Plateau:
    """A linear autoencoder, two matrices whose product has rank 3, trained to its end; then five units more, of almost no weight.

    The end is the best rank 3 there is, and a saddle of rank 8: each further rank is one way down (Baldi, Hornik 1989).
    """
    images = digits.digits()["inputs"]
    data = {"images": images - images.mean(0)}
    task = Task(reconstruct, data, momentum)
    narrow, wide = autoencoder(3, scale=0.3, seed=seed), autoencoder(8, scale=1e-4, seed=seed)
    minimise(narrow, task)
    with torch.no_grad():
        wide[0].weight[:3].copy_(narrow[0].weight)
        wide[1].weight[:, :3].copy_(narrow[1].weight)
    return Plateau(wide, task, None, 0)


def autoencoder(num_units: int, *, scale: float, seed: int) -> nn.Sequential:
    draws = torch.Generator().manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(digits.NUM_PIXELS, num_units, bias=False), nn.Linear(num_units, digits.NUM_PIXELS, bias=False)
    )
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=scale, generator=draws)
    return network


def reconstruct(model: Callable[..., Tensor], batch: Batch) -> Tensor:
    return functional.mse_loss(model(batch["images"]), batch["images"])


def minimise(model: nn.Module, task: Task) -> None:
    """L-BFGS to a gradient of at most 1e-6 in every entry, or to rounding."""
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        max_iter=1000,
        history_size=30,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-6,
        tolerance_change=1e-12,
    )

    def evaluate() -> Tensor:
        optimizer.zero_grad()
        loss = task.objective(model)
        loss.backward()
        return loss

    optimizer.step(evaluate)


def letters(seed: int) -> Plateau:
    vocabulary, data = licence(num_rows=128, length=16)
    model = TinyGPT(vocabulary=vocabulary, length=16, seed=seed, std=0.002, depth=2, heads=2, is_normalised=False)
    return train_until_it_stands(model, Task(next_token_loss, data, momentum))


def copying(seed: int) -> Plateau:
    model = TinyGPT(vocabulary=8, length=16, seed=seed, std=0.002, depth=1, heads=1, is_normalised=True)
    data = words_said_twice(num_rows=256, vocabulary=8, length=8, seed=seed)
    return train_for(model, Task(next_token_loss, data, partial(momentum, learning_rate=0.03)), num_steps=140)


CASES = (
    Case(
        "three_layers",
        "Digits, 3 layers, small weights, momentum",
        "tanh, 32 units, weights at 0.01/√fan-in, gradient descent at 0.1 with momentum 0.9",
        partial(small_weights, depth=3, scale=0.01, optimizer=momentum),
    ),
    Case(
        "four_layers",
        "Digits, 4 layers, small weights, momentum",
        "tanh, 32 units, weights at 0.1/√fan-in, gradient descent at 0.1 with momentum 0.9",
        partial(small_weights, depth=4, scale=0.1, optimizer=momentum),
    ),
    Case(
        "three_layers_adam",
        "Digits, 3 layers, small weights, Adam",
        "tanh, 32 units, weights at 0.01/√fan-in, Adam at 0.001",
        partial(small_weights, depth=3, scale=0.01, optimizer=adam),
    ),
    Case(
        "doubled_units",
        "Digits, trained, then every unit doubled",
        "tanh, 2 units trained to the end and doubled to 4, weight decay 0.003; gradient descent at 0.1 with momentum 0.9",
        doubled_units,
    ),
    Case(
        "added_units",
        "Digits, linear autoencoder, units added",
        "3 units trained to the end, 5 added at weights of 0.0001; squared error; gradient descent at 0.1 with momentum 0.9",
        added_units,
    ),
    Case(
        "letters",
        "GPT on letters, no normalisation, momentum",
        "2 blocks of width 16 without normalisation, weights at 0.002, 2,176 letters; gradient descent at 0.1 with momentum 0.9",
        letters,
        num_steps=200,
    ),
    Case(
        "ordinary_weights",
        "Digits, 3 layers, ordinary weights, Adam",
        "tanh, 32 units, weights at 1/√fan-in, Adam at 0.001, after 15 steps: no plateau",
        ordinary_weights,
    ),
    Case(
        "copying",
        "GPT that learns to copy",
        "1 block of width 16 with normalisation, weights at 0.002; gradient descent at 0.03 with momentum 0.9, after 140 steps: "
        "a plateau to the eye",
        copying,
        num_steps=200,
    ),
    Case(
        "five_layers",
        "Digits, 5 layers, tiny weights, momentum",
        "tanh, 32 units, weights at 0.05/√fan-in, gradient descent at 0.1 with momentum 0.9",
        partial(small_weights, depth=5, scale=0.05, optimizer=momentum),
    ),
)
