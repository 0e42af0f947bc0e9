"""Inner products and orthogonalization of long vectors, without copies of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from saddlescope.curvature.basis import Basis

CHUNK = 2**16  # two of them in float64 stay in a core's cache
KEPT_SHARE = 0.7


def accurate_dot(first: Tensor, second: Tensor) -> float:
    """Σ x_i y_i of two vectors (n,) in float64, without a float64 copy of either: squares in float32 would underflow early."""
    if first.dtype == torch.float64 or first.numel() <= CHUNK:
        return torch.dot(first.double(), second.double()).item()
    pieces = (slice(start, start + CHUNK) for start in range(0, first.numel(), CHUNK))
    return torch.stack([torch.dot(first[piece].double(), second[piece].double()) for piece in pieces]).sum().item()


def accurate_norm(vector: Tensor) -> float:
    """‖x‖ (n,) like `accurate_dot`."""
    return math.sqrt(accurate_dot(vector, vector))


class Orthogonalized(NamedTuple):
    """The vector's norm afterwards, and the largest cosine between it and a known row before."""

    norm: float
    overlap: float


def orthogonalize(vector: Tensor, basis: Basis, count: int) -> Orthogonalized:
    """Make a vector (n,) orthogonal in place to the first `count` vectors of an orthonormal basis.

    Twice is enough (Kahan, Parlett), and once is as good where the norm survives the first pass (Daniel, Gragg, Kaufman,
    Stewart 1976): what a pass leaves behind is O(ε‖vector before‖ / ‖vector after‖). The caller has taken the three terms of the
    recurrence off already, so that here the second pass is seldom needed.
    """
    norm, largest = vector.norm().item(), 0.0
    for attempt in range(3):
        before = norm
        coefficients = basis.project_out(vector, count)  # (count,)
        if attempt == 0 and before > 0:
            largest = coefficients.abs().max().item() / before
        norm = vector.norm().item()
        if norm > KEPT_SHARE * before:
            break
    return Orthogonalized(accurate_norm(vector), largest)


def breakdown_tol(alpha: Sequence[float], beta: Sequence[float], dtype: torch.dtype) -> float:
    """The β at or below which a Krylov space is invariant to rounding, relative to ‖T‖."""
    scale = max(abs(a) + b for a, b in zip(alpha, beta, strict=True))
    return 10 * torch.finfo(dtype).eps * math.sqrt(len(alpha)) * scale
