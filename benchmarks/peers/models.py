"""The losses that every contestant gets: models, data and files. Needs torch alone (and scikit-learn for the digits)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

SEED = 20_240


class CausalAttention(nn.Module):
    """Softmax attention in elementary operations: the fused kernels have no second derivative."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.project = nn.Linear(width, 3 * width)
        self.combine = nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        rows, length, width = hidden.shape
        heads = self.project(hidden).view(rows, length, 3, self.num_heads, width // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (rows, heads, length, width of a head)
        scores = query @ key.transpose(-1, -2) / (width // self.num_heads) ** 0.5
        hidden_future = torch.ones(length, length, dtype=torch.bool, device=hidden.device).triu(1)
        mixed = scores.masked_fill(hidden_future, float("-inf")).softmax(-1) @ value
        combined: Tensor = self.combine(mixed.transpose(1, 2).reshape(rows, length, width))
        return combined


class Block(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.before_attention, self.before_network = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = CausalAttention(width, num_heads)
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden + self.attention(self.before_attention(hidden))
        wider: Tensor = hidden + self.network(self.before_network(hidden))
        return wider


class SmallGPT(nn.Module):
    """Tokens (rows, length) to logits (rows, num_tokens, length), the order that nn.CrossEntropyLoss takes."""

    def __init__(self, *, num_tokens: int = 256, length: int = 64, width: int = 128, num_blocks: int = 4) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(num_tokens, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, 4) for _ in range(num_blocks)))
        self.norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, num_tokens, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        hidden = self.blocks(self.token(tokens) + self.place(places))
        logits: Tensor = self.logits(self.norm(hidden)).transpose(1, 2)
        return logits


def perceptron(*sizes: int) -> nn.Sequential:
    """Linear layers with tanh between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def convolution_net() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.GELU(), nn.AvgPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.GELU(), nn.AvgPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(64, 10),
    )


def random_images(rows: int, *shape: int) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, *shape), torch.randint(10, (rows,))


def random_text(rows: int, length: int, num_tokens: int) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(num_tokens, (rows, length + 1))
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def digits() -> tuple[Tensor, Tensor]:
    """The first 1,790 images of scikit-learn's digits: ten batches of one size, so that means of means are means."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - the peers' environment has none

    images, classes = load_digits(return_X_y=True)
    return torch.tensor(images[:1790] / 16, dtype=torch.float32), torch.tensor(classes[:1790])


@dataclass(frozen=True)
class Workload:
    """A network, its data and the number of batches that the data is seen in; the loss is the mean cross-entropy."""

    name: str
    title: str
    network: Callable[[], nn.Module]
    data: Callable[[], tuple[Tensor, Tensor]]
    num_batches: int = 1
    dtype: torch.dtype = torch.float32


EXTREME_PAIRS = (
    Workload("mlp", "MLP 784-256-128-10", lambda: perceptron(784, 256, 128, 10), lambda: random_images(512, 784)),
    Workload("convolution", "convolution net", convolution_net, lambda: random_images(128, 3, 16, 16)),
    Workload("gpt", "small GPT", SmallGPT, lambda: random_text(8, 64, 256)),
    Workload("digits", "digits MLP, ten batches", lambda: perceptron(64, 64, 32, 10), digits, num_batches=10),
)
DENSE = Workload(
    "dense",
    "MLP 16-46-22-8",
    lambda: perceptron(16, 46, 22, 8),
    lambda: (torch.randn(512, 16), torch.randint(8, (512,))),
    dtype=torch.float64,
)
WORKLOADS = {workload.name: workload for workload in (*EXTREME_PAIRS, DENSE)}


@dataclass(frozen=True)
class Subject:
    """What a contestant is given: L(θ) = mean over equal batches of the mean cross-entropy.

    θ (n,) stands in the order of `network.parameters()`.
    """

    network: nn.Module
    batches: tuple[tuple[Tensor, Tensor], ...]

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())


def write_subject(workload: Workload, folder: Path) -> None:
    """Draw the workload's parameters and data once, for every process to load."""
    torch.manual_seed(SEED)
    network = workload.network()
    inputs, targets = workload.data()
    torch.save({"state": network.state_dict(), "inputs": inputs, "targets": targets}, folder / f"{workload.name}.pt")


def read_subject(name: str, folder: Path, *, dtype: torch.dtype | None = None) -> Subject:
    """The workload as written, in its own dtype or another one."""
    workload = WORKLOADS[name]
    stored = torch.load(folder / f"{name}.pt", weights_only=True)
    network = workload.network()
    network.load_state_dict(stored["state"])
    working = dtype or workload.dtype
    inputs, targets = stored["inputs"], stored["targets"]
    inputs = inputs.to(working) if inputs.is_floating_point() else inputs
    size = len(inputs) // workload.num_batches
    batches = tuple(zip(inputs.split(size), targets.split(size), strict=True))
    return Subject(network.to(working).eval(), batches)
