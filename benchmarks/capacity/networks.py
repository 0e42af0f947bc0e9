"""The checkpoints whose analysis is measured: four sizes, each at some points of its training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.peers.models import SEED, WORKLOADS

LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Network:
    """`steps` of Adam on all rows lead from one checkpoint to the next; the first is the initialization."""

    name: str
    title: str
    module: Callable[[], nn.Module]
    data: Callable[[], tuple[Tensor, Tensor]]
    steps: tuple[int, ...]


class Product(nn.Module):
    """The loss (1 − w1·w2)² of two parameters, as a network whose criterion adds nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.w1 * self.w2


def _as_benchmarked(name: str, title: str, steps: tuple[int, ...]) -> Network:
    workload = WORKLOADS[name]
    return Network(name, title, workload.network, workload.data, steps)


NETWORKS = (
    Network("toy", "two parameters", Product, lambda: (torch.ones(1), torch.ones(1)), (0,) * 10),
    _as_benchmarked("digits", "digits MLP", (0, 30, 100, 300)),
    _as_benchmarked("mlp", "MLP 784-256-128-10", (0, 3, 10)),
    _as_benchmarked("gpt", "small GPT", (0, 20)),
)


def loss_of(module: nn.Module) -> Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]:
    """The squared error of real targets, the cross-entropy of classes."""

    def loss(tensors: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        output = torch.func.functional_call(module, dict(tensors), (batch["inputs"],))
        targets = batch["targets"]
        return (
            nn.functional.mse_loss(output, targets)
            if targets.is_floating_point()
            else nn.functional.cross_entropy(output, targets)
        )

    return loss


def checkpoints(network: Network) -> Iterator[tuple[nn.Module, dict[str, Tensor]]]:
    """The network at each of its points, with its data."""
    torch.manual_seed(SEED)
    module = network.module()
    inputs, targets = network.data()
    data = {"inputs": inputs, "targets": targets}
    loss, optimizer = loss_of(module), torch.optim.Adam(module.parameters(), lr=LEARNING_RATE)
    for steps in network.steps:
        for _ in range(steps):
            optimizer.zero_grad()
            loss(dict(module.named_parameters()), data).backward()
            optimizer.step()
        yield module, data
