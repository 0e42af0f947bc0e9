"""What the ranks do when one of them drives: receive a command, work on the own rows, add the result to the others'.

Tested with gloo on CPU processes; NCCL was not run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum, auto

import torch
import torch.distributed as dist
from torch import Tensor

from saddlescope.curvature.distributed import DistributedHessian, DistributedObjective, Part, Ranks
from saddlescope.curvature.memory import SHARE, available_bytes, plan_batch_size
from saddlescope.curvature.objective import differentiate
from saddlescope.curvature.sharding import ShardedBasis

DTYPES = (torch.float32, torch.float64)


class Op(IntEnum):
    """What the ranks are asked to do together; sums arrive on rank 0."""

    STOP = auto()
    LOSS = auto()
    LOSS_AND_GRADIENT = auto()
    DERIVATIVE = auto()
    DEPENDS = auto()
    RESERVE = auto()
    FREE = auto()
    KEEP = auto()
    ROW = auto()
    PROJECT_OUT = auto()
    COMBINE = auto()
    ROTATE = auto()


@dataclass(frozen=True)
class Command:
    """The fixed-size part of a request; what follows it is (num_vectors, length) numbers, θ first where it `moves`.

    Attributes:
        num_rows: how many rows of the data are meant, or -1 for all of them.
        index: of a basis, or of a parameter's name.
        count: of a basis: how many vectors, or which one.
    """

    op: Op
    dtype: torch.dtype = torch.float64
    moves: bool = False
    num_vectors: int = 0
    length: int = 0
    num_rows: int = -1
    index: int = 0
    count: int = 0

    def header(self) -> Tensor:
        fields = (
            self.op,
            DTYPES.index(self.dtype),
            self.moves,
            self.num_vectors,
            self.length,
            self.num_rows,
            self.index,
            self.count,
        )
        return torch.tensor(fields, dtype=torch.int64)

    @staticmethod
    def of(header: Tensor) -> Command:
        op, dtype, moves, *numbers = header.tolist()
        return Command(Op(op), DTYPES[dtype], bool(moves), *numbers)


class Member:
    """One rank's share of the job: its rows, its kept graphs, its entries of the bases.

    Args:
        part: this rank's rows; scale and weight decay are the driver's affair.
        ranks: the processes, in the group that moves vectors.
        control: a group for the commands on CPU; its timeout is how long the driver may be busy with itself.
        batch_size: rows a batch; as many as this rank's memory allows when None.
    """

    def __init__(self, part: Part, ranks: Ranks, *, control: dist.ProcessGroup, batch_size: int | None) -> None:
        self.part = Part(replace(part.problem, scale=1.0, weight_decay=0.0), part.start, part.num_examples)
        self.ranks, self.control, self.batch_size = ranks, control, batch_size
        self.bases: dict[int, ShardedBasis] = {}
        self._objectives: dict[torch.dtype, DistributedObjective] = {}
        self._hessian: DistributedHessian | None = None
        self._once: DistributedHessian | None = None
        self._theta = torch.empty(0)

    def serve(self) -> None:
        """Carry out commands until told to stop; every rank but the driver."""
        header = Command(Op.STOP).header()
        while True:
            dist.broadcast(header, 0, group=self.control)
            command = Command.of(header)
            if command.op is Op.STOP:
                return
            rows = None
            if command.num_rows >= 0:
                rows = torch.empty(command.num_rows, dtype=torch.int64)
                dist.broadcast(rows, 0, group=self.control)
            payload = torch.empty(command.num_vectors, command.length, dtype=command.dtype, device=self.ranks.device)
            self.carry_out(command, payload, rows)

    def carry_out(self, command: Command, payload: Tensor, rows: Tensor | None, whole: Tensor | None = None) -> Tensor:
        """This rank's part of a command; the result is right on rank 0. `whole` is the driver's vector of a basis."""
        if payload.numel():
            dist.broadcast(payload, 0, group=self.ranks.group)
        if command.op >= Op.RESERVE:
            return self._in_basis(command, payload, whole)
        if command.moves:
            self._theta, payload = payload[0].clone(), payload[1:]
        with torch.enable_grad():  # the driver calls from inside an autograd function, where it is off
            local = self._evaluate(command, payload, rows)
        del payload
        self.ranks.add_up_on_first(local)
        return local

    def _in_basis(self, command: Command, payload: Tensor, whole: Tensor | None) -> Tensor:
        """What a command on a basis answers beside what it writes into the driver's vector."""
        index = command.index
        match command.op:
            case Op.RESERVE:
                self.bases[index] = ShardedBasis(self.ranks, command.count, command.length, command.dtype)
            case Op.FREE:
                del self.bases[index]
            case Op.KEEP:
                self.bases[index].keep(command.count, whole)
            case Op.ROW:
                self.bases[index].row(command.count, whole)
            case Op.PROJECT_OUT:
                return self.bases[index].project_out(command.count, whole)
            case Op.COMBINE:
                self.bases[index].combine(payload[0], whole)
            case Op.ROTATE:
                self.bases[index].rotate(payload)
        return torch.empty(0)

    def _evaluate(self, command: Command, vectors: Tensor, rows: Tensor | None) -> Tensor:
        objective, theta = self._objective(command.dtype, rows), self._theta
        match command.op:
            case Op.LOSS:
                return objective.local_loss(theta)
            case Op.LOSS_AND_GRADIENT:
                return objective.local_gradient(theta)
            case Op.DEPENDS:
                name = list(self.part.problem.params)[command.index]
                depends = objective.has_rows and objective.local.depends_on(theta, name)
                return torch.tensor([float(depends)], dtype=torch.float64, device=self.ranks.device)
            case _:
                if len(vectors) == 1:
                    return self._hessian_at(objective, theta).local_products(vectors)[0]
                return local_derivative(objective, theta, vectors)

    def _objective(self, dtype: torch.dtype, rows: Tensor | None) -> DistributedObjective:
        if rows is not None:
            return DistributedObjective(self.part.rows(rows), self.ranks, dtype=dtype, batch_size=self.batch_size)
        if dtype not in self._objectives:
            made = DistributedObjective(self.part, self.ranks, dtype=dtype, batch_size=self.batch_size)
            if self.batch_size is None and made.has_rows:
                made.local.batch_size = plan_batch_size(made.local, made.theta, budget_bytes=self._graph_budget())
            self._objectives[dtype] = made
        return self._objectives[dtype]

    def _graph_budget(self) -> int:
        """Processes on CPU share one memory."""
        sharers = self.ranks.count if self.ranks.device.type == "cpu" else 1
        return int(SHARE * available_bytes(self.ranks.device)) // sharers

    def _hessian_at(self, objective: DistributedObjective, theta: Tensor) -> DistributedHessian:
        """With graphs kept from the second product at a point on: many points are asked for one, in between."""
        for known in (self._hessian, self._once):
            if known is not None and known.objective is objective and torch.equal(known.theta, theta):
                break
        else:
            self._once = DistributedHessian(objective, theta, graph_bytes=0)
            return self._once
        if known is self._once:
            self._hessian = None  # frees the old graphs before new ones are made
            self._hessian = known = DistributedHessian(objective, theta)
        self._once = None
        return known


def local_derivative(objective: DistributedObjective, theta: Tensor, directions: Tensor) -> Tensor:
    """This rank's addend of D^{k+1}L(θ)[v_1, …, v_k, ·] (n,), float64, for rows v_i of (k, n), by nested reverse mode."""
    total = torch.zeros(objective.num_parameters, dtype=torch.float64, device=objective.device)
    leaf = theta.detach().clone().requires_grad_()
    for weight, batch in objective.local.batches() if objective.has_rows else ():
        value = objective.local.batch_loss(leaf, batch)
        for direction in directions:
            if value.requires_grad:
                value = torch.dot(differentiate(value, leaf, create_graph=True), direction)
        if value.requires_grad:
            total.add_(differentiate(value, leaf, create_graph=False), alpha=weight)
    return total
