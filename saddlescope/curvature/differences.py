"""Third and fourth derivatives along a direction from gradients at a distance, where autograd's would cost too much.

Nested reverse mode takes the square of n for some operations (a product of n factors at zero), and a graph of the fourth
order in any case. With g(±t), g(±2t) and e, o the even and odd parts of g(θ + td) − g(θ) in t,

    D³[d,d,·] = (16 e(t) − e(2t))/6t²,    D⁴[d,d,d,·] = (o(2t) − 2 o(t))/t³,

to relative O(t⁴) and O(t²). A claim that rests on them has to be confirmed by L itself.
"""

from __future__ import annotations

from torch import Tensor

from saddlescope.curvature.derivatives import HigherOrder
from saddlescope.curvature.escape import relative_step
from saddlescope.curvature.objective import Objective

REACH = 0.02  # of a step as long as θ


def differences_along(objective: Objective, theta: Tensor, gradient: Tensor, direction: Tensor) -> HigherOrder:
    """D³[d,d,·] (n,) and D⁴[d,d,d,·] (n,) of L at θ (n,), where ∇L is `gradient` (n,), along d (n,); four gradients."""
    t = REACH * relative_step(objective, direction)
    even, odd = zip(*(_parts(objective, theta, gradient, k * t * direction) for k in (1, 2)), strict=True)
    cubic: Tensor = (16 * even[0] - even[1]) / (6 * t**2)
    quartic: Tensor = (odd[1] - 2 * odd[0]) / t**3
    return HigherOrder(cubic, quartic)


def _parts(objective: Objective, theta: Tensor, gradient: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    ahead, behind = (objective.gradient(theta + sign * step)[1] for sign in (1, -1))
    return (ahead + behind) / 2 - gradient, (ahead - behind) / 2
