"""Hessian products kept as they are computed, and looked up instead of computed where an earlier run left them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from saddlescope.curvature.modes import AGREEMENT
from saddlescope.curvature.saved import digest_of


class ProductLog:
    """Products by digest of point and vector.

    Args:
        known: products of an earlier run. The first that is asked for is computed all the same: where it does not agree, L is
            another function, and all of them are dropped.
        max_bytes: of all products kept; those beyond are computed again by a run that resumes.
        on_product: called whenever products were computed and kept.
        is_worthwhile: whether the run has lasted long enough to keep products; it keeps none before.

    Attributes:
        products: what is kept, on the CPU.
        num_answered: how many were asked for.
        num_recalled: how many of them were looked up.
        is_refused: the known products were another function's.
    """

    def __init__(
        self,
        known: Mapping[str, Tensor],
        *,
        max_bytes: int,
        on_product: Callable[[], None] = lambda: None,
        is_worthwhile: Callable[[], bool] = lambda: True,
    ) -> None:
        self.products: dict[str, Tensor] = dict(known)
        self.max_bytes, self.on_product, self.is_worthwhile = max_bytes, on_product, is_worthwhile
        self.num_bytes = sum(product.nbytes for product in known.values())
        self.num_answered = self.num_recalled = 0
        self.is_refused = False
        self._is_trusted = False

    def row(self, point: bytes, vector: Tensor, compute: Callable[[], Tensor]) -> Tensor:
        """As `rows`, for one vector (n,)."""
        return self.rows(point, vector[None], lambda: compute()[None])[0]

    def rows(self, point: bytes, block: Tensor, compute: Callable[[], Tensor]) -> Tensor:
        """What `compute` gives for the rows of a block (k, n) at a point, or what it gave before."""
        self.num_answered += len(block)
        if not self.products and not self.is_worthwhile():
            return compute()
        # Rows computed together may differ in their last bits from rows computed one by one.
        key = point + len(block).to_bytes(4, "little")
        names = [digest_of(row, key).hex() for row in block]
        known = [self.products[name] for name in names if name in self.products]
        if len(known) == len(names) and known[0].shape == block[0].shape and known[0].dtype == block.dtype:
            recalled = torch.stack(known).to(block.device)
            if self._is_trusted or self._agrees(compute(), recalled):
                self._is_trusted = True
                self.num_recalled += len(names)
                return recalled
            self._forget()
        rows = compute()
        for name, row in zip(names, rows, strict=True):
            if name not in self.products and self.num_bytes + row.nbytes <= self.max_bytes:
                self.products[name] = row.detach().to("cpu", copy=True)
                self.num_bytes += row.nbytes
        self.on_product()
        return rows

    def _agrees(self, computed: Tensor, recalled: Tensor) -> bool:
        difference = (computed.double() - recalled.double()).norm().item()
        norm: float = computed.double().norm().item()
        return bool(difference <= AGREEMENT[computed.dtype] * norm)

    def _forget(self) -> None:
        self.products.clear()
        self.num_bytes, self.is_refused = 0, True
