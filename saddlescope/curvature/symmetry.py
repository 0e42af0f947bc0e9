"""Kernel directions that a continuous symmetry of L explains, so that orders three and four need not search them.

Where L(exp(sA)θ) = L(θ) for all s and all θ, the orbit through θ is a set of equal loss and Aθ lies in the kernel of H at a
critical point. If the Aθ are independent, L near θ is its restriction to the complement of their span, carried along by the
group: descent exists at θ only if it exists there. A family of generators that commute or form a group is tested by one random
element of its part that H annihilates: the true symmetries among them form a subspace, which contains a random element only if
it is all of it. Each is tested away from θ, by finite transformations, against what L does under a move of the same size.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from saddlescope.curvature.generators import UNUSED, Family, families
from saddlescope.curvature.lanczos import sphere_vector
from saddlescope.curvature.noise import Preflight
from saddlescope.curvature.objective import Objective
from saddlescope.curvature.operator import HessianOperator

ANGLE = 0.4  # how far exp(sA) goes, relative to the size of what it moves
DISTANCE = 0.3  # relative distance from θ of the two points where L is compared
NUM_POINTS = 2
CONTRAST = 1e6  # a move that is no symmetry must change L by this many roundings, or nothing is said
KERNEL_RTOL = 1e-6
MAX_FAMILIES = 120


@dataclass(frozen=True)
class Explanation:
    """What part of a kernel (n, m) symmetries explain.

    Attributes:
        dimension: of the explained part.
        generators: names of the verified families.
        explained: orthonormal (n, dimension), inside the kernel.
    """

    dimension: int
    generators: tuple[str, ...]
    explained: Tensor


def explain_kernel(
    objective: Objective, operator: HessianOperator, kernel: Tensor, measured: Preflight, scale: float
) -> Explanation:
    """The part of the kernel (n, m) of H at a critical point that verified symmetries of L span; `scale` is max|λ|.

    Tries, until the kernel is explained: translations and entrywise rescalings in the whole kernel, unused entries, shifts
    of a tensor along a dimension, rescalings of tensors and of units between tensors, and GL(r) between two factors.
    Costs 2 gradients, and 8 evaluations and one product for each family that H annihilates (often one).
    """
    generator = torch.Generator().manual_seed(0)
    judge = _Judge(objective, operator, measured, scale, generator)
    explained = kernel[:, :0]
    names: list[str] = []
    for family in itertools.islice(families(objective, kernel), MAX_FAMILIES):
        if explained.shape[1] == kernel.shape[1]:
            break
        coefficients = _annihilated(family.tangents, kernel)  # (d, p)
        if not coefficients.shape[1]:
            continue
        inside = kernel if family.tangents is kernel else kernel @ (kernel.T @ (family.tangents @ coefficients))
        grown = kernel if inside is kernel else _extended(explained, inside)
        if grown.shape[1] > explained.shape[1] and judge.accepts(family, coefficients):
            explained = grown
            names.append(family.name)
    return Explanation(explained.shape[1], tuple(names), explained)


class _Judge:
    """Tests a random element of a family on L itself."""

    def __init__(
        self,
        objective: Objective,
        operator: HessianOperator,
        measured: Preflight,
        scale: float,
        generator: torch.Generator,
    ) -> None:
        self.objective, self.operator, self.measured, self.scale = objective, operator, measured, scale
        self.generator, self.sizes = generator, objective.relative_scales()
        self._points: list[tuple[Tensor, float, float]] = []

    def points(self) -> list[tuple[Tensor, float, float]]:
        """(point (n,), L there, rounding of L there), at a relative distance from θ."""
        if not self._points:
            epsilon = torch.finfo(self.objective.dtype).eps
            for _ in range(NUM_POINTS):
                point = self.operator.theta.detach() + DISTANCE * self.sizes * self._noise(self.sizes)
                loss, gradient = self.objective.gradient(point)
                rounding = abs(loss) + torch.dot(gradient.abs(), point.abs()).item()
                self._points.append((point, loss, 100 * epsilon * rounding + self.measured.loss_noise))
        return self._points

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator, dtype=torch.float64).to(like)

    def accepts(self, family: Family, coefficients: Tensor) -> bool:
        """Whether a random element of the span of `coefficients` (d, p) leaves L unchanged, both ways, at both points."""
        chosen = coefficients @ sphere_vector(
            coefficients.shape[1], generator=self.generator, dtype=coefficients.dtype, device=coefficients.device
        )
        tangent = family.tangents @ chosen
        length = tangent.norm().item()
        product = self.operator.matvec(tangent.to(self.operator.theta))
        allowed = KERNEL_RTOL * self.scale * length + 8 * self.measured.matvec_noise * length
        if not length > 0 or not product.norm().item() <= allowed:
            return False
        # Relative to the sizes of what it moves: the largest relative change of a tensor is ANGLE.
        reach = (tangent / self.sizes).abs().max().item()
        return all(
            self._is_unchanged(family, chosen * (sign * ANGLE / reach), *point)
            for point in self.points()
            for sign in (1.0, -1.0)
        )

    def _is_unchanged(self, family: Family, chosen: Tensor, point: Tensor, loss: float, rounding: float) -> bool:
        moved = family.act(chosen, point)
        if not torch.isfinite(moved).all():
            return False
        after = self.objective.loss(moved)
        growth = max(1.0, (moved.norm() / point.norm()).item())
        if not abs(after - loss) <= growth * rounding:
            return False
        if family.name == UNUSED:
            return True
        move = moved - point
        control = self.objective.loss(point + move * (1 + self._noise(move)))
        return math.isfinite(control) and abs(control - loss) > CONTRAST * rounding


def _annihilated(tangents: Tensor, kernel: Tensor) -> Tensor:
    """Coefficients (d, p) of the combinations of `tangents` (n, d) that are not zero and lie in the kernel (n, m)."""
    count = tangents.shape[1]
    if tangents is kernel:
        return torch.eye(count, dtype=kernel.dtype, device=kernel.device)
    lengths = tangents.norm(dim=0)
    lengths = torch.where(lengths > 0, lengths, torch.ones_like(lengths))
    units = tangents / lengths  # a long tangent must not hide a short one
    outside = units - kernel @ (kernel.T @ units)
    values, vectors = torch.linalg.eigh(outside.T @ outside)
    held = vectors[:, values <= KERNEL_RTOL**2]  # (d, q)
    if held.shape[1]:  # less those that do not move θ at all, such as the scale of a tensor that is zero
        moved = units @ held
        values, vectors = torch.linalg.eigh(moved.T @ moved)
        held = held @ vectors[:, values > KERNEL_RTOL]
    coefficients: Tensor = held / lengths[:, None]
    return coefficients


def _extended(basis: Tensor, vectors: Tensor) -> Tensor:
    """Orthonormal columns of `basis` (n, a) and of what `vectors` (n, b) add to them."""
    rest = vectors - basis @ (basis.T @ vectors)
    values, right = torch.linalg.eigh(rest.T @ rest)
    added = rest @ right[:, values > (KERNEL_RTOL * vectors.norm(dim=0).max()) ** 2]
    if not added.shape[1]:
        return basis
    orthonormal: Tensor = torch.linalg.qr(torch.cat([basis, added / added.norm(dim=0)], dim=1)).Q
    return orthonormal
