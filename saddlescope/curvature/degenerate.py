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
NUM_PRESSED = 60
POSITIVE_SHARE = 1e-3


@dataclass(frozen=True)
class HigherOrder:
    """gᵀz, zᵀHz, D³[z,z,·] (n,) and D⁴[z,z,z,·] (n,) of L at θ along one z."""

    slope: float
    curvature: float
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
        silent: orthonormal basis (n, m) of the searched part, where it did not decide.
        is_masked: a cubic term was seen, but at no distance does it outweigh what rounding left of slope and curvature.
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
    silent: Tensor | None = None
    is_masked: bool = False

    @property
    def has_descent(self) -> bool:
        return self.order > 2 and self.lowest < 0

    @property
    def has_ascent(self) -> bool:
        return self.order > 2 and self.highest > 0


def derivatives_along(objective: Objective, theta: Tensor, direction: Tensor) -> HigherOrder:
    """Derivatives of L at θ (n,) along z (n,) up to the fourth, by nested reverse mode; about twenty gradients."""
    decay = objective.problem.weight_decay
    slope, curvature = decay * torch.dot(theta, direction).item(), decay * torch.dot(direction, direction).item()
    cubic = torch.zeros_like(theta)
    quartic = torch.zeros_like(theta)
    leaf = theta.detach().clone().requires_grad_()
    for weight, batch in objective.batches():
        value = objective.batch_loss(leaf, batch)
        for order in range(1, 5):
            if not value.requires_grad:
                break
            derivative = differentiate(value, leaf, create_graph=order < 4)
            if order < 3:
                along = weight * torch.dot(derivative.detach(), direction).item()
                slope, curvature = (slope + along, curvature) if order == 1 else (slope, curvature + along)
            elif order == 3:
                cubic.add_(derivative.detach(), alpha=weight)
            elif order == 4:
                quartic.add_(derivative.detach(), alpha=weight)
            value = torch.dot(derivative, direction)
    return HigherOrder(slope, curvature, cubic, quartic)


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

    here = curvature(0.0)

    def differences(distance: float) -> tuple[float, float, float]:
        """What the differences lack of third and fourth order, and the size of their terms."""
        ahead, behind = curvature(distance), curvature(-distance)
        odd, even = (ahead - behind) / 2 - third * distance, ahead + behind - 2 * here - fourth * distance**2
        return abs(odd), abs(even), abs(ahead) + abs(here) + abs(behind)

    odd, even, size = differences(step)
    noise = 1e3 * torch.finfo(theta.dtype).eps * size
    allowed = 0.05 * (abs(fourth) * step**2 + abs(third) * step) + noise
    if odd <= allowed and even <= allowed:
        return True
    # Orders five and six may be what is seen: half the step leaves an eighth and a sixteenth of them, but a half and a
    # quarter of a wrong third and fourth derivative.
    closer_odd, closer_even, _ = differences(step / 2)
    return closer_odd <= 0.3 * odd + noise and closer_even <= 0.15 * even + noise


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
    explained = None if explanation is None or not explanation.dimension else explanation.explained
    rest = kernel if explained is None else _complement(kernel, explained)
    finding = KernelFinding(2, 0.0, 0.0, False, None, 0)
    if rest.shape[1]:
        finding = _searched(_Quartic(objective, theta, kernel, explained, pseudo_inverse), rest.shape[1], generator)
        if finding.order != 3 and not finding.is_definite:
            finding = replace(finding, silent=rest)
    if explanation is None or explained is None:
        return finding
    return replace(
        finding,
        is_definite=False,
        explained_dimension=explanation.dimension,
        generators=explanation.generators,
    )


def _complement(kernel: Tensor, explained: Tensor) -> Tensor:
    """An orthonormal basis (n, m − e) of what a kernel (n, m) holds beside (n, e) of its directions."""
    whole = torch.linalg.qr(kernel.T @ explained, mode="complete").Q
    rest: Tensor = kernel @ whole[:, explained.shape[1] :]
    return rest


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
        if not _outweighs_lower_orders(quartic.along(z), z):
            return KernelFinding(2, 0.0, 0.0, False, None, num_starts, is_masked=True)
        down = (-z if value > 0 else z, torch.zeros_like(z))
        return KernelFinding(3, -abs(value), abs(value), False, down, num_starts)
    return _quartic_finding(quartic, starts, RELATIVE_TOL * quartic_scale)


def _outweighs_lower_orders(terms: HigherOrder, z: Tensor) -> bool:
    """Whether the cubic term is twice the slope's and the curvature's at a distance where it is twice the quartic's.

    On e^{−y} at a large y all derivatives are equally tiny: the third is there, and is no critical point's.
    """
    cubic, quartic = abs(torch.dot(terms.cubic, z).item()), abs(torch.dot(terms.quartic, z).item())
    if quartic == 0.0:
        return True
    distance = 2 * cubic / quartic
    lower = abs(terms.slope) * distance + 0.5 * abs(terms.curvature) * distance**2
    return cubic * distance**3 / 6 >= 2 * lower


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
    highest = max(highs)
    lowest, z, bend = min(lows, key=lambda entry: entry[0])
    if len(starts) > 1 and lowest > tolerance:
        lowest, z, bend = _pressed(quartic, z, POSITIVE_SHARE * highest)
        if lowest <= POSITIVE_SHARE * highest:
            # As good as zero beside the highest: no ground for a strict minimum.
            return KernelFinding(
                4,
                min(lowest, 0.0) if lowest < -tolerance else 0.0,
                highest,
                False,
                (z, bend) if lowest < -tolerance else None,
                len(starts),
            )
    if max(abs(lowest), abs(highest)) <= tolerance:
        return KernelFinding(2, 0.0, 0.0, False, None, len(starts))
    low, high = (0.0 if abs(bound) <= tolerance else bound for bound in (lowest, highest))
    down = (z, bend) if low < 0 else None
    return KernelFinding(4, low, high, low > 0 or high < 0, down, len(starts))


def _pressed(quartic: _Quartic, z: Tensor, goal: float) -> tuple[float, Tensor, Tensor]:
    """The reduced quartic pushed further down from z (n,), until it is below the goal or will not fall: (Q, z, bend)."""
    value, gradient, bend = quartic.value(z)
    step = 0.5
    for _ in range(NUM_PRESSED):
        tangent = quartic.project(gradient)
        tangent = tangent - torch.dot(tangent, z) * z
        if value <= goal or tangent.norm() <= RELATIVE_TOL * value or step < RELATIVE_TOL:
            break
        moved = z - step * tangent / tangent.norm()
        trial = quartic.value(moved / moved.norm())
        if trial[0] < value:
            z, (value, gradient, bend) = moved / moved.norm(), trial
            step = min(2 * step, 0.5)
        else:
            step /= 4
    return value, z, bend


def _coordinates(dimension: int, generator: torch.Generator, like: Tensor) -> Tensor:
    return sphere_vector(dimension, generator=generator, dtype=like.dtype, device=like.device)


def _scales(quartic: _Quartic, generator: torch.Generator) -> tuple[float, float]:
    """How large third and fourth derivatives are here in general: the unit of their tolerances."""
    cubic = fourth = 0.0
    for _ in range(3):
        terms = quartic.along(_coordinates(quartic.theta.numel(), generator, quartic.theta))
        cubic, fourth = max(cubic, terms.cubic.norm().item()), max(fourth, terms.quartic.norm().item())
    return cubic, fourth
