"""The Hessian at one θ as an operator: v to Hv over the whole data set, exact to rounding."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from saddlescope.curvature.backoff import is_out_of_memory, with_less_memory
from saddlescope.curvature.errors import NonFiniteLoss, OutOfMemory
from saddlescope.curvature.first_layers import find_row_space
from saddlescope.curvature.linear_map import LinearMap
from saddlescope.curvature.modes import AGREEMENT, ModeChoice, choose_mode
from saddlescope.curvature.objective import Objective
from saddlescope.curvature.product_log import ProductLog
from saddlescope.curvature.products import BatchProducts, Linearized, Mode, prepare
from saddlescope.curvature.row_space import RowSpace
from saddlescope.curvature.saved import digest_of

DEFAULT_GRAPH_BYTES = 4 * 2**30
DEFAULT_MATVECS = 150


class HessianOperator:
    """H = ∇²L(θ), symmetric (n, n), never formed.

    Args:
        objective: L at its working precision.
        theta: the point (n,); H does not move when it is changed afterwards.
        mode: how products are computed; the fastest by a short measurement at the first product when None. A choice
            made before is taken over with its overflow.
        graph_bytes: what graphs and records may take; further batches are differentiated at every product.
        expected_matvecs: how many products the measurement shall pay for.
        log: where products are kept and looked up.

    Attributes:
        row_block: rows of a dense Hessian computed together, once that has been measured.

    Cost of a product: one to two gradients where a graph is kept, two to four otherwise. When memory does not suffice, what is
    kept is released, batches and blocks are halved, and the product is done again.
    """

    def __init__(
        self,
        objective: Objective,
        theta: Tensor,
        *,
        mode: Mode | ModeChoice | None = None,
        graph_bytes: int = DEFAULT_GRAPH_BYTES,
        expected_matvecs: int = DEFAULT_MATVECS,
        log: ProductLog | None = None,
    ) -> None:
        self.objective = objective
        self.theta = theta.detach().clone()
        self.size = objective.num_parameters
        self.num_matvecs = 0
        self.graph_bytes = graph_bytes
        self.expected_matvecs = expected_matvecs
        self.row_block: int | None = None
        self._log, self._point = log, b"" if log is None else digest_of(self.theta)
        self._choice = _given(mode, graph_bytes)
        self._kept: list[tuple[float, BatchProducts]] | None = None
        self._batch_size = objective.batch_size
        self._found: list[RowSpace | None] = []
        self._block: int | None = None
        self._is_batchable: bool | None = None

    @property
    def mode(self) -> Mode:
        """How products are computed; measured now if that has not happened."""
        return self.choice.mode

    @property
    def choice(self) -> ModeChoice:
        """The mode with its measurement."""
        if self._choice is None:
            self._choice = with_less_memory(
                lambda: choose_mode(
                    self.objective,
                    self.theta,
                    expected_matvecs=self.expected_matvecs,
                    budget_bytes=self.graph_bytes,
                ),
                self._give_way,
            )
            self._batch_size = self.objective.batch_size
        return self._choice

    def _products(self) -> list[tuple[float, BatchProducts]]:
        """Each batch's weight and products: by the chosen mode as far as memory is allowed, then by the overflow's."""
        if self._kept is None or self._batch_size != self.objective.batch_size:
            self._kept = None
            choice, size = self.choice, self.objective.batch_size
            first = choice.first if size == self._batch_size else None
            used, mode, built = 0, choice.mode, list[tuple[float, BatchProducts]]()
            for weight, batch in self.objective.batches():
                products = first or prepare(mode, self.objective, self.theta, batch)
                first = None
                if used + products.num_bytes > self.graph_bytes:
                    mode = choice.overflow
                    products = prepare(mode, self.objective, self.theta, batch)
                used += products.num_bytes
                built.append((weight, products))
            self._kept, self._batch_size, self._found = built, size, []
            self._choice = replace(choice, first=None)
        return self._kept

    def _give_way(self, cause: OutOfMemory) -> None:
        """Release everything kept and allow half as much, for half the rows; at one row, nothing is kept."""
        self._kept, self._found = None, []
        if self._choice is not None:
            self._choice = replace(self._choice, first=None)
        self.graph_bytes //= 2
        if not self.objective.halve_batches():
            if not self.graph_bytes:
                raise cause
            self.graph_bytes = 0

    def matvec(self, vector: Tensor) -> Tensor:
        """Hv (n,), one product over the whole data set, summed over batches in float64.

        Raises:
            NonFiniteLoss: if the product is not finite.
            NotDifferentiable: if an operation has no second derivative.
            OutOfMemory: if even one row at a time does not fit, or the rows may not be regrouped.
        """
        self.num_matvecs += 1
        if self._log is None:
            return self._product(vector)
        return self._log.row(self._point, vector, lambda: self._product(vector))

    def row_space(self) -> RowSpace | None:
        """Where H lives beside its weight decay, if that is known to be a smaller space and worth its price.

        Known once there was a product, where that was the recorded one of a single batch.
        """
        match self._kept:
            case [(weight, Linearized(LinearMap() as linear))]:
                if not self._found:
                    rest = self.graph_bytes - linear.num_bytes
                    found = find_row_space(linear, weight=weight, num_matvecs=self.expected_matvecs, budget_bytes=rest)
                    self._found.append(found)
                return self._found[0]
        return None

    def matvec_within(self, space: RowSpace, vector: Tensor) -> Tensor:
        """H in the coordinates of its row space and of one unit vector e of the complement, (r + 1,) to (r + 1,).

        Counts and raises as `matvec`. Should memory not suffice, it goes the way over Rⁿ.
        """

        def product() -> Tensor:
            if space.product is not None:
                return self._finished(space.product(vector), space.weight, vector)
            within = space.reduce(self._product(space.expand(vector[:-1])))
            return torch.cat([within, vector[-1:] * self.objective.problem.weight_decay])

        def give_way(cause: OutOfMemory) -> None:
            space.product = None
            self._give_way(cause)

        self.num_matvecs += 1
        if self._log is None:
            return with_less_memory(product, give_way)
        return self._log.row(self._point, vector, lambda: with_less_memory(product, give_way))

    def timed_product(self) -> float:
        """Seconds of a product at the pace of many: the second of two, of which neither is counted or kept in the log."""
        vector = torch.full_like(self.theta, self.size**-0.5)
        for _ in range(2):
            began = time.perf_counter()
            self._product(vector)
            if vector.is_cuda:
                torch.cuda.synchronize(vector.device)
        return time.perf_counter() - began

    def _product(self, vector: Tensor) -> Tensor:
        return with_less_memory(lambda: self._sum(vector, lambda batch: batch.product(vector)), self._give_way)

    def matmat(self, block: Tensor) -> Tensor:
        """Rows H·block[i] (k, n) for rows block (k, n): k products, batched by vmap where every operation allows it.

        Raises:
            NonFiniteLoss: if a product is not finite.
            NotDifferentiable: if an operation has no second derivative.
            OutOfMemory: as for `matvec`.
        """
        count = block.shape[0]
        if count == 1 or not self._batches_rightly():
            return torch.stack([self.matvec(row) for row in block])
        self.num_matvecs += count

        def products() -> Tensor:
            pieces = torch.split(block, min(self._block or count, count))
            return torch.cat([self._sum(piece, partial(_rows, piece)) for piece in pieces])

        def give_way(cause: OutOfMemory) -> None:
            size = min(self._block or count, count)
            if size > 1:
                self._block = size // 2
            else:
                self._give_way(cause)

        def rows() -> Tensor:
            return with_less_memory(products, give_way)

        return rows() if self._log is None else self._log.rows(self._point, block, rows)

    def _batches_rightly(self) -> bool:
        """Whether a random block gives what its rows give one by one; some operations have no batching rule, or a wrong one."""
        if self._is_batchable is None:
            generator = torch.Generator().manual_seed(0)
            block = torch.randn(2, self.size, generator=generator, dtype=torch.float64).to(self.theta)
            (_, products), *_ = self._products()
            singly = torch.stack([products.product(row) for row in block])
            try:
                together = products.rows(block)
            except RuntimeError as failure:
                if is_out_of_memory(failure):
                    raise
                together = torch.full_like(singly, math.nan)
            difference = (together - singly).double().norm().item()
            self._is_batchable = difference <= AGREEMENT[self.theta.dtype] * singly.double().norm().item()
        return self._is_batchable

    def _sum(self, vectors: Tensor, apply: Callable[[BatchProducts], Tensor]) -> Tensor:
        """Σ_b w_b·apply(batch) + weight_decay·vectors, over several batches in float64."""
        products, decay = self._products(), self.objective.problem.weight_decay
        if len(products) == 1:
            ((weight, only),) = products
            return self._finished(apply(only), weight, vectors)
        total = torch.zeros(vectors.shape, dtype=torch.float64, device=vectors.device)
        for weight, batch in products:
            total.add_(apply(batch), alpha=weight)
        return _finite(total.add_(vectors, alpha=decay).to(self.objective.dtype))

    def _finished(self, product: Tensor, weight: float, vectors: Tensor) -> Tensor:
        """A single batch's product, weighted and with the decay."""
        decay = self.objective.problem.weight_decay
        result = product if weight == 1.0 else product * weight
        result = result.add(vectors, alpha=decay) if decay else result
        # Autograd may hand the vector itself back, where H is the identity.
        return _finite(result.clone() if result.data_ptr() == vectors.data_ptr() else result)


def _finite(result: Tensor) -> Tensor:
    # NaN and infinity reach the sum; what overflows only there is looked at again.
    if not math.isfinite(result.sum().item()) and not torch.isfinite(result).all():
        raise NonFiniteLoss("a Hessian-vector product at θ is NaN or infinite")
    return result


def _rows(block: Tensor, batch: BatchProducts) -> Tensor:
    return batch.rows(block)


def _given(mode: Mode | ModeChoice | None, graph_bytes: int) -> ModeChoice | None:
    """No measurement where the mode is asked for, or nothing may be kept."""
    if isinstance(mode, ModeChoice):
        return mode
    if mode is None and graph_bytes > 0:
        return None
    return ModeChoice(Mode.REVERSE_OVER_REVERSE if mode is None else mode)
