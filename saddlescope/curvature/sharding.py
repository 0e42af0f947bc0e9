"""What one of several processes keeps of a Krylov basis: its n/p entries of every vector.

Inner products are summed over the ranks in float64, the same bits on all of them; whole vectors exist on rank 0 alone.
Tested with gloo on CPU processes; NCCL was not run.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saddlescope.curvature.basis import rotate_rows
from saddlescope.curvature.distributed import Ranks


class ShardedBasis:
    """This rank's part of vectors q_0, q_1, … (n,). Methods are collective but for `rotate`; rank 0 alone passes whole vectors.

    Attributes:
        storage: (rows, n/p), of which the system commits what is written.
    """

    def __init__(self, ranks: Ranks, num_rows: int, size: int, dtype: torch.dtype) -> None:
        self.ranks, self.size = ranks, size
        self.storage = torch.empty(num_rows, len(ranks.entries(size)), dtype=dtype, device=ranks.device)

    def keep(self, index: int, whole: Tensor | None) -> None:
        """The vector (n,) that rank 0 has becomes q_index."""
        self.storage[index] = self._own(whole)

    def row(self, index: int, whole: Tensor | None) -> None:
        """q_index is written into rank 0's vector (n,)."""
        self.ranks.gather(self.storage[index], whole, self.size)

    def project_out(self, count: int, whole: Tensor | None) -> Tensor:
        """Rank 0's vector v (n,) becomes v − QᵀQv for the first `count` vectors; Qv (count,) as it was before, on every rank."""
        vector, known = self._own(whole), self.storage[:count]
        coefficients = self.ranks.total(known @ vector).to(vector.dtype)
        vector.addmv_(known.T, coefficients, alpha=-1)
        self.ranks.gather(vector, whole, self.size)
        return coefficients

    def combine(self, coefficients: Tensor, whole: Tensor | None) -> None:
        """Σ_j c_j q_j over the first k vectors, c (k,), is written into rank 0's vector (n,)."""
        self.ranks.gather(coefficients @ self.storage[: coefficients.numel()], whole, self.size)

    def rotate(self, rotation: Tensor) -> None:
        """`Basis.rotate` of the own entries."""
        rotate_rows(self.storage, rotation)

    def _own(self, whole: Tensor | None) -> Tensor:
        return self.ranks.scatter(whole, self.size, self.storage.dtype)
