"""One process drives, the others serve: a loss whose every derivative is a command that all ranks carry out together.

The driver's loss is an autograd function of θ. Its derivative of order k + 1 along v_1 … v_k, a vector (n,), is one command,
and differentiating that is the command of the next order; so what differentiates a loss in reverse mode (gradients, Hessian
products, orders three and four) runs over all ranks without knowing it. There is no forward mode on purpose: a recorder
of operations, which may use it, would replay half of a command. Tested with gloo on CPU processes; NCCL was not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Protocol
from weakref import finalize

import torch
import torch.distributed as dist
from torch import Tensor

from saddlescope.curvature.member import Command, Member, Op
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.remote_basis import RemoteBasis

ROW = "row"


class Driver:
    """Rank 0's side: sends commands, and works on them with the others.

    Attributes:
        problem: what the recipe analyses in place of the problem: the same θ and numbers, evaluated by all ranks. Its data
            are row numbers; batches of any rows give the loss of those rows. Its bases are spread over the ranks.
    """

    def __init__(self, member: Member, problem: Problem) -> None:
        self.member = member
        self._sent: Tensor | None = None
        self._gradient: tuple[Tensor, Tensor] | None = None
        self._failure: BaseException | None = None
        self._num_bases = 0
        self._unheld: list[int] = []
        self._variables = _variables(problem)
        self._all_rows = torch.arange(problem.num_examples)
        self.problem = replace(
            problem,
            loss=lambda tensors, batch: self._loss(tensors, batch.get(ROW)),
            constants={},
            data={ROW: self._all_rows} if problem.data else {},
            bases=self,
        )

    def stop(self) -> None:
        """Let the others go; the last command."""
        dist.broadcast(Command(Op.STOP).header(), 0, group=self.member.control)

    @property
    def num_parts(self) -> int:
        """Every rank keeps its part of a basis."""
        return self.member.ranks.count

    def reserve(self, num_rows: int, like: Tensor) -> RemoteBasis:
        """A basis spread over the ranks; they let it go when nobody here holds it any more."""
        self._num_bases += 1
        basis = RemoteBasis(self, self._num_bases, num_rows, like)
        # What is collected in the middle of a command must not send another: the next command lets go first.
        finalize(basis, self._unheld.append, self._num_bases).atexit = False
        return basis

    def command(self, command: Command, payload: Tensor | None = None, whole: Tensor | None = None) -> Tensor:
        """Have all ranks carry out a command on a basis, with the rows (k, m) of `payload`."""
        block = torch.empty(0) if payload is None else payload
        if payload is not None:
            command = replace(command, num_vectors=payload.shape[0], length=payload.shape[1])
        return self._send(command, block, None, whole)

    def evaluate(
        self, op: Op, theta: Tensor, vectors: Sequence[Tensor] = (), *, rows: Tensor | None = None, index: int = 0
    ) -> Tensor:
        """A sum over the ranks at θ (n,), float64; θ itself travels only when it is another one than last time."""
        sent = self._sent
        moves = sent is None or sent.dtype != theta.dtype or not torch.equal(sent, theta)
        if moves:
            self._sent = theta.detach().clone()
        payload = [theta, *vectors] if moves else list(vectors)
        command = Command(
            op,
            dtype=theta.dtype,
            moves=moves,
            num_vectors=len(payload),
            length=theta.numel(),
            num_rows=-1 if rows is None else rows.numel(),
            index=index,
        )
        # What can fail here fails before the others are told to take part: vmap's batched tensors are refused by `detach`.
        block = torch.stack([vector.detach() for vector in payload]) if payload else torch.empty(0)
        return self._send(command, block, rows, None)

    def _send(self, command: Command, block: Tensor, rows: Tensor | None, whole: Tensor | None) -> Tensor:
        if self._failure is not None:
            raise self._failure
        with ExitStack() as stack:
            stack.push(self._remember)
            while self._unheld:
                free = Command(Op.FREE, index=self._unheld.pop())
                dist.broadcast(free.header(), 0, group=self.member.control)
                self.member.carry_out(free, torch.empty(0), None)
            dist.broadcast(command.header(), 0, group=self.member.control)
            if rows is not None:
                dist.broadcast(rows, 0, group=self.member.control)
            return self.member.carry_out(command, block, rows, whole)

    def _remember(self, _: object, failure: BaseException | None, __: object) -> None:
        """The others are in the middle of a command that failed: whoever catches the error must not send them another."""
        self._failure = failure

    def loss_and_gradient(self, theta: Tensor, rows: Tensor | None) -> Tensor:
        """The loss of the rows; the gradient that is sure to be asked for next comes along and is kept."""
        both = self.evaluate(Op.LOSS_AND_GRADIENT, theta, rows=rows)
        self._gradient = (theta.detach().clone(), both[1:].to(theta.dtype)) if rows is None else None
        return both[0]

    def derivative(self, theta: Tensor, vectors: Sequence[Tensor], rows: Tensor | None) -> Tensor:
        """D^{k+1}ℓ(θ)[v_1, …, v_k, ·] (n,) of the loss of the rows, in the dtype of θ."""
        if not vectors and rows is None and self._gradient is not None:
            point, gradient = self._gradient
            if point.dtype == theta.dtype and torch.equal(point, theta):
                return gradient.clone()
        return self.evaluate(Op.DERIVATIVE, theta, vectors, rows=rows).to(theta.dtype)

    def _loss(self, tensors: Mapping[str, Tensor], rows: Tensor | None) -> Tensor:
        """The loss of a batch of rows, for the recipe: what autograd finds behind it is the ranks' work."""
        pieces = {variable: tensors[name].reshape(-1) for name, variable in reversed(self._variables.items())}
        for index, (name, tensor) in enumerate((name, tensors[name]) for name in self.problem.params):
            if tensor.requires_grad and tensor.is_leaf and name in self._variables:
                # A question about this name alone, not about θ as a whole: only the ranks' own graphs can tell.
                theta = torch.cat([pieces[variable].detach() for variable in sorted(pieces)])
                depends = self.evaluate(Op.DEPENDS, theta, index=index).item() > 0
                pieces[self._variables[name]] = tensor.reshape(-1) if depends else tensor.detach().reshape(-1)
        theta = torch.cat([pieces[variable] for variable in sorted(pieces)])
        if rows is not None:
            rows = rows.cpu()
            rows = None if torch.equal(rows, self._all_rows) else rows
        value: Tensor = Value.apply(theta, self, rows, theta.requires_grad)  # type: ignore[no-untyped-call]
        return value


