"""When a new Lanczos vector has to be made orthogonal to all before it: partial reorthogonalization.

Simon, Math. Comp. 42 (1984) 115-142. Rounding errors e_j of the recurrence give the overlaps ω_jk = q_jᵀq_k a recurrence of
their own, from H's symmetry:

    β_j ω_{j+1,k} = β_k ω_{j,k+1} + (α_k − α_j) ω_{j,k} + β_{k−1} ω_{j,k−1} − β_{j−1} ω_{j−1,k} + O(ε‖T‖)

It costs k numbers a step instead of the basis' k·n. The two newest vectors are made orthogonal once it says `LIMIT`·ε: not Simon's
√ε, which suffices for T, so that what is taken off stays in the order of a product's own rounding, and certificates, restarts and
vectors hold as under full reorthogonalization. Both, because the recurrence would carry the older one's overlaps on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import torch

LIMIT = 64
DISTRUST = 16


class Overlaps:
    """Estimates of q_{j+1}ᵀq_k and of q_jᵀq_k for k ≤ j.

    Args:
        dtype: of the vectors.

    Attributes:
        is_trusted: products err by no more than rounding, as far as was seen, so that estimates are worth something.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._epsilon = torch.finfo(dtype).eps
        self._before, self._current = numpy.zeros(0), numpy.zeros(0)
        self.is_trusted = True

    @property
    def largest(self) -> float:
        """Of the estimates of the newest vector's overlaps."""
        return float(numpy.abs(self._current).max())

    def advance(self, alpha: Sequence[float], beta: Sequence[float], norm: float) -> bool:
        """Take in step j from α_1…α_j, β_1…β_{j−1} and ‖v‖ = β_j as the recurrence leaves it; whether v has to be orthogonalized.

        Where the answer is yes, `orthogonalized` follows.
        """
        j = len(alpha)
        diagonal, off = numpy.array(alpha), numpy.array([*beta, norm])
        noise = self._epsilon * float((numpy.abs(diagonal) + off).max())
        overlaps = numpy.full(j, noise)
        if j > 1:
            known = numpy.append(self._current, 1.0)  # ω_{j,1} … ω_{j,j}
            grown = off[:-1] * known[1:] + (diagonal[:-1] - diagonal[-1]) * known[:-1]
            grown[1:] += off[:-2] * known[:-2]
            grown -= off[-2] * numpy.append(self._before, 1.0)
            overlaps[:-1] = grown + numpy.copysign(noise, grown)
        with numpy.errstate(
            divide="ignore", invalid="ignore", over="ignore"
        ):  # v = 0 has no direction: the Krylov space is exhausted
            self._before, self._current = self._current, overlaps / norm
        return not (self.is_trusted and self.largest <= LIMIT * self._epsilon)

    def orthogonalized(self, measured: float) -> None:
        """The new vector had an overlap of `measured`; now neither it nor the one before it has any.

        What was measured shows whether the estimates are worth anything here, where a product's error is more than rounding.
        """
        self.is_trusted = self.is_trusted and measured <= DISTRUST * LIMIT * self._epsilon
        self._before = numpy.full_like(self._before, self._epsilon)
        self._current = numpy.full_like(self._current, self._epsilon)
