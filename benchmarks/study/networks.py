"""Many networks of one shape at once: each row of a matrix is the flat θ of one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor
from torch.func import grad, hessian, vmap

ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


@dataclass(frozen=True)
class Data:
    """Rows of the network's inputs and targets."""

    inputs: Tensor
    targets: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """By the contract's names."""
        return {"inputs": self.inputs, "targets": self.targets}


def sinc(num_points: int, *, dtype: torch.dtype) -> Data:
    """sin(5πx)/(5πx) at equally spaced x in [0, 1]."""
    x = torch.linspace(0, 1, num_points, dtype=dtype).unsqueeze(1)
    return Data(x, torch.sinc(5 * x))


@dataclass(frozen=True)
class Shape:
    """L(θ) = the mean squared error of a fully connected network + ½·weight_decay·‖θ‖²."""

    widths: tuple[int, ...]
    activation: str
    weight_decay: float = 0.0

    @property
    def num_parameters(self) -> int:
        return sum(fan_out * (fan_in + 1) for fan_in, fan_out in pairwise(self.widths))

    def draw(self, count: int, *, seed: int, dtype: torch.dtype) -> Tensor:
        """Uniform within ±1/√fan-in, weights and biases, as PyTorch's layers begin; (count, n)."""
        draws = torch.Generator().manual_seed(seed)
        parts = [
            torch.empty(count, fan_out * (fan_in + 1), dtype=dtype).uniform_(
                -1 / sqrt(fan_in), 1 / sqrt(fan_in), generator=draws
            )
            for fan_in, fan_out in pairwise(self.widths)
        ]
        return torch.cat(parts, 1)

    def tensors(self, theta: Tensor) -> dict[str, Tensor]:
        """θ (n,) by the names that `torch.nn.Sequential` gives."""
        named, begin = {}, 0
        for layer, (fan_in, fan_out) in enumerate(pairwise(self.widths)):
            middle, end = begin + fan_in * fan_out, begin + (fan_in + 1) * fan_out
            named[f"{2 * layer}.weight"] = theta[begin:middle].view(fan_out, fan_in)
            named[f"{2 * layer}.bias"] = theta[middle:end]
            begin = end
        return named

    def specification(self) -> dict[str, object]:
        """The same loss as the contract names it."""
        layers: list[dict[str, object]] = []
        for fan_in, fan_out in pairwise(self.widths):
            layers += [{"type": "linear", "in_features": fan_in, "out_features": fan_out}, {"type": self.activation}]
        return {
            "kind": "network",
            "layers": layers[:-1],
            "criterion": {"type": "mse"},
            "weight_decay": self.weight_decay,
        }

    def output(self, x: Tensor, theta: Tensor) -> Tensor:
        """Of one network θ (n,), for each row of x."""
        named, activation = self.tensors(theta), ACTIVATIONS[self.activation]
        for layer in range(len(self.widths) - 1):
            x = (x if layer == 0 else activation(x)) @ named[f"{2 * layer}.weight"].T + named[f"{2 * layer}.bias"]
        return x

    def loss(self, data: Data) -> Callable[[Tensor], Tensor]:
        """L of one network."""

        def evaluate(theta: Tensor) -> Tensor:
            errors = self.output(data.inputs, theta) - data.targets
            return (errors**2).mean() + 0.5 * self.weight_decay * (theta**2).sum()

        return evaluate


@dataclass(frozen=True)
class Stack:
    """L and its derivatives, of every row of θ (count, n) at once."""

    shape: Shape
    data: Data

    def loss(self, theta: Tensor) -> Tensor:
        """(count,)"""
        return vmap(self.shape.loss(self.data))(theta)

    def gradient(self, theta: Tensor) -> Tensor:
        """(count, n)"""
        return vmap(grad(self.shape.loss(self.data)))(theta)

    def gradient_of_norm(self, theta: Tensor) -> Tensor:
        """∇‖g‖ = Hg/‖g‖, (count, n)."""
        gradient = grad(self.shape.loss(self.data))
        return vmap(grad(lambda row: gradient(row).norm()))(theta)

    def hessian(self, theta: Tensor) -> Tensor:
        """(count, n, n)"""
        return vmap(hessian(self.shape.loss(self.data)))(theta)

    def strict_ratio(self, theta: Tensor) -> Tensor:
        """The share of eigenvalues above 0 of the Hessian as θ's dtype rounds it: the count without a tolerance.

        By a solver in float64: in float32 it fails on Hessians full of zeros.
        """
        return (torch.linalg.eigvalsh(self.hessian(theta).double()) > 0).double().mean(1)
