"""Hessian-vector products of one batch, by every exact way that autograd offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.graph import saved_tensors_hooks

from saddlescope.curvature.errors import NotDifferentiable
from saddlescope.curvature.linear_map import LinearMap, linearize
from saddlescope.curvature.memory import SavedBytes
from saddlescope.curvature.objective import Objective, differentiate

Batch = Mapping[str, Tensor]


class Mode(StrEnum):
    """How Hv is computed. Cost in gradients on one CPU thread: MLP, convolution net (GELU), transformer."""

    KEPT_GRAPH = "kept_graph"
    """Reverse over reverse, the graph of the first backward kept: 1.3, 2.5, 2.3, and its memory."""
    REVERSE_OVER_REVERSE = "reverse_over_reverse"
    """∇(gᵀv) from scratch (Pearlmutter 1994): 2.3, 4.1, 3.4."""
    FORWARD_OVER_REVERSE = "forward_over_reverse"
    """The gradient of a dual number: 3.9, 4.2, 4.5, and no graph of a gradient."""
    LINEARIZED = "linearized"
    """Forward over reverse, recorded once and replayed: 1.2, 1.2, 2.2, and its memory."""

    @property
    def keeps_memory(self) -> bool:
        return self in (Mode.KEPT_GRAPH, Mode.LINEARIZED)


class BatchProducts(Protocol):
    """v to H_b v for the loss of one batch; `num_bytes` is what is kept between products."""

    @property
    def num_bytes(self) -> int: ...

    def product(self, vector: Tensor) -> Tensor: ...

    def rows(self, block: Tensor) -> Tensor:
        """Rows H_b·block[i] (k, n)."""
        ...


@dataclass(frozen=True)
class KeptGraph:
    """∇ℓ_b (n,) with the graph that differentiates it once more."""

    leaf: Tensor
    gradient: Tensor
    num_bytes: int
    is_kept: bool = True

    def product(self, vector: Tensor) -> Tensor:
        if not self.gradient.requires_grad:  # ℓ_b is linear in θ
            return torch.zeros_like(vector)
        try:
            (product,) = torch.autograd.grad(
                self.gradient, self.leaf, vector, retain_graph=self.is_kept, materialize_grads=True
            )
        except RuntimeError as missing:
            if "derivative" in str(missing) or "not implemented" in str(missing):
                raise NotDifferentiable(f"autograd has no second derivative here: {missing}") from missing
            raise
        return product

    def rows(self, block: Tensor) -> Tensor:
        if not self.gradient.requires_grad:
            return torch.zeros_like(block)
        (products,) = torch.autograd.grad(
            self.gradient, self.leaf, block, retain_graph=True, is_grads_batched=True, materialize_grads=True
        )
        return products


@dataclass(frozen=True)
class FromScratch:
    """Reverse over reverse, nothing kept."""

    objective: Objective
    theta: Tensor
    batch: Batch
    num_bytes: int = 0

    def product(self, vector: Tensor) -> Tensor:
        return _keep_graph(self.objective, self.theta, self.batch, is_kept=False).product(vector)

    def rows(self, block: Tensor) -> Tensor:
        return _keep_graph(self.objective, self.theta, self.batch, is_kept=True).rows(block)


@dataclass(frozen=True)
class ForwardOverReverse:
    """The gradient at the dual number θ + εv; nothing kept, and the memory of two gradients."""

    objective: Objective
    theta: Tensor
    batch: Batch
    num_bytes: int = 0

    def product(self, vector: Tensor) -> Tensor:
        with forward_ad.dual_level():
            leaf: Tensor = forward_ad.make_dual(self.theta, vector)  # type: ignore[no-untyped-call]
            gradient = _gradient(self.objective, leaf.requires_grad_(), self.batch)
            tangent: Tensor | None = forward_ad.unpack_dual(gradient).tangent  # type: ignore[no-untyped-call]
            return torch.zeros_like(vector) if tangent is None else tangent.detach()

    def rows(self, block: Tensor) -> Tensor:
        return torch.stack([self.product(vector) for vector in block])


@dataclass(frozen=True)
class Linearized:
    """The recorded derivative of ∇ℓ_b."""

    linear: LinearMap | None

    @property
    def num_bytes(self) -> int:
        return 0 if self.linear is None else self.linear.num_bytes

    def product(self, vector: Tensor) -> Tensor:
        return torch.zeros_like(vector) if self.linear is None else self.linear(vector)

    def rows(self, block: Tensor) -> Tensor:
        return torch.zeros_like(block) if self.linear is None else self.linear.rows(block)


def prepare(mode: Mode, objective: Objective, theta: Tensor, batch: Batch) -> BatchProducts:
    """The products of one batch at θ (n,), a tensor without a graph.

    Costs two gradients for a kept graph, about five for a linear map, else nothing.

    Raises:
        NotDifferentiable: if an operation has no second derivative.
        RuntimeError, NotImplementedError: if the mode does not work with an operation of this loss.
    """
    match mode:
        case Mode.KEPT_GRAPH:
            return _keep_graph(objective, theta, batch, is_kept=True)
        case Mode.REVERSE_OVER_REVERSE:
            return FromScratch(objective, theta, batch)
        case Mode.FORWARD_OVER_REVERSE:
            return ForwardOverReverse(objective, theta, batch)
        case Mode.LINEARIZED:
            return Linearized(linearize(lambda leaf: _gradient(objective, leaf, batch), theta))


def _keep_graph(objective: Objective, theta: Tensor, batch: Batch, *, is_kept: bool) -> KeptGraph:
    leaf = theta.detach().requires_grad_()
    saved = SavedBytes(objective, theta)
    with saved_tensors_hooks(saved.pack, lambda tensor: tensor):
        value = objective.batch_loss(leaf, batch)
        gradient = differentiate(value, leaf, create_graph=True) if value.requires_grad else torch.zeros_like(theta)
    return KeptGraph(leaf, gradient, saved.total, is_kept)


def _gradient(objective: Objective, leaf: Tensor, batch: Batch) -> Tensor:
    """∇ℓ_b at a dual leaf."""
    value = objective.batch_loss(leaf, batch)
    if not value.requires_grad:
        return torch.zeros_like(leaf.detach())
    try:
        return differentiate(value, leaf, create_graph=False)
    except NotDifferentiable:
        # silu's backward and others are made of differentiable operations only when a graph is asked for.
        return differentiate(objective.batch_loss(leaf, batch), leaf, create_graph=True)
