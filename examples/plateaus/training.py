"""Full-batch training, and the rule by which it is said to have stopped making progress."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Batch = Mapping[str, Tensor]
WINDOW, LEAST_FALL = 10, 0.01
"""A plateau: over the last ten steps the loss fell by less than 1 %."""


@dataclass(frozen=True)
class Task:
    """L(θ) = the mean of `loss_of` over all rows + ½·weight_decay·‖θ‖², and the optimizer that minimises it."""

    loss_of: Callable[[Callable[..., Tensor], Batch], Tensor]
    data: Batch
    optimizer: Callable[[nn.Module], Optimizer]
    weight_decay: float = 0.0

    def objective(self, model: nn.Module) -> Tensor:
        loss = self.loss_of(model, self.data)
        if not self.weight_decay:
            return loss
        return loss + 0.5 * self.weight_decay * sum((part**2).sum() for part in model.parameters())


@dataclass(frozen=True)
class Plateau:
    """A network where its training stood, and the state of the optimizer there; None where another one led to it."""

    model: nn.Module
    task: Task
    optimizer_state: dict[str, object] | None
    num_steps: int

    def optimizer_for(self, model: nn.Module) -> Optimizer:
        """The optimizer with the memory that it had on the plateau."""
        optimizer = self.task.optimizer(model)
        if self.optimizer_state is not None:
            optimizer.load_state_dict(copy.deepcopy(self.optimizer_state))
        return optimizer


def train(model: nn.Module, task: Task, optimizer: Optimizer, *, num_steps: int) -> list[float]:
    """Take steps over the whole data set; the losses before each and after the last."""
    losses = []
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss = task.objective(model)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    with torch.no_grad():
        losses.append(float(task.objective(model)))
    return losses


def train_for(model: nn.Module, task: Task, *, num_steps: int) -> Plateau:
    optimizer = task.optimizer(model)
    train(model, task, optimizer, num_steps=num_steps)
    return Plateau(model, task, optimizer.state_dict(), num_steps)


def train_until_it_stands(model: nn.Module, task: Task, *, max_steps: int = 400) -> Plateau:
    """Train to the first multiple of ten steps at which the loss had fallen by less than 1 % over the last ten.

    Raises:
        RuntimeError: if there was none.
    """
    optimizer = task.optimizer(model)
    for num_steps in range(WINDOW, max_steps + 1, WINDOW):
        losses = train(model, task, optimizer, num_steps=WINDOW)
        if losses[0] - losses[-1] < LEAST_FALL * losses[0]:
            return Plateau(model, task, optimizer.state_dict(), num_steps)
    raise RuntimeError(f"the loss never stood within {max_steps} steps")