def _variables(problem: Problem) -> dict[str, int]:
    """Which variable of θ each name stands for, by its first entry: tied names share one; empty tensors have none."""
    objective = Objective(replace(problem, data={}, constants={}), dtype=torch.float32)
    return {
        name: int(piece.storage_offset()) for name, piece in objective.tensors(objective.theta).items() if piece.numel()
    }


class _Context(Protocol):
    """What autograd keeps of one call."""

    driver: Driver
    rows: Tensor | None
    needs_input_grad: tuple[bool, ...]

    @property
    def saved_tensors(self) -> tuple[Tensor, ...]: ...
    def save_for_backward(self, *tensors: Tensor) -> None: ...


class Value(torch.autograd.Function):
    """ℓ(θ), a float64 scalar; its derivative is `Derivative` along no direction."""

    @staticmethod
    def forward(theta: Tensor, driver: Driver, rows: Tensor | None, with_gradient: bool) -> Tensor:
        if with_gradient:
            return driver.loss_and_gradient(theta, rows)
        return driver.evaluate(Op.LOSS, theta, rows=rows)[0]

    @staticmethod
    def setup_context(ctx: _Context, inputs: tuple[Tensor, Driver, Tensor | None, bool], output: Tensor) -> None:
        theta, ctx.driver, ctx.rows, _ = inputs
        ctx.save_for_backward(theta)

    @staticmethod
    def backward(ctx: _Context, *weights: Tensor) -> tuple[Tensor | None, ...]:
        return weights[0] * _derivative(ctx, ctx.saved_tensors), None, None, None


class Derivative(torch.autograd.Function):
    """D^{k+1}ℓ(θ)[v_1, …, v_k, ·] (n,).

    Its transposed derivative, by the symmetry of derivatives: a cotangent w gives θ one order more, along v_1 … v_k, w, and
    gives v_i the same order with w in the place of v_i.
    """

    @staticmethod
    def forward(driver: Driver, rows: Tensor | None, *point: Tensor) -> Tensor:
        return driver.derivative(point[0], point[1:], rows)

    @staticmethod
    def setup_context(ctx: _Context, inputs: tuple[Driver, Tensor | None, *tuple[Tensor, ...]], output: Tensor) -> None:
        ctx.driver, ctx.rows, *point = inputs
        ctx.save_for_backward(*point)

    @staticmethod
    def backward(ctx: _Context, *weights: Tensor) -> tuple[Tensor | None, ...]:
        (weight,), (theta, *vectors) = weights, ctx.saved_tensors
        gradients: list[Tensor | None] = [None, None]
        for slot, is_needed in enumerate(ctx.needs_input_grad[2:]):
            changed = [*vectors, weight] if slot == 0 else [*vectors[: slot - 1], weight, *vectors[slot:]]
            gradients.append(_derivative(ctx, (theta, *changed)) if is_needed else None)
        return tuple(gradients)


def _derivative(ctx: _Context, point: Sequence[Tensor]) -> Tensor:
    result: Tensor = Derivative.apply(ctx.driver, ctx.rows, *point)  # type: ignore[no-untyped-call]
    return result
