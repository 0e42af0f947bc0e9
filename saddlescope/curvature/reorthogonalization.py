"""When a new Lanczos vector has to be made orthogonal to all before it: partial reorthogonalization.

Simon, Math. Comp. 42 (1984) 115-142. Rounding errors e_j of the recurrence give the overlaps ω_jk = q_jᵀq_k a recurrence of
their own, from H's symmetry:

    β_j ω_{j+1,k} = β_k ω_{j,k+1} + (α_k − α_j) ω_{j,k} + β_{k−1} ω_{j,k−1} − β_{j−1} ω_{j−1,k} + O(ε‖T‖)

It costs k numbers a step instead of the basis' k·n. Two consecutive vectors are made orthogonal once it says `LIMIT`·ε: not Simon's
√ε, which suffices for T, so that what is taken off stays in the order of a product's own rounding, and certificates, restarts and
vectors hold as under full reorthogonalization.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

LIMIT = 64
DISTRUST = 16


class Overlaps:
    """Estimates of q_{j+1}ᵀq_k and of q_jᵀq_k for k ≤ j; infinite where nothing is known.

    Args:
        dtype: of the vectors.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._epsilon = torch.finfo(dtype).eps
        self._before, self._current = torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
        self._is_trusted = True

    @property
    def largest(self) -> float:
        """Of the estimates of the newest vector's overlaps."""
        return self._current.abs().max().item()

    def advance(self, alpha: Sequence[float], beta: Sequence[float], norm: float) -> bool:
        """Take in step j from α_1…α_j, β_1…β_{j−1} and ‖v‖ = β_j as the recurrence leaves it; whether v has to be orthogonalized.

        Where the answer is yes, `orthogonalized` follows.
        """
        j = len(alpha)
        diagonal = torch.tensor(alpha, dtype=torch.float64)
        off = torch.tensor([*beta, norm], dtype=torch.float64)
        noise = self._epsilon * (diagonal.abs() + off).max().item()
        overlaps = torch.full((j,), noise, dtype=torch.float64)
        if j > 1:
            one = torch.ones(1, dtype=torch.float64)
            known = torch.cat([self._current, one])  # ω_{j,1} … ω_{j,j}
            grown = off[:-1] * known[1:] + (diagonal[:-1] - diagonal[-1]) * known[:-1]
            grown[1:] += off[:-2] * known[:-2]
            grown -= off[-2] * torch.cat([self._before, one])
            overlaps[:-1] = grown + torch.where(grown < 0, -noise, noise)
        self._before, self._current = self._current, overlaps / norm
        return not (self._is_trusted and self.largest <= LIMIT * self._epsilon)

    def orthogonalized(self, measured: float) -> None:
        """The new vector had an overlap of `measured` and has none now; the next one is to be treated alike.

        What was measured shows whether the estimates are worth anything here, where a product's error is more than rounding.
        """
        self._is_trusted = self._is_trusted and measured <= DISTRUST * LIMIT * self._epsilon
        is_first = bool(self._current.isfinite().all())
        self._current = torch.full_like(self._current, self._epsilon)
        if is_first:
            self._before = torch.full_like(self._before, torch.inf)
