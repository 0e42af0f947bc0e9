"""One objective over several processes: each holds a part of the rows, and sums meet in float64.

    L(θ) = Σ_r L_r(θ),    L_r = scale·(n_r/N)·Σ_b (n_b/n_r) ℓ_b on rank r (mean), scale·Σ_b ℓ_b (sum)

so a ragged split gives the same L, ∇L and Hv as one process, to rounding. Every method here is collective: all ranks call
it with the same arguments, and all get the same bits. Tested with gloo on CPU processes; NCCL was not run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor

from saddlescope.contract.vocabulary import Reduction
from saddlescope.curvature.errors import NonFiniteLoss
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.operator import DEFAULT_GRAPH_BYTES, HessianOperator


@dataclass(frozen=True)
class Ranks:
    """This process among `count`; `group` is theirs, the default process group when None."""

    rank: int
    count: int
    device: torch.device
    group: dist.ProcessGroup | None = None

    def total(self, local: Tensor) -> Tensor:
        """The sum over ranks in float64, the same bits everywhere: summed on rank 0, then sent to all."""
        summed = local.to(torch.float64, copy=True).contiguous()
        self.add_up_on_first(summed)
        dist.broadcast(summed, 0, group=self.group)
        return summed

    def add_up_on_first(self, local: Tensor) -> None:
        """A float64 tensor becomes the sum over ranks on rank 0; elsewhere it means nothing afterwards."""
        dist.reduce(local, 0, group=self.group)

    def entries(self, size: int) -> range:
        """Which entries of a vector (n,) are this rank's; the last ranks may have fewer, or none."""
        return self._entries(size, self.rank)

    def scatter(self, whole: Tensor | None, size: int, dtype: torch.dtype) -> Tensor:
        """The own entries of the vector (n,) that rank 0 has; the others pass None."""
        piece = torch.empty(self._width(size), dtype=dtype, device=self.device)
        pieces = None if whole is None else [self._padded(part, size) for part in self._parts(whole)]
        dist.scatter(piece, pieces, 0, group=self.group)
        return piece[: len(self.entries(size))]

    def gather(self, own: Tensor, whole: Tensor | None, size: int) -> None:
        """Every rank's own entries are written into the vector (n,) of rank 0; the others pass None."""
        piece, pieces = self._padded(own, size), None
        if whole is not None:
            pieces = [self._padded(part, size) for part in self._parts(whole)]
        dist.gather(piece, pieces, 0, group=self.group)
        for part, filled in zip(self._parts(whole), pieces, strict=True) if whole is not None and pieces else ():
            if part.numel() < filled.numel():
                part.copy_(filled[: part.numel()])

    def _width(self, size: int) -> int:
        return -(-size // self.count)

    def _entries(self, size: int, rank: int) -> range:
        width = self._width(size)
        return range(min(size, rank * width), min(size, (rank + 1) * width))

    def _parts(self, whole: Tensor) -> list[Tensor]:
        """The entries of each rank, views of the vector (n,)."""
        ranges = [self._entries(whole.numel(), rank) for rank in range(self.count)]
        return [whole[entries.start : entries.stop] for entries in ranges]

    def _padded(self, part: Tensor, size: int) -> Tensor:
        """The part itself, or a copy with zeros behind it where it is shorter than others of a vector (n,)."""
        missing = self._width(size) - part.numel()
        return torch.cat([part, part.new_zeros(missing)]) if missing else part


@dataclass(frozen=True)
class Part:
    """A problem with only one rank's rows, from row `start` of `num_examples` in all."""

    problem: Problem
    start: int
    num_examples: int

    @property
    def num_rows(self) -> int:
        if not self.problem.data:  # a loss without data is evaluated once, on the first rank
            return 1 if self.start == 0 else 0
        return self.problem.num_examples

    def rows(self, chosen: Tensor) -> Part:
        """The own ones of the rows `chosen` (m,) of the whole data set, as a part of a data set of those m."""
        own = chosen[(chosen >= self.start) & (chosen < self.start + self.num_rows)] - self.start
        data = {name: tensor[own.to(tensor.device)] for name, tensor in self.problem.data.items()}
        return Part(replace(self.problem, data=data), self.start, chosen.numel())


def part_of(problem: Problem, rows: range) -> Part:
    """The rows `rows` of a problem; its other rows may be freed."""
    data = {name: tensor[rows.start : rows.stop].clone() for name, tensor in problem.data.items()}
    return Part(replace(problem, data=data), rows.start, problem.num_examples)


def even_rows(num_examples: int, *, rank: int, count: int, batch_size: int | None = None) -> range:
    """The rows of a rank, as even as they come; whole batches of `batch_size` where that is given."""
    unit = min(batch_size or 1, num_examples)
    units = -(-num_examples // unit)
    start, stop = (min(num_examples, -(-units * index // count) * unit) for index in (rank, rank + 1))
    return range(start, stop)


class DistributedObjective:
    """L over all ranks' rows. A rank may have none.

    Args:
        part: this rank's rows; the parts of all ranks make up the data set.
        ranks: the processes; their devices do the work.
        dtype: float64 or float32, the precision of every evaluation.
        batch_size: rows a batch on each rank; all of the rank's rows when None.
    """

    def __init__(self, part: Part, ranks: Ranks, *, dtype: torch.dtype, batch_size: int | None = None) -> None:
        whole = part.problem
        share = part.num_rows / part.num_examples if whole.reduction is Reduction.MEAN and whole.data else 1.0
        own = replace(whole, scale=whole.scale * share, weight_decay=0.0)
        self.local = Objective(own, dtype=dtype, device=str(ranks.device), batch_size=batch_size)
        self.has_rows = part.num_rows > 0
        self.ranks, self.dtype, self.device = ranks, dtype, ranks.device
        self.theta, self.num_parameters = self.local.theta, self.local.num_parameters
        self.num_examples, self.weight_decay = part.num_examples, whole.weight_decay

    def relative_scales(self) -> Tensor:
        """As `Objective.relative_scales`; not collective."""
        return self.local.relative_scales()

    def local_loss(self, theta: Tensor) -> Tensor:
        """This rank's addend of L(θ), a float64 scalar; not collective."""
        value = self.local.loss(theta) if self.has_rows else 0.0
        return torch.tensor([value], dtype=torch.float64, device=self.device)

    def local_gradient(self, theta: Tensor) -> Tensor:
        """This rank's addends of (L(θ), ∇L(θ)) as one float64 vector (1 + n,); not collective."""
        both = torch.zeros(1 + self.num_parameters, dtype=torch.float64, device=self.device)
        if self.has_rows:
            value, gradient = self.local.gradient(theta)
            both[0], both[1:] = value, gradient
        return both

    def loss(self, theta: Tensor) -> float:
        """L(θ)."""
        return self.ranks.total(self.local_loss(theta)).item() + self._decay(theta)

    def gradient(self, theta: Tensor) -> tuple[float, Tensor]:
        """L(θ) and ∇L(θ) (n,) in the working dtype."""
        both = self.ranks.total(self.local_gradient(theta))
        gradient = both[1:].add(theta.double(), alpha=self.weight_decay)
        return both[0].item() + self._decay(theta), gradient.to(self.dtype)

    def _decay(self, theta: Tensor) -> float:
        return 0.5 * self.weight_decay * theta.double().square().sum().item() if self.weight_decay else 0.0


class DistributedHessian:
    """H = ∇²L(θ), symmetric (n, n), over all ranks' rows; what `HessianOperator` is on one process.

    Args:
        objective: L at its working precision.
        theta: the point (n,), the same on every rank.
        graph_bytes: what graphs may take on each rank.

    A product costs each rank its own rows' product and one sum of n float64 numbers over the ranks.
    """

    def __init__(
        self, objective: DistributedObjective, theta: Tensor, *, graph_bytes: int = DEFAULT_GRAPH_BYTES
    ) -> None:
        self.objective, self.theta = objective, theta.detach().clone()
        self.size = objective.num_parameters
        self.num_matvecs = 0
        self._local = None
        if objective.has_rows:
            self._local = HessianOperator(objective.local, theta, graph_bytes=graph_bytes)

    def local_products(self, block: Tensor) -> Tensor:
        """This rank's addends of H·block[i] (k, n), float64, NaN where they are not finite; not collective."""
        if self._local is None:
            return torch.zeros(block.shape, dtype=torch.float64, device=block.device)
        try:
            if block.shape[0] == 1:
                return self._local.matvec(block[0]).to(torch.float64, copy=True).contiguous()[None]
            return self._local.matmat(block).to(torch.float64, copy=True).contiguous()
        except NonFiniteLoss:
            # Raising on one rank would leave the others waiting; a NaN reaches them all through the sum.
            return torch.full(block.shape, torch.nan, dtype=torch.float64, device=block.device)

    def matvec(self, vector: Tensor) -> Tensor:
        """Hv (n,), the same on every rank.

        Raises:
            NonFiniteLoss: on every rank, if the product is not finite.
        """
        return self.matmat(vector[None])[0]

    def matmat(self, block: Tensor) -> Tensor:
        """Rows H·block[i] (k, n) for rows block (k, n): k products.

        Raises:
            NonFiniteLoss: on every rank, if a product is not finite.
        """
        self.num_matvecs += block.shape[0]
        total = self.objective.ranks.total(self.local_products(block))
        total.add_(block.double(), alpha=self.objective.weight_decay)
        if not torch.isfinite(total).all():
            raise NonFiniteLoss("a Hessian-vector product at θ is NaN or infinite")
        return total.to(self.objective.dtype)
