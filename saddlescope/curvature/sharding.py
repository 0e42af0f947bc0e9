"""Lanczos with its basis spread over processes: each keeps n/p entries of every basis vector.

Vectors are gathered for a product; inner products and the coefficients of the reorthogonalization are summed over the
ranks in float64. α and β are those of `lanczos.tridiagonalize` to rounding, so its certificate and quadrature hold for
them unchanged. Tested with gloo on CPU processes; NCCL was not run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from saddlescope.curvature.distributed import Ranks
from saddlescope.curvature.lanczos import LanczosCycle, Matvec

ShouldStop = Callable[[LanczosCycle], bool]
FIRST_ROWS = 16


class Basis(Protocol):
    """Orthonormal vectors, wherever they are kept; they come and go in the form that `dot` takes."""

    def append(self, vector: Tensor) -> None: ...
    def orthogonalized(self, vector: Tensor) -> Tensor: ...
    def dot(self, first: Tensor, second: Tensor) -> float: ...
    def combine(self, coefficients: Tensor) -> Tensor: ...
    def agreed(self, choice: bool) -> bool: ...
    @property
    def storage(self) -> Tensor: ...


class ShardedBasis:
    """What one rank keeps of a basis. Vectors are shards (n/p,), and every method that compares them is collective.

    Attributes:
        storage: (rows, n/p); this rank's entries of the first `num_rows` vectors, further rows are undefined.
    """

    def __init__(self, ranks: Ranks, size: int, dtype: torch.dtype) -> None:
        self.ranks, self.size, self.num_rows = ranks, size, 0
        width = max(0, min(ranks.width(size), size - ranks.rank * ranks.width(size)))
        self.storage = torch.empty(FIRST_ROWS, width, dtype=dtype, device=ranks.device)

    def append(self, vector: Tensor) -> None:
        """Keep one more vector; not collective."""
        if self.num_rows == self.storage.shape[0]:
            self.storage = torch.cat([self.storage, torch.empty_like(self.storage)])
        self.storage[self.num_rows] = vector
        self.num_rows += 1

    def orthogonalized(self, vector: Tensor) -> Tensor:
        """v − QᵀQv, in two passes."""
        known = self.storage[: self.num_rows]
        # Twice is enough (Kahan, Parlett): one pass leaves O(eps ||H|| / beta_j) behind.
        for _ in range(2):
            coefficients = self.ranks.total(known @ vector)  # (k,)
            vector = vector - coefficients.to(vector.dtype) @ known
        return vector

    def dot(self, first: Tensor, second: Tensor) -> float:
        """aᵀb."""
        return self.ranks.total(torch.dot(first.double(), second.double())[None]).item()

    def combine(self, coefficients: Tensor) -> Tensor:
        """Σ_j c_j q_j (n,) over the first k vectors for c (k,); whole, on every rank."""
        known = self.storage[: coefficients.numel()]
        return self.ranks.gather(coefficients.to(known) @ known, self.size)

    def agreed(self, choice: bool) -> bool:
        """What rank 0 chose."""
        return self.ranks.agreed(choice)


@dataclass(frozen=True)
class ShardedCycle(LanczosCycle):
    """A cycle whose `storage` holds this rank's entries alone, (rows, n/p); `vector` assembles whole vectors."""

    assemble: Callable[[Tensor], Tensor]

    def vector(self, coefficients: Tensor) -> Tensor:
        """Σ_j c_j q_j (n,), normalized; collective where the basis is."""
        combined = self.assemble(coefficients)
        unit: Tensor = combined / combined.norm()
        return unit


def tridiagonalize_sharded(
    matvec: Matvec,
    start: Tensor,
    *,
    ranks: Ranks,
    num_matvecs: int,
    should_stop: ShouldStop | None = None,
    check_every: int = 5,
) -> ShardedCycle:
    """`lanczos.tridiagonalize` on all ranks together, from a start vector (n,) that each of them has.

    Costs k products, each gathering n numbers, and O(n k²/p) flops a rank. `matvec` maps (n,) to (n,), alike on every rank;
    `should_stop` is asked on every rank, and rank 0's answer counts.

    Raises:
        ValueError: unless 1 <= num_matvecs <= n.
    """
    size = start.numel()

    def sharded_matvec(shard: Tensor) -> Tensor:
        return ranks.shard(matvec(ranks.gather(shard, size)))

    return tridiagonalize_in(
        ShardedBasis(ranks, size, start.dtype),
        sharded_matvec,
        ranks.shard(start / start.norm()),
        size=size,
        num_matvecs=num_matvecs,
        should_stop=should_stop,
        check_every=check_every,
    )


def tridiagonalize_in(
    basis: Basis,
    matvec: Matvec,
    start: Tensor,
    *,
    size: int,
    num_matvecs: int,
    should_stop: ShouldStop | None,
    check_every: int,
) -> ShardedCycle:
    """The Lanczos recurrence from a unit vector in the basis's own form; leaves q_1 … q_{k+1} in the empty `basis`.

    Raises:
        ValueError: unless 1 <= num_matvecs <= n.
    """
    if not 1 <= num_matvecs <= size:
        raise ValueError(f"num_matvecs must be between 1 and {size}, not {num_matvecs}")
    epsilon = torch.finfo(start.dtype).eps
    alpha: list[float] = []
    beta: list[float] = []
    vector, norm, is_exhausted = start, 0.0, False

    def cycle() -> ShardedCycle:
        return ShardedCycle(
            storage=basis.storage,
            alpha=torch.tensor(alpha, dtype=torch.float64),
            beta=torch.tensor(beta, dtype=torch.float64),
            is_exhausted=is_exhausted,
            assemble=basis.combine,
        )

    basis.append(vector)
    for step in range(num_matvecs):
        product = matvec(vector)
        alpha.append(basis.dot(product, vector))
        vector = basis.orthogonalized(product)
        beta.append(math.sqrt(basis.dot(vector, vector)))
        norm = max(norm, abs(alpha[-1]) + beta[-1])
        is_exhausted = step + 1 == size or beta[-1] <= 10 * epsilon * math.sqrt(step + 1) * norm
        if is_exhausted:
            break
        vector = vector / beta[-1]
        basis.append(vector)
        if should_stop is not None and (step + 1) % check_every == 0 and basis.agreed(should_stop(cycle())):
            break
    return cycle()
