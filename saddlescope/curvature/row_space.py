"""Where the Hessian of a batch lives when the batch has fewer rows than its first layer has inputs.

A weight W (h, d) that meets constant inputs X (m, d) alone, as XWᵀ, moves the loss only by what W does to the rows of X. With
Xᵀ = QR, Q (d, r) orthonormal and r = min(m, d), V and VQQᵀ have the same product, whose rows lie in the span of Q as well. So H
is zero on the complement of {VQᵀ}, and V ↦ VQ is an isometry of all else. `first_layers` finds such weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from saddlescope.curvature.linear_map import LinearMap


@dataclass(frozen=True)
class Block:
    """One weight: entries [start, start + shape[0]·shape[1]) of v, and Q of the inputs that it meets.

    Attributes:
        is_transposed: the weight is (d, h) and meets the inputs as XW.
    """

    start: int
    shape: tuple[int, int]
    is_transposed: bool
    span: Tensor

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def reduced_shape(self) -> tuple[int, int]:
        rank = self.span.shape[1]
        return (rank, self.shape[1]) if self.is_transposed else (self.shape[0], rank)

    @property
    def reduced_size(self) -> int:
        return math.prod(self.reduced_shape)

    def reduce(self, entries: Tensor) -> Tensor:
        """V (h·d,) to VQ (h·r,)."""
        weight = entries.view(self.shape)
        return (self.span.T @ weight if self.is_transposed else weight @ self.span).reshape(-1)

    def expand(self, entries: Tensor) -> Tensor:
        """Z (h·r,) to ZQᵀ (h·d,)."""
        weight = entries.view(self.reduced_shape)
        return (self.span @ weight if self.is_transposed else weight @ self.span.T).reshape(-1)


@dataclass
class RowSpace:
    """A subspace of Rⁿ, invariant under the Hessian of one batch, on whose complement that Hessian is zero.

    Attributes:
        size: n.
        blocks: the weights that have fewer coordinates, by their place in v.
        weight: of the batch in L.
        product: the Hessian in coordinates, and one entry more that it takes to zero: (rank + 1,) to (rank + 1,). None where it
            had to be let go for want of memory.
    """

    size: int
    blocks: tuple[Block, ...]
    weight: float
    product: LinearMap | None

    @property
    def rank(self) -> int:
        """How many coordinates there are."""
        return self.size - sum(block.size - block.reduced_size for block in self.blocks)

    def reduce(self, vector: Tensor) -> Tensor:
        """The coordinates (rank,) of v's part in the subspace, v (n,)."""
        return torch.cat([block.reduce(part) if block else part for block, part in self._parts(vector)])

    def expand(self, coordinates: Tensor) -> Tensor:
        """The vector (n,) with these coordinates (rank,), as long as they are."""
        parts, start = list[Tensor](), 0
        for block, length in self._lengths():
            count = block.reduced_size if block else length
            part = coordinates[start : start + count]
            parts.append(block.expand(part) if block else part)
            start += count
        return torch.cat(parts)

    def _parts(self, vector: Tensor) -> Iterator[tuple[Block | None, Tensor]]:
        blocks, lengths = zip(*self._lengths(), strict=True)
        yield from zip(blocks, torch.split(vector, list(lengths)), strict=True)

    def _lengths(self) -> Iterator[tuple[Block | None, int]]:
        """The blocks, and None for what lies between them, with their numbers of entries in v."""
        end = 0
        for block in self.blocks:
            if block.start > end:
                yield None, block.start - end
            yield block, block.size
            end = block.start + block.size
        if end < self.size:
            yield None, self.size - end
