"""The objective: flat θ to loss and gradient over the whole data set.

    L(θ) = scale · Σ_b w_b ℓ_b(θ) + ½ weight_decay ‖θ‖²,    w_b = n_b/N (mean) or 1 (sum)

so that the answer does not depend on how the rows are batched. Sums over batches are kept in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from saddlescope.contract.vocabulary import Reduction
from saddlescope.curvature.backoff import with_less_memory
from saddlescope.curvature.basis import ONE_DEVICE, Bases
from saddlescope.curvature.errors import NotDifferentiable, NotScalar, OutOfMemory
from saddlescope.curvature.slots import slots_of

BatchLoss = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Problem:
    """What is analysed, before any choice of precision, device or batch size.

    Attributes:
        loss: (tensors, batch) to the scalar loss of the batch; `tensors` holds params and constants.
        params: the floating-point tensors that vary; their order is the order of θ. One tensor under two
            names is one variable (tied).
        constants: buffers, passed beside the params; floating ones follow the working dtype.
        data: tensors that share dimension 0; empty when the loss needs none.
        reduction: how batch losses combine into L.
        scale: a factor on the combined loss.
        weight_decay: adds ½·weight_decay·‖θ‖² once.
        lower_bound: a number that L never falls below, or None when none is known.
        is_additive: the loss of all rows is the weighted sum of the losses of groups of rows; when False, L is what the
            loss gives on the batches of the asked size, and they are never regrouped.
        bases: where the vectors of Lanczos are kept.
    """

    loss: BatchLoss
    params: Mapping[str, Tensor]
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    data: Mapping[str, Tensor] = field(default_factory=dict)
    reduction: Reduction = Reduction.MEAN
    scale: float = 1.0
    weight_decay: float = 0.0
    lower_bound: float | None = None
    is_additive: bool = True
    bases: Bases = ONE_DEVICE

    @property
    def num_examples(self) -> int:
        """Rows of the data; 1 for a loss without data."""
        return next(iter(self.data.values())).shape[0] if self.data else 1


class Objective:
    """A `Problem` at a working dtype, device and batch size.

    Args:
        problem: what is analysed.
        dtype: float64 or float32, the precision of every evaluation.
        device: a torch device.
        batch_size: rows a batch; the whole data set when None.
    """

    def __init__(
        self, problem: Problem, *, dtype: torch.dtype, device: str = "cpu", batch_size: int | None = None
    ) -> None:
        self.problem = problem
        self.dtype = dtype
        self.device = torch.device(device)
        self.num_examples = problem.num_examples
        self.batch_size = min(batch_size or self.num_examples, self.num_examples)
        self._slots = slots_of(problem.params)
        self.num_parameters = self._slots[-1].stop if self._slots else 0
        if self.num_parameters == 0:
            raise NotDifferentiable("the checkpoint has no floating-point parameter to vary")
        self._constants = {name: self._working(tensor) for name, tensor in problem.constants.items()}
        self._data = {name: self._working(tensor) for name, tensor in problem.data.items()}
        self.theta = torch.cat(
            [problem.params[slot.names[0]].detach().reshape(-1).to(self.device, dtype) for slot in self._slots]
        )
        self.num_gradients = 0

    def _working(self, tensor: Tensor) -> Tensor:
        tensor = tensor.detach()
        return tensor.to(self.device, self.dtype) if tensor.is_floating_point() else tensor.to(self.device)

    def tensors(self, theta: Tensor) -> dict[str, Tensor]:
        """Views of flat θ (n,) under the checkpoint's names, in the working dtype."""
        pieces = torch.split(theta, [slot.stop - slot.start for slot in self._slots])
        shaped = zip(self._slots, pieces, strict=True)
        return {name: piece.view(slot.shape) for slot, piece in shaped for name in slot.names}

    def checkpoint_tensors(self, theta: Tensor) -> dict[str, Tensor]:
        """Copies of flat θ (n,) under the checkpoint's names, in the checkpoint's dtypes, on the CPU."""
        return {
            name: theta[slot.start : slot.stop].to("cpu", slot.dtype).reshape(slot.shape).clone()
            for slot in self._slots
            for name in slot.names
        }

    def moved(self, step: float, direction: Tensor) -> Tensor:
        """θ + step·direction (n,) as the checkpoint's dtypes hold it, the sum taken in float64: what a trainer would get."""
        return self.rounded(self.theta.double() + step * direction.double())

    def rounded(self, theta: Tensor) -> Tensor:
        """θ (n,) as the checkpoint's own dtypes can hold it."""
        return torch.cat([theta[slot.start : slot.stop].to(slot.dtype).to(self.dtype) for slot in self._slots])

    def relative_scales(self) -> Tensor:
        """s (n,) with s_i = ‖θ_b‖/√n_b on tensor b, and 1 where the tensor is zero: the unit of a relative step."""
        scales = torch.ones_like(self.theta)
        for slot in self._slots:
            norm = self.theta[slot.start : slot.stop].norm().item() if slot.stop > slot.start else 0.0
            if norm > 0:
                scales[slot.start : slot.stop] = norm / math.sqrt(slot.stop - slot.start)
        return scales

    def held_tensors(self) -> tuple[Tensor, ...]:
        """The data and the constants in the working dtype."""
        return (*self._data.values(), *self._constants.values())

    @property
    def is_additive(self) -> bool:
        """Whether rows may be regrouped."""
        return self.problem.is_additive

    def never_regroup(self) -> None:
        """L is from now on what the loss gives on batches of this size."""
        self.problem = replace(self.problem, is_additive=False)

    def halve_batches(self) -> bool:
        """Half as many rows a batch from now on; False where they may not be regrouped or are down to one."""
        if not self.is_additive or self.batch_size == 1:
            return False
        self.batch_size = math.ceil(self.batch_size / 2)
        return True

    def depends_on(self, theta: Tensor, name: str) -> bool:
        """Whether autograd reaches the parameter `name` (n_b > 0) from the loss of the first batch."""
        tensors = {key: piece.detach() for key, piece in self.tensors(theta).items()}
        tensors[name].requires_grad_()
        _, batch = next(self.batches())
        value = self.problem.loss({**self._constants, **tensors}, batch)
        if not value.requires_grad:
            return False
        (reached,) = torch.autograd.grad(value, tensors[name], allow_unused=True)
        return reached is not None

    def num_batches(self, batch_size: int | None = None) -> int:
        return math.ceil(self.num_examples / (batch_size or self.batch_size))

    def batches(self, batch_size: int | None = None) -> Iterator[tuple[float, Mapping[str, Tensor]]]:
        """(weight of the batch loss in L, rows) over the whole data set, in order."""
        size = batch_size or self.batch_size
        is_mean = self.problem.reduction is Reduction.MEAN
        for start in range(0, self.num_examples, size):
            rows = min(size, self.num_examples - start)
            weight = self.problem.scale * (rows / self.num_examples if is_mean else 1.0)
            yield weight, {name: tensor[start : start + rows] for name, tensor in self._data.items()}

    def chosen(self, rows: Tensor) -> Mapping[str, Tensor]:
        """The rows (m,) as one batch."""
        return {name: tensor[rows] for name, tensor in self._data.items()}

    def batch_loss(self, theta: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """ℓ_b(θ), a scalar tensor with its graph.

        Raises:
            NotScalar: unless the loss gives one real number.
        """
        value = self.problem.loss({**self._constants, **self.tensors(theta)}, batch)
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.is_floating_point():
            found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise NotScalar(f"the loss of a batch must be one real number; it gave {found}")
        return value.reshape(())

    def loss(self, theta: Tensor, batch_size: int | None = None) -> float:
        """L(θ), summed over batches in float64.

        Raises:
            OutOfMemory: if even one row at a time does not fit, or the rows may not be regrouped.
        """
        return with_less_memory(lambda: self._loss(theta, batch_size), lambda cause: self._shrink(batch_size, cause))

    def _shrink(self, batch_size: int | None, cause: OutOfMemory) -> None:
        if batch_size is not None or not self.halve_batches():
            raise cause

    def _loss(self, theta: Tensor, batch_size: int | None) -> float:
        with torch.no_grad():
            total = sum(
                weight * self.batch_loss(theta, batch).double().item() for weight, batch in self.batches(batch_size)
            )
            return total + 0.5 * self.problem.weight_decay * theta.double().square().sum().item()

    def gradient(self, theta: Tensor, batch_size: int | None = None) -> tuple[float, Tensor]:
        """L(θ) and ∇L(θ) (n,) in the working dtype, both summed over batches in float64.

        Raises:
            NotDifferentiable: if autograd has no derivative of a layer or operation.
            OutOfMemory: if even one row at a time does not fit, or the rows may not be regrouped.
        """
        self.num_gradients += 1
        return with_less_memory(
            lambda: self._gradient(theta, batch_size), lambda cause: self._shrink(batch_size, cause)
        )

    def _gradient(self, theta: Tensor, batch_size: int | None) -> tuple[float, Tensor]:
        leaf = theta.detach().requires_grad_()
        total, decay = 0.0, self.problem.weight_decay
        gradient = torch.zeros(self.num_parameters, dtype=torch.float64, device=self.device)
        for weight, batch in self.batches(batch_size):
            value = self.batch_loss(leaf, batch)
            total += weight * value.detach().double().item()
            if value.requires_grad:
                piece = differentiate(value, leaf, create_graph=False)
                gradient.add_(piece, alpha=weight)
        if decay:
            total += 0.5 * decay * theta.double().square().sum().item()
            gradient.add_(theta, alpha=decay)
        return total, gradient.to(self.dtype)


def differentiate(value: Tensor, leaf: Tensor, *, create_graph: bool) -> Tensor:
    """∂value/∂leaf, zero where value does not depend on it.

    Raises:
        NotDifferentiable: if autograd has no derivative of an operation.
    """
    try:
        (derivative,) = torch.autograd.grad(value, leaf, create_graph=create_graph, materialize_grads=True)
    except (NotImplementedError, RuntimeError) as missing:
        if _is_missing_derivative(missing):
            raise NotDifferentiable(f"autograd has no derivative here: {missing}") from missing
        raise
    return derivative


def _is_missing_derivative(error: Exception) -> bool:
    message = str(error)
    return isinstance(error, NotImplementedError) or any(
        phrase in message
        for phrase in ("not implemented", "is not differentiable", "not supported", "does not require grad")
    )
