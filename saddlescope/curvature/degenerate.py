"""When the second order is silent: orders three and four on the kernel of a semidefinite Hessian.

For z in the kernel, D³[z,z,z] ≠ 0 means descent and ascent along z. Where the cubic vanishes, the reduced quartic
Q(z) = D⁴[z⁴] − 3·D³[z,z,·]ᵀ H⁺ D³[z,z,·] decides: Q < 0 gives descent along the arc θ + tz − ½t²H⁺D³[z,z,·], which a test
along straight lines misses (Peano's surface), and Q > 0 on the whole kernel sphere gives a strict minimum. This is the
splitting lemma to fourth order. Deciding the sign on the sphere is NP-hard, so the number of starts is reported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from saddlescope.curvature.lanczos import sphere_vector
from saddlescope.curvature.objective import Objective, differentiate
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.symmetry import Explanation

NUM_STARTS = 12
NUM_STEPS = 6
RELATIVE_TOL = 1e-6
DIFFERENCE_RADIUS = 1e-3
NUM_CHECKS = 6


@dataclass(frozen=True)
class HigherOrder:
    """D³[z,z,·] (n,), D⁴[z,z,z,·] (n,) of L at θ along one z."""

    cubic: Tensor
    quartic: Tensor


@dataclass(frozen=True)
class KernelFinding:
    """What orders three and four say on the kernel.

    Attributes:
        order: 3 if a cubic term was found, 4 if a quartic one, 2 if both vanish in every direction tried.
        lowest: the lowest value found (the cubic term's −|c|, else the reduced quartic's minimum over the starts).
        highest: the highest value found.
        is_definite: the reduced quartic kept one strict sign, exactly for a one-dimensional kernel.
        down: (z, bend) of the lowest point: descend along θ + tz − ½t²·bend; None where nothing descends.
        num_directions: how many kernel directions were tried.
        explained_dimension: of the part of the kernel that symmetries explain and that was not searched.
        generators: the names of those symmetries.
    """

    order: int
    lowest: float
    highest: float
    is_definite: bool
    down: tuple[Tensor, Tensor] | None
    num_directions: int
    explained_dimension: int = 0
    generators: tuple[str, ...] = ()

    @property
    def has_descent(self) -> bool:
        return self.order > 2 and self.lowest < 0

    @property
    def has_ascent(self) -> bool:
        return self.order > 2 and self.highest > 0


def derivatives_along(objective: Objective, theta: Tensor, direction: Tensor) -> HigherOrder:
    """Third and fourth derivatives of L at θ (n,) along z (n,), by nested reverse mode; about twenty gradients."""
    cubic = torch.zeros_like(theta)
    quartic = torch.zeros_like(theta)
    leaf = theta.detach().clone().requires_grad_()
    for weight, batch in objective.batches():
        value = objective.batch_loss(leaf, batch)
        for order in range(1, 5):
            if not value.requires_grad:
                break
            derivative = differentiate(value, leaf, create_graph=order < 4)
            if order == 3:
                cubic.add_(derivative.detach(), alpha=weight)
            elif order == 4:
                quartic.add_(derivative.detach(), alpha=weight)
            value = torch.dot(derivative, direction)
    return HigherOrder(cubic, quartic)


def is_consistent(objective: Objective, theta: Tensor, *, generator: torch.Generator) -> bool:
    """Whether autograd's third and fourth derivatives along random directions agree with differences of vᵀHv.

    An operation may have a right second derivative and a wrong third one (torch 2.13's `layer_norm` has). Costs three
    products and one fourth derivative for each of six directions.
    """
    return all(_agrees(objective, theta, generator) for _ in range(NUM_CHECKS))


def _agrees(objective: Objective, theta: Tensor, generator: torch.Generator) -> bool:
    direction = sphere_vector(theta.numel(), generator=generator, dtype=theta.dtype, device=theta.device)
    terms = derivatives_along(objective, theta, direction)
    third, fourth = torch.dot(terms.cubic, direction).item(), torch.dot(terms.quartic, direction).item()
    step = DIFFERENCE_RADIUS * max(objective.relative_scales().norm().item(), 1e-300)

    def curvature(distance: float) -> float:
        operator = HessianOperator(objective, theta + distance * direction, graph_bytes=0)
        return torch.dot(direction, operator.matvec(direction)).item()

    ahead, here, behind = curvature(step), curvature(0.0), curvature(-step)
    size = abs(ahead) + abs(here) + abs(behind)
    noise = 1e3 * torch.finfo(theta.dtype).eps * size
    truncation = abs(fourth) * step**2 + abs(third) * step
    allowed = 0.05 * truncation + noise
    odd, even = (ahead - behind) / 2, ahead + behind - 2 * here
    return bool(abs(odd - third * step) <= allowed and abs(even - fourth * step**2) <= allowed)


class _Quartic:
    """Q on the kernel sphere, with its gradient."""

    def __init__(
        self,
        objective: Objective,
        theta: Tensor,
        kernel: Tensor,
        explained: Tensor | None,
        pseudo_inverse: tuple[Tensor, Tensor],
    ) -> None:
        self.objective, self.theta, self.kernel, self.explained = objective, theta, kernel, explained
        self.values, self.vectors = pseudo_inverse

    def bend(self, cubic: Tensor) -> Tensor:
        """H⁺ D³[z,z,·] (n,)."""
        return (
            self.vectors @ ((self.vectors.T @ cubic) / self.values) if self.values.numel() else torch.zeros_like(cubic)
        )

    def along(self, z: Tensor) -> HigherOrder:
        return derivatives_along(self.objective, self.theta, z)

    def value(self, z: Tensor) -> tuple[float, Tensor, Tensor]:
        """Q(z), its gradient in θ-space (n,), and the bend (n,)."""
        terms = self.along(z)
        bend = self.bend(terms.cubic)
        reduced = (torch.dot(terms.quartic, z) - 3 * torch.dot(terms.cubic, bend)).item()
        gradient = 4 * terms.quartic
        if bend.any():
            # D³[z, bend, ·] by polarization of the quadratic map v ↦ D³[v, v, ·].
            mixed = (self.along(z + bend).cubic - self.along(z - bend).cubic) / 4
            gradient = gradient - 12 * mixed
        return reduced, gradient, bend

    def project(self, vector: Tensor) -> Tensor:
        inside = self.kernel @ (self.kernel.T @ vector)
        return inside if self.explained is None else inside - self.explained @ (self.explained.T @ inside)

    def start(self, generator: torch.Generator) -> Tensor:
        """A uniform unit vector (n,) of the part that is searched."""
        drawn = self.project(self.kernel @ _coordinates(self.kernel.shape[1], generator, self.theta))
        unit: Tensor = drawn / drawn.norm()
        return unit


def examine_kernel(
    objective: Objective,
    theta: Tensor,
    *,
    kernel: Tensor,
    pseudo_inverse: tuple[Tensor, Tensor],
    generator: torch.Generator,
    explanation: Explanation | None = None,
) -> KernelFinding:
    """Orders three and four on the kernel (n, m), given the other eigenpairs as (values (r,), vectors (n, r)).

    What symmetries explain of the kernel is left out: L is constant along its orbits, so the complement decides for all,
    though never for a strict minimum. Costs about 12 starts of 6 steps, each some twenty to sixty gradients.
    """
    if explanation is None or not explanation.dimension:
        return _searched(_Quartic(objective, theta, kernel, None, pseudo_inverse), kernel.shape[1], generator)
    rest = kernel.shape[1] - explanation.dimension
    finding = KernelFinding(2, 0.0, 0.0, False, None, 0)
    if rest:
        finding = _searched(_Quartic(objective, theta, kernel, explanation.explained, pseudo_inverse), rest, generator)
    return replace(
        finding,
        is_definite=False,
        explained_dimension=explanation.dimension,
        generators=explanation.generators,
    )


def _searched(quartic: _Quartic, dimension: int, generator: torch.Generator) -> KernelFinding:
    cubic_scale, quartic_scale = _scales(quartic, generator)
    num_starts = 1 if dimension == 1 else NUM_STARTS
    starts = [quartic.start(generator) for _ in range(num_starts)]
    strongest: tuple[float, Tensor] = (0.0, starts[0])
    for start in starts:
        z = start
        for _ in range(NUM_STEPS if dimension > 1 else 1):
            image = quartic.project(quartic.along(z).cubic)
            value = torch.dot(image, z).item()
            if abs(value) > abs(strongest[0]):
                strongest = (value, z)
            if image.norm() <= RELATIVE_TOL * cubic_scale:
                break
            z = image / image.norm()
    value, z = strongest
    if abs(value) > RELATIVE_TOL * cubic_scale:
        down = (-z if value > 0 else z, torch.zeros_like(z))
        return KernelFinding(3, -abs(value), abs(value), False, down, num_starts)
    return _quartic_finding(quartic, starts, RELATIVE_TOL * quartic_scale)


def _quartic_finding(quartic: _Quartic, starts: list[Tensor], tolerance: float) -> KernelFinding:
    lows: list[tuple[float, Tensor, Tensor]] = []
    highs: list[float] = []
    for start in starts:
        for sign in (-1.0, 1.0):
            z, step = start, 0.5
            value, gradient, bend = quartic.value(z)
            for _ in range(NUM_STEPS if len(starts) > 1 else 0):
                tangent = quartic.project(gradient)
                tangent = tangent - torch.dot(tangent, z) * z
                if tangent.norm() <= max(tolerance, RELATIVE_TOL * abs(value)):
                    break
                moved = z + sign * step * tangent / tangent.norm()
                trial = quartic.value(moved / moved.norm())
                if sign * (trial[0] - value) > 0:
                    z, (value, gradient, bend) = moved / moved.norm(), trial
                else:
                    step /= 4
            if sign < 0:
                lows.append((value, z, bend))
            else:
                highs.append(value)
    lowest, z, bend = min(lows, key=lambda entry: entry[0])
    highest = max(highs)
    if max(abs(lowest), abs(highest)) <= tolerance:
        return KernelFinding(2, 0.0, 0.0, False, None, len(starts))
    low, high = (0.0 if abs(bound) <= tolerance else bound for bound in (lowest, highest))
    down = (z, bend) if low < 0 else None
    return KernelFinding(4, low, high, low > 0 or high < 0, down, len(starts))


def _coordinates(dimension: int, generator: torch.Generator, like: Tensor) -> Tensor:
    return sphere_vector(dimension, generator=generator, dtype=like.dtype, device=like.device)


def _scales(quartic: _Quartic, generator: torch.Generator) -> tuple[float, float]:
    """How large third and fourth derivatives are here in general: the unit of their tolerances."""
    cubic = fourth = 0.0
    for _ in range(3):
        terms = quartic.along(_coordinates(quartic.theta.numel(), generator, quartic.theta))
        cubic, fourth = max(cubic, terms.cubic.norm().item()), max(fourth, terms.quartic.norm().item())
    return cubic, fourth
