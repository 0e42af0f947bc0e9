"""Pre-flight: is L a function that can be differentiated twice at θ, and how exactly do we see it?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from saddlescope.contract.numerals import number
from saddlescope.curvature.errors import NonDeterministicLoss, NonFiniteLoss, NotAdditive, NotDifferentiable
from saddlescope.curvature.lanczos import sphere_vector
from saddlescope.curvature.objective import Objective
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.regrouping import disagreement

NUM_LAST_BITS = 3
CANCELLATION = 1e-9  # of h²‖v‖‖Hv‖: rows may cancel in H to this before a remainder is called a kink
KINK_RADII = tuple(10.0**-exponent for exponent in range(2, 9))


@dataclass(frozen=True)
class Preflight:
    """What was measured at θ before any long run.

    Attributes:
        loss: L(θ).
        gradient: ∇L(θ) (n,).
        loss_noise: how far L moves with the order of summation and the last bits of θ, in loss units.
        gradient_floor: how far ‖∇L‖ does; a smaller gradient is zero to rounding.
        matvec_noise: ‖error of Hv‖ for unit v.
        asymmetry: |wᵀHv − vᵀHw| for two random unit vectors.
        unused: names of parameters on which L does not depend.
        regrouping: why the rows are never regrouped, though that was allowed; None where they may be.
    """

    loss: float
    gradient: Tensor
    loss_noise: float
    gradient_floor: float
    matvec_noise: float
    asymmetry: float
    unused: tuple[str, ...]
    regrouping: str | None = None


def preflight(objective: Objective, operator: HessianOperator, *, generator: torch.Generator) -> Preflight:
    """Measure L, ∇L and their rounding at θ. Costs three products, six gradients and three evaluations.

    Raises:
        NonFiniteLoss: L, ∇L or a product is NaN or infinite.
        NonDeterministicLoss: a second evaluation differs from the first.
        NotDifferentiable: L has no derivative by autograd, or depends on no parameter.
        NotAdditive: L depends on how the rows are grouped, and there are several batches or devices.
    """
    theta, epsilon = operator.theta, torch.finfo(objective.dtype).eps
    loss, gradient = objective.gradient(theta)
    if not math.isfinite(loss):
        raise NonFiniteLoss(f"the loss at the checkpoint is {number(loss)}")
    if not torch.isfinite(gradient).all():
        name = next(n for n, piece in objective.tensors(gradient).items() if not torch.isfinite(piece).all())
        raise NonFiniteLoss(f"the gradient at the checkpoint is not finite in tensor {name!r}")
    again, gradient_again = objective.gradient(theta)
    difference = (gradient_again - gradient).norm().item()
    if abs(again - loss) > 1e3 * epsilon * abs(loss) or difference > 1e3 * epsilon * gradient.norm().item():
        raise NonDeterministicLoss(
            f"two evaluations at the same parameters gave {loss!r} and {again!r} (gradients differ by {difference:.3g}): "
            "switch off dropout and shuffling, and put batch norm in eval mode"
        )
    first, second = (
        sphere_vector(operator.size, generator=generator, dtype=objective.dtype, device=objective.device)
        for _ in range(2)
    )
    regrouping = disagreement(objective, theta, first)
    if regrouping is not None:
        _stay_whole(objective, regrouping)
    product = operator.matvec(first)
    asymmetry = abs(torch.dot(second, product).item() - torch.dot(first, operator.matvec(second)).item())
    loss_spread, gradient_spread = _last_bits(objective, theta, loss, gradient, generator=generator)
    unused = _unused(objective, theta, gradient, product)
    is_silent = not gradient.any() and not product.any()
    if len(unused) == len(objective.problem.params) or (is_silent and _is_constant(objective, theta, loss, first)):
        raise NotDifferentiable("the loss does not depend on any parameter of the checkpoint")
    other = _regrouped(objective)
    other_loss, other_gradient, other_product = loss, gradient, product
    if other is not None:
        other_loss, other_gradient = other.gradient(theta.to(other.dtype))
        other_operator = HessianOperator(other, theta.to(other.dtype), graph_bytes=0)
        other_product = other_operator.matvec(first.to(other.dtype))
        operator.num_matvecs += 1
    return Preflight(
        loss=loss,
        gradient=gradient,
        loss_noise=max(abs(other_loss - loss), loss_spread, 4 * epsilon * abs(loss)),
        gradient_floor=8 * max((other_gradient - gradient).norm().item(), gradient_spread, difference),
        matvec_noise=max((other_product - product).norm().item(), epsilon * product.norm().item()),
        asymmetry=asymmetry,
        unused=unused,
        regrouping=regrouping,
    )


def _stay_whole(objective: Objective, because: str) -> None:
    """One batch of all rows is what it is, if nothing regroups it; several are no function of the data."""
    if objective.num_batches() > 1 or objective.problem.bases.num_parts > 1:
        raise NotAdditive(
            f"{because}. Rows that do not count alike (ignored labels, masks, padding): let the loss sum over them and declare "
            "reduction 'sum', or send all rows as one batch to one device"
        )
    objective.never_regroup()


def _is_constant(objective: Objective, theta: Tensor, loss: float, direction: Tensor) -> bool:
    """Whether L is the same number far along ± a random unit direction (n,), in units of a relative step.

    Far enough for a product of many small factors, which is the same number 0 near θ, to become large.
    """
    step = math.sqrt(theta.numel()) * objective.relative_scales() * direction
    return all(objective.loss(theta + radius * step) == loss for radius in (-10.0, -1.0, -0.1, 0.1, 1.0, 10.0))


def _last_bits(
    objective: Objective, theta: Tensor, loss: float, gradient: Tensor, *, generator: torch.Generator
) -> tuple[float, float]:
    """How far L and ∇L move when θ does by ε in relative coordinates: it is known no better than that."""
    epsilon = torch.finfo(objective.dtype).eps
    losses, gradients = [0.0], [0.0]
    scales = objective.relative_scales()
    for _ in range(NUM_LAST_BITS):
        signs = torch.randint(0, 2, theta.shape, generator=generator).to(theta) * 2 - 1
        moved_loss, moved_gradient = objective.gradient(theta + epsilon * scales * signs)
        losses.append(abs(moved_loss - loss))
        gradients.append((moved_gradient - gradient).norm().item())
    return max(losses), max(gradients)


def _regrouped(objective: Objective) -> Objective | None:
    """The same L in float64 (from float32), or summed in other groups: what it gives differently is rounding."""
    if objective.dtype != torch.float64:
        return Objective(
            objective.problem, dtype=torch.float64, device=str(objective.device), batch_size=objective.batch_size
        )
    if not objective.is_additive or objective.num_examples < 2:
        return None
    size = math.ceil(objective.batch_size / 2) if objective.batch_size > 1 else 2
    return Objective(objective.problem, dtype=objective.dtype, device=str(objective.device), batch_size=size)


def _unused(objective: Objective, theta: Tensor, gradient: Tensor, product: Tensor) -> tuple[str, ...]:
    """Parameters whose gradient and product vanish and that do not move L in a random direction either."""
    silent = [
        name
        for (name, piece), twice in zip(
            objective.tensors(gradient).items(), objective.tensors(product).values(), strict=True
        )
        if piece.numel() and not piece.any() and not twice.any()
    ]
    return tuple(name for name in silent if not objective.depends_on(theta, name))


@dataclass(frozen=True)
class Smoothness:
    """Whether second differences of L agree with vᵀHv near θ; `radius` is where they do not."""

    is_smooth: bool
    radius: float | None


def smoothness(
    objective: Objective, operator: HessianOperator, preflight: Preflight, directions: Sequence[Tensor]
) -> Smoothness:
    """Look for a kink at θ along directions (n,) given in units of a relative step.

    The remainder r(h) = L(θ+hv) + L(θ−hv) − 2L(θ) − h²vᵀHv is O(h⁴) where L is smooth. At a kink it falls like h, h² or h³
    (one, two or three layers through it) all the way down to rounding. Kinks at a distance do not reach down to θ.
    Costs one product and 14 evaluations a direction.
    """
    noise = 0.0
    epsilon, theta_norm = torch.finfo(objective.dtype).eps, operator.theta.norm().item()
    for direction in directions:
        product = operator.matvec(direction)
        curvature, slope = torch.dot(direction, product).item(), product.norm().item()
        size = direction.norm().item()
        remainders: list[tuple[float, float]] = []
        for radius in KINK_RADII:
            both = objective.loss(operator.theta + radius * direction) + objective.loss(
                operator.theta - radius * direction
            )
            remainder = abs(both - 2 * preflight.loss - radius**2 * curvature)
            # L, and the last bits of θ ± hv times the slope there.
            last_bits = epsilon * theta_norm * (radius * slope + preflight.gradient.norm().item())
            cancellation = CANCELLATION * radius**2 * size * slope
            noise = 4 * (preflight.loss_noise + epsilon * abs(both) + last_bits + cancellation)
            if not remainder > 30 * noise:
                break
            remainders.append((radius, remainder))
        if len(remainders) < 2:
            continue
        (_, before), (radius, last) = remainders[-2:]
        falls = before / last
        reaches_rounding = radius == KINK_RADII[-1] or last / falls < 100 * noise
        if falls < 3000 and radius <= 1e-4 and reaches_rounding:
            return Smoothness(is_smooth=False, radius=radius)
    return Smoothness(is_smooth=True, radius=None)
