"""A point under analysis: its objective, its operator and its random stream, and how far the work on it is."""

from __future__ import annotations

import torch
from torch import Tensor

from saddlescope.attempt import Attempt
from saddlescope.contract.jobs import Options
from saddlescope.contract.planning import Plan, plan
from saddlescope.contract.vocabulary import Method, Precision, Stage
from saddlescope.curvature.lanczos import sphere_vector
from saddlescope.curvature.memory import plan_batch_size
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.planner import feasible


class Point:
    """What the steps of the recipe share.

    Args:
        problem: with the point as its parameters.
        options: what is asked.
        device: where the work is done.
        attempt: what accompanies the run.
        earlier_matvecs: products spent before, at other points.
        is_found: the point is where a search of the gradient's zeros ended.
    """

    def __init__(
        self,
        problem: Problem,
        options: Options,
        *,
        device: str,
        attempt: Attempt,
        earlier_matvecs: int = 0,
        is_found: bool = False,
    ) -> None:
        self.options, self.attempt, self.deadline = options, attempt, attempt.deadline
        self.device, self.earlier_matvecs, self.is_found = device, earlier_matvecs, is_found
        sizes = sum(tensor.numel() for tensor in problem.params.values())
        asked = plan(
            sizes,
            method=options.method,
            precision=options.dtype,
            max_matvecs=options.max_matvecs,
            has_float64=any(tensor.dtype == torch.float64 for tensor in problem.params.values()),
        )
        self.plan: Plan = feasible(asked, sizes)
        dtype = torch.float64 if self.plan.precision is Precision.FLOAT64 else torch.float32
        self.objective = Objective(problem, dtype=dtype, device=device, batch_size=options.batch_size)
        known = attempt.recognize(self.objective, options)
        if known is not None:
            self.objective.batch_size = min(known.batch_size, self.objective.num_examples)
        elif options.batch_size is None:
            self.objective.batch_size = plan_batch_size(self.objective, self.objective.theta)
        self.operator = attempt.operator(
            self.objective, expected_matvecs=self.plan.max_matvecs, may_save=self._may_save
        )
        self.generator = torch.Generator().manual_seed(options.seed)

    @property
    def num_matvecs(self) -> int:
        """Products spent on the question so far."""
        return self.earlier_matvecs + self.operator.num_matvecs

    def _may_save(self, operator: HessianOperator) -> bool:
        # Before the way of the rows is known a resumed run would have to measure it, and might choose another.
        return self.plan.method is Method.LANCZOS or operator.row_block is not None

    def tell(self, stage: Stage, fraction: float, lowest: float | None = None, residual: float | None = None) -> None:
        """Tell where the work on this point is."""
        left = max(0, self.plan.max_matvecs - self.operator.num_matvecs) if stage in (Stage.DENSE, Stage.LANCZOS) else 0
        self.attempt.tell(stage, fraction, matvecs=self.num_matvecs, remaining=left, lowest=lowest, residual=residual)

    def relative_directions(self, count: int) -> list[Tensor]:
        """Random directions (n,), each as long as θ in relative coordinates."""
        scales, size = self.objective.relative_scales(), self.objective.num_parameters
        return [
            size**0.5
            * scales
            * sphere_vector(size, generator=self.generator, dtype=self.objective.dtype, device=self.objective.device)
            for _ in range(count)
        ]
