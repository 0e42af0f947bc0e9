"""Inner products and orthogonalization of long vectors, without copies of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from saddlescope.curvature.basis import Basis

CHUNK = 2**16  # two of them in float64 stay in a core's cache
ROW = 2**13
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


def blocked_dot(first: Tensor, second: Tensor) -> float:
    """Σ x_i y_i of two vectors (n,), within 16 ε Σ|x_i y_i|: in the working precision over short rows, in float64 over their sums.

    A quarter of the time of `accurate_dot` in float32, for the coefficients of a recurrence that rounds by as much itself; not for
    what a claim rests on. What underflows or overflows in float32 is computed by `accurate_dot`, and so is what lies on a device.
    """
    if (
        first.dtype != torch.float32
        or first.device.type != "cpu"
        or not (first.is_contiguous() and second.is_contiguous())
    ):
        return accurate_dot(first, second)
    x, y = first.detach().numpy(), second.detach().numpy()
    whole = x.size - x.size % ROW
    with numpy.errstate(over="ignore", invalid="ignore"):
        rows = numpy.vecdot(x[:whole].reshape(-1, ROW), y[:whole].reshape(-1, ROW))
        total = float(rows.sum(dtype=numpy.float64)) + float(numpy.dot(x[whole:], y[whole:]))
    limits = torch.finfo(torch.float32)
    is_safe = math.isfinite(total) and abs(total) * limits.eps > x.size * limits.tiny
    return total if is_safe else accurate_dot(first, second)


def blocked_norm(vector: Tensor) -> float:
    """‖x‖ (n,) like `blocked_dot`."""
    return math.sqrt(blocked_dot(vector, vector))


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


def orthogonalize_pair(vector: Tensor, basis: Basis, index: int) -> Orthogonalized:
    """Make q_index, and the vector v (n,) in the place after it, orthogonal to the vectors before, and v to q_index, in place.

    For a unit q_index whose overlaps are small already, so that it stays one to rounding. Reads the basis twice for both, as
    `orthogonalize` does for one, and again where little is left of v. The answer is v's.
    """
    before = blocked_norm(vector)
    coefficients = basis.project_out_newest(index)  # (2, index)
    unit = basis.row(index)
    along = blocked_dot(unit, vector)
    vector.sub_(unit, alpha=along)
    norm = blocked_norm(vector)
    largest = max([abs(along), *coefficients[1].abs().tolist()])
    if norm <= KEPT_SHARE * before:
        norm = orthogonalize(vector, basis, index + 1).norm
    return Orthogonalized(norm, largest / before if before > 0 else 0.0)


def breakdown_tol(alpha: Sequence[float], beta: Sequence[float], dtype: torch.dtype) -> float:
    """The β at or below which a Krylov space is invariant to rounding, relative to ‖T‖."""
    scale = max(abs(a) + b for a, b in zip(alpha, beta, strict=True))
    return 10 * torch.finfo(dtype).eps * math.sqrt(len(alpha)) * scale
