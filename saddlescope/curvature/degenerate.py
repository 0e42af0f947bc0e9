"""When the second order is silent: orders three and four on the kernel of a semidefinite Hessian.

For z in the kernel, D³[z,z,z] ≠ 0 means descent and ascent along z. Where the cubic vanishes, the reduced quartic
Q(z) = D⁴[z⁴] − 3·D³[z,z,·]ᵀ H⁺ D³[z,z,·] decides: Q < 0 gives descent along the arc θ + tz − ½t²H⁺D³[z,z,·], which a test
along straight lines misses (Peano's surface), and Q > 0 on the whole kernel sphere gives a strict minimum. This is the
splitting lemma to fourth order. Deciding the sign on the sphere is NP-hard, so the number of starts is reported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from saddlescope.curvature.derivatives import HigherOrder, derivatives_along
from saddlescope.curvature.differences import differences_along
from saddlescope.curvature.lanczos import sphere_vector
from saddlescope.curvature.objective import Objective
from saddlescope.curvature.symmetry import Explanation

NUM_STARTS = 12
NUM_STEPS = 6
RELATIVE_TOL = 1e-6
DIFFERENCE_RTOL = 1e-3  # what differences leave of the next order
NUM_PRESSED = 60
POSITIVE_SHARE = 1e-3
SHORTEST = 1e-70  # whose fourth power is still a number
FEW_STARTS = 4  # where the kernel is almost the whole of a large space


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


NOTHING = KernelFinding(2, 0.0, 0.0, False, None, 0)


@dataclass(frozen=True)
class Flat:
    """The part of a kernel that is searched: the span of `inside` (n, m), or all of Rⁿ, less the span of `without` (n, r).

    Columns are orthonormal, and those of `without` lie in the span of `inside` where that is given.
    """

    size: int
    inside: Tensor | None
    without: Tensor | None

    @property
    def dimension(self) -> int:
        whole = self.size if self.inside is None else self.inside.shape[1]
        return whole - (0 if self.without is None else self.without.shape[1])

    def project(self, vector: Tensor) -> Tensor:
        """The part of a vector (n,) in it."""
        kept = vector if self.inside is None else self.inside @ (self.inside.T @ vector)
        return kept if self.without is None else kept - self.without @ (self.without.T @ kept)

    def start(self, generator: torch.Generator, like: Tensor) -> Tensor:
        """A uniform unit vector (n,) of it."""
        count = self.size if self.inside is None else self.inside.shape[1]
        drawn = sphere_vector(count, generator=generator, dtype=like.dtype, device=like.device)
        kept = self.project(drawn if self.inside is None else self.inside @ drawn)
        unit: Tensor = kept / kept.norm()
        return unit


class _Quartic:
    """Q on the kernel sphere, with its gradient.

    Third and fourth derivatives up to `least`, or up to `rtol` of what is usual here, count as zero.
    """

    def __init__(
        self,
        along: Callable[[Tensor], HigherOrder],
        flat: Flat,
        pseudo_inverse: tuple[Tensor, Tensor],
        *,
        rtol: float,
        least: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.along, self.flat, self.rtol, self.least = along, flat, rtol, least
        self.values, self.vectors = pseudo_inverse

    def bend(self, cubic: Tensor) -> Tensor:
        """H⁺ D³[z,z,·] (n,)."""
        return (
            self.vectors @ ((self.vectors.T @ cubic) / self.values) if self.values.numel() else torch.zeros_like(cubic)
        )

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
    flat = Flat(theta.numel(), kernel, explained)
    quartic = _Quartic(partial(derivatives_along, objective, theta), flat, pseudo_inverse, rtol=RELATIVE_TOL)
    finding = _searched(quartic, NUM_STARTS, generator) if flat.dimension else NOTHING
    if flat.dimension and finding.order != 3 and not finding.is_definite:
        finding = replace(finding, silent=kernel if explained is None else _complement(kernel, explained))
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


def examine_complement(
    objective: Objective,
    theta: Tensor,
    gradient: Tensor,
    *,
    pseudo_inverse: tuple[Tensor, Tensor],
    loss_noise: float,
    generator: torch.Generator,
) -> KernelFinding:
    """Orders three and four on the kernel of a Hessian of low rank, given its nonzero eigenpairs (r,), (n, r).

    By differences, from fewer starts, in a space too large for them to tell that nothing descends: what is found is to be
    confirmed on L, what is missed is not excluded. Costs about 4 starts of 6 steps, each four to twelve gradients.
    """
    vectors = pseudo_inverse[1]
    flat = Flat(theta.numel(), None, vectors if vectors.shape[1] else None)
    along = partial(differences_along, objective, theta, gradient)
    reach = max(objective.relative_scales().norm().item(), SHORTEST)
    # What changes L by no more than its rounding within a step as long as θ may be of any higher order.
    least = 6 * loss_noise / reach**3, 24 * loss_noise / reach**4
    quartic = _Quartic(along, flat, pseudo_inverse, rtol=DIFFERENCE_RTOL, least=least)
    finding = _searched(quartic, FEW_STARTS, generator)
    return replace(finding, is_definite=False)


def _searched(quartic: _Quartic, most_starts: int, generator: torch.Generator) -> KernelFinding:
    cubic_scale, quartic_scale = _scales(quartic, generator)
    flat = quartic.flat
    dimension = flat.dimension
    num_starts = 1 if dimension == 1 else most_starts
    starts = [flat.start(generator, quartic.vectors) for _ in range(num_starts)]
    strongest: tuple[float, Tensor] = (0.0, starts[0])
    for start in starts:
        z = start
        for _ in range(NUM_STEPS if dimension > 1 else 1):
            image = flat.project(quartic.along(z).cubic)
            value = torch.dot(image, z).item()
            if abs(value) > abs(strongest[0]):
                strongest = (value, z)
            if image.norm() <= quartic.rtol * cubic_scale:
                break
            z = image / image.norm()
    value, z = strongest
    if abs(value) > max(quartic.least[0], quartic.rtol * cubic_scale):
        if not _outweighs_lower_orders(quartic.along(z), z):
            return replace(NOTHING, num_directions=num_starts, is_masked=True)
        down = (-z if value > 0 else z, torch.zeros_like(z))
        return KernelFinding(3, -abs(value), abs(value), False, down, num_starts)
    return _quartic_finding(quartic, starts, max(quartic.least[1], quartic.rtol * quartic_scale))


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
    flat = quartic.flat
    lows: list[tuple[float, Tensor, Tensor]] = []
    highs: list[float] = []
    for start in starts:
        for sign in (-1.0, 1.0):
            z, step = start, 0.5
            value, gradient, bend = quartic.value(z)
            for _ in range(NUM_STEPS if len(starts) > 1 else 0):
                tangent = flat.project(gradient)
                tangent = tangent - torch.dot(tangent, z) * z
                if tangent.norm() <= max(tolerance, quartic.rtol * abs(value)):
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
        if -tolerance <= lowest <= POSITIVE_SHARE * highest:
            lowest = 0.0  # beside the highest as good as zero: no ground for a strict minimum
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
        tangent = quartic.flat.project(gradient)
        tangent = tangent - torch.dot(tangent, z) * z
        if value <= goal or tangent.norm() <= quartic.rtol * value or step < quartic.rtol:
            break
        moved = z - step * tangent / tangent.norm()
        trial = quartic.value(moved / moved.norm())
        if trial[0] < value:
            z, (value, gradient, bend) = moved / moved.norm(), trial
            step = min(2 * step, 0.5)
        else:
            step /= 4
    return value, z, bend


def _scales(quartic: _Quartic, generator: torch.Generator) -> tuple[float, float]:
    """How large third and fourth derivatives are here in general: the unit of their tolerances."""
    cubic = fourth = 0.0
    anywhere = Flat(quartic.flat.size, None, None)
    for _ in range(3):
        terms = quartic.along(anywhere.start(generator, quartic.vectors))
        cubic, fourth = max(cubic, terms.cubic.norm().item()), max(fourth, terms.quartic.norm().item())
    return cubic, fourth
