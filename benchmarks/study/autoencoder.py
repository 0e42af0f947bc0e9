"""Critical points of linear autoencoders, whose inertia is known in closed form (Baldi, Hornik 1989; Kawaguchi 2016).

L = ½·tr((I − BA)S(I − BA)ᵀ) up to a factor, S with distinct eigenvalues s_1 > … > s_n > 0, p hidden units. At B Aᵀ's projection on
the eigenvectors I, |I| = k ≤ p, with A and B balanced: n₋ = Σ_{i∈I} #{j∉I: s_j > s_i} + (p − k)(n − k), n₀ = k² + 2k(p − k), and
every i∈I, j∉I has the curvatures (s_i + s_j)/2 ± √(((s_i − s_j)/2)² + s_j²), every unused unit ±s_j.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.study.asking import Question, ask, counted, significant
from benchmarks.study.scale import Scale
from saddlescope import Client


@dataclass(frozen=True)
class Point:
    """The critical point of the eigenvectors `chosen`, counted from 0, the largest eigenvalue first."""

    num_inputs: int
    num_units: int
    what: str
    chosen: tuple[int, ...]

    @property
    def spectrum(self) -> list[float]:
        """s from 2 to 1 in equal steps, so that the formula's curvatures are of the same size at every n."""
        return torch.linspace(2, 1, self.num_inputs, dtype=torch.float64).tolist()

    @property
    def left(self) -> list[int]:
        taken = set(self.chosen)
        return [index for index in range(self.num_inputs) if index not in taken]

    def inertia(self) -> tuple[int, int, int]:
        n, p, k = self.num_inputs, self.num_units, len(self.chosen)
        passed = sum(sum(1 for j in self.left if j < i) for i in self.chosen)
        negative, zero = passed + (p - k) * (n - k), k**2 + 2 * k * (p - k)
        return negative, zero, 2 * n * p - negative - zero

    def lambda_min(self) -> float:
        """Up to the factor 2/n of the mean squared error."""
        s, left = self.spectrum, self.left
        unused = [-s[left[0]]] if left and len(self.chosen) < self.num_units else []
        pairs = [(s[i] + s[j]) / 2 - math.hypot((s[i] - s[j]) / 2, s[j]) for i in self.chosen for j in left]
        is_flat = bool(self.chosen)
        return 2 / self.num_inputs * min([*unused, *pairs, *([0.0] if is_flat else [])])

    def tensors(self, basis: Tensor) -> dict[str, Tensor]:
        units = torch.zeros(self.num_units, self.num_inputs, dtype=basis.dtype)
        units[: len(self.chosen)] = basis[:, list(self.chosen)].T
        return {"0.weight": units, "1.weight": units.T.contiguous()}


def run(client: Client, scale: Scale) -> dict[str, object]:
    points = [point for n, p in scale.autoencoders for point in points_of(n, p)]
    reports = ask(client, (question(point, step) for step, point in enumerate(points)))
    return {
        "points": [
            {
                "num_inputs": point.num_inputs,
                "num_units": point.num_units,
                "what": point.what,
                "num_parameters": report.num_parameters,
                "formula": list(point.inertia()),
                "lambda_min_of_formula": significant(point.lambda_min()),
                "lambda_min_low": None if report.lambda_min.low is None else significant(report.lambda_min.low),
                "statement": report.evidence.statement,
                "ratio_low": significant(report.minimum_ratio.low),
                "ratio_high": significant(report.minimum_ratio.high),
                "num_matvecs": report.numerics.num_matvecs,
                "seconds": significant(report.numerics.seconds, 3),
                "report": counted(report),
            }
            for point, report in zip(points, reports, strict=True)
        ]
    }


def points_of(num_inputs: int, num_units: int) -> Iterator[Point]:
    """The origin, half of the best, the best, and the best with its last one exchanged for the next."""
    best, next_one = tuple(range(num_units)), min(num_units, num_inputs - 1)
    chosen: Sequence[tuple[str, tuple[int, ...]]] = (
        ("none", ()),
        ("the best half", best[: num_units // 2]),
        ("the best", best),
        ("the best but one", (*best[:-1], next_one)),
    )
    for what, indices in chosen:
        if what != "the best but one" or num_units < num_inputs:
            yield Point(num_inputs, num_units, what, indices)


def question(point: Point, step: int) -> Question:
    n, p = point.num_inputs, point.num_units
    basis = rotation(n)
    # As many rows as inputs, with second moments S.
    rows = torch.tensor(point.spectrum, dtype=torch.float64).mul(n).sqrt().unsqueeze(1) * basis.T
    layers = [
        {"type": "linear", "in_features": n, "out_features": p, "bias": False},
        {"type": "linear", "in_features": p, "out_features": n, "bias": False},
    ]
    loss: dict[str, object] = {"kind": "network", "layers": layers, "criterion": {"type": "mse"}}
    # With the density, Lanczos goes on for the shares of signs after a saddle is proven.
    options = {"density": True}
    return Question(point.tensors(basis), loss, {"inputs": rows, "targets": rows}, "autoencoder", step, options)


def rotation(size: int) -> Tensor:
    """An orthogonal matrix, drawn with a fixed seed."""
    draws = torch.randn(size, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    return torch.linalg.qr(draws).Q
