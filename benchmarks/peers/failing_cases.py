"""Four losses on which libraries for Hessian eigenvalues are known to go wrong, small enough for a dense float64 truth.

Each asks for the leading eigenvalues by magnitude, the one order that all of them offer, of the mean loss over all rows. What
is needed here is in every environment: torch alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.peers.models import SEED, perceptron, random_images

RIGHT_RTOL = 1e-2
"""An answer is right when no eigenvalue is off by more than this times the largest: not a question of the last digits."""


class ScaledCrossEntropy(nn.Module):
    """`factor` times the mean cross-entropy."""

    reduction = "mean"  # curvlinops asks

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.factor * nn.functional.cross_entropy(logits, targets)


@dataclass(frozen=True)
class Case:
    """What is asked; `num_steps` is what one Lanczos run is given where it takes a number of steps."""

    name: str
    title: str
    network: Callable[[], nn.Module]
    data: Callable[[], tuple[Tensor, Tensor]]
    criterion: Callable[[], nn.Module]
    num_eigenvalues: int
    num_steps: int = 50
    batch_sizes: tuple[int, ...] | None = None
    """Rows of each batch; all rows in one when None."""


def regression(rows: int, inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    """Inputs whose columns shrink, so that the leading eigenvalues of XᵀX stand apart."""
    return torch.randn(rows, inputs) * 0.97 ** torch.arange(inputs), torch.randn(rows, outputs)


# Of a linear network under the squared error H = 2/(N·m) XᵀX ⊗ I_m: every eigenvalue m times.
CASES = (
    Case(
        "ragged",
        "ten rows in batches of 8 and 2",
        lambda: perceptron(4, 6, 3),
        lambda: (torch.randn(10, 4), torch.randint(3, (10,))),
        nn.CrossEntropyLoss,
        num_eigenvalues=3,
        batch_sizes=(8, 2),
    ),
    Case(
        "many_steps",
        "150 Lanczos steps",
        lambda: perceptron(16, 32, 16, 10),
        lambda: random_images(512, 16),
        nn.CrossEntropyLoss,
        num_eigenvalues=10,
        num_steps=150,
    ),
    Case(
        "multiplicity",
        "eigenvalues of multiplicity 3",
        lambda: nn.Linear(200, 3, bias=False),
        lambda: regression(400, 200, 3),
        nn.MSELoss,
        num_eigenvalues=6,
    ),
    Case(
        "small_scale",
        "loss times 1e-8",
        lambda: perceptron(16, 32, 16, 10),
        lambda: random_images(512, 16),
        lambda: ScaledCrossEntropy(1e-8),
        num_eigenvalues=3,
    ),
)


@dataclass(frozen=True)
class Subject:
    """A case with its parameters and rows as every process reads them."""

    case: Case
    network: nn.Module
    inputs: Tensor
    targets: Tensor

    @property
    def criterion(self) -> nn.Module:
        return self.case.criterion()

    @property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        sizes = self.case.batch_sizes or (len(self.inputs),)
        return list(zip(self.inputs.split(sizes), self.targets.split(sizes), strict=True))

    @property
    def whole(self) -> list[tuple[Tensor, Tensor]]:
        """All rows as one batch."""
        return [(self.inputs, self.targets)]

    def double(self) -> Subject:
        """The same question in float64."""
        targets = self.targets.double() if self.targets.is_floating_point() else self.targets
        return Subject(self.case, self.network.double(), self.inputs.double(), targets)


def write_case(case: Case, folder: Path) -> None:
    torch.manual_seed(SEED)
    network = case.network()
    inputs, targets = case.data()
    torch.save({"state": network.state_dict(), "inputs": inputs, "targets": targets}, folder / f"{case.name}.pt")


def read_case(case: Case, folder: Path) -> Subject:
    stored = torch.load(folder / f"{case.name}.pt", weights_only=True)
    network = case.network()
    network.load_state_dict(stored["state"])
    return Subject(case, network.eval(), stored["inputs"], stored["targets"])
