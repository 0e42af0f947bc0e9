"""The Hessian at one θ as an operator: v to Hv over the whole data set, exact to rounding.

Reverse over reverse (Pearlmutter 1994): Hv = ∇(gᵀv). The graph of the first backward is kept for as many batches as fit in
memory, which saves the forward and the first backward of every later product (about 1 to 2 gradients a product instead
of 2 to 3); the other batches are differentiated afresh.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from saddlescope.curvature.errors import NonFiniteLoss, NotDifferentiable
from saddlescope.curvature.objective import Objective, differentiate

DEFAULT_GRAPH_BYTES = 4 * 2**30


@dataclass(frozen=True)
class _GradientGraph:
    """∇ℓ_b (n,) of one batch with the graph that differentiates it once more."""

    leaf: Tensor
    gradient: Tensor

    def product(self, vector: Tensor, *, keep: bool) -> Tensor:
        if not self.gradient.requires_grad:  # ℓ_b is linear in θ
            return torch.zeros_like(vector)
        try:
            (product,) = torch.autograd.grad(
                self.gradient, self.leaf, vector, retain_graph=keep, materialize_grads=True
            )
        except RuntimeError as missing:
            if "derivative" in str(missing) or "not implemented" in str(missing):
                raise NotDifferentiable(f"autograd has no second derivative here: {missing}") from missing
            raise
        return product

    def products(self, block: Tensor) -> Tensor:
        """Rows H_b·block[i] (k, n), batched by vmap over the kept graph."""
        if not self.gradient.requires_grad:
            return torch.zeros_like(block)
        (products,) = torch.autograd.grad(
            self.gradient, self.leaf, block, retain_graph=True, is_grads_batched=True, materialize_grads=True
        )
        return products


class HessianOperator:
    """H = ∇²L(θ), symmetric (n, n), never formed.

    Args:
        objective: L at its working precision.
        theta: the point (n,); H does not move when it is changed afterwards.
        graph_bytes: what the kept graphs may take; further batches are differentiated at every product.

    Cost of a product: one or two gradients where the graph is kept, two to three otherwise.
    """

    def __init__(self, objective: Objective, theta: Tensor, *, graph_bytes: int = DEFAULT_GRAPH_BYTES) -> None:
        self.objective = objective
        self.theta = theta.detach().clone()
        self.size = objective.num_parameters
        self.num_matvecs = 0
        self.graph_bytes = graph_bytes
        self._kept: list[_GradientGraph] | None = None
        self._is_single = objective.num_batches() == 1

    def _graph(self, batch: Mapping[str, Tensor]) -> _GradientGraph:
        leaf = self.theta.requires_grad_()
        value = self.objective.batch_loss(leaf, batch)
        if not value.requires_grad:
            return _GradientGraph(leaf, torch.zeros_like(leaf).detach())
        return _GradientGraph(leaf, differentiate(value, leaf, create_graph=True))

    def _graphs(self) -> list[_GradientGraph]:
        """The kept graphs, of the first batches that fit; built at the first product."""
        if self._kept is None:
            self._kept, used = [], 0
            for _, batch in self.objective.batches():
                saved = _SavedBytes()
                with saved_tensors_hooks(saved.pack, lambda tensor: tensor):
                    graph = self._graph(batch)
                used += saved.total
                if used > self.graph_bytes:
                    break
                self._kept.append(graph)
        return self._kept

    def matvec(self, vector: Tensor) -> Tensor:
        """Hv (n,), one product over the whole data set, summed over batches in float64.

        Raises:
            NonFiniteLoss: if the product is not finite.
            NotDifferentiable: if an operation has no second derivative.
        """
        self.num_matvecs += 1
        kept = self._graphs()
        total: Tensor | None = None
        for index, (weight, batch) in enumerate(self.objective.batches()):
            is_kept = index < len(kept)
            graph = kept[index] if is_kept else self._graph(batch)
            product = graph.product(vector, keep=is_kept)
            if self._is_single:
                total = product.mul_(weight) if weight != 1.0 else product
            elif total is None:
                total = product.double().mul_(weight)
            else:
                total.add_(product, alpha=weight)
        assert total is not None  # noqa: S101 - a data set has at least one batch
        result = total.to(self.objective.dtype)
        if self.objective.problem.weight_decay:
            result = result.add(vector, alpha=self.objective.problem.weight_decay)
        if not torch.isfinite(result).all():
            raise NonFiniteLoss("a Hessian-vector product at θ is NaN or infinite")
        return result

    def matmat(self, block: Tensor) -> Tensor:
        """Rows H·block[i] (k, n) for rows block (k, n): k products, batched by vmap where every operation allows it.

        Raises:
            NonFiniteLoss: if a product is not finite.
        """
        kept = self._graphs()
        if len(kept) < self.objective.num_batches():
            return torch.stack([self.matvec(row) for row in block])
        self.num_matvecs += block.shape[0]
        total = torch.zeros(block.shape, dtype=torch.float64, device=block.device)
        for (weight, _), graph in zip(self.objective.batches(), kept, strict=True):
            total.add_(graph.products(block), alpha=weight)
        if self.objective.problem.weight_decay:
            total.add_(block, alpha=self.objective.problem.weight_decay)
        if not torch.isfinite(total).all():
            raise NonFiniteLoss("the Hessian at θ has an entry that is NaN or infinite")
        return total.to(self.objective.dtype)


class _SavedBytes:
    """Counts the bytes that autograd keeps for a graph, each storage once."""

    def __init__(self) -> None:
        self.total = 0
        self._seen: set[int] = set()

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.total += storage.nbytes()
        return tensor
