"""Saddlescope's own engine on the benchmark's question: one reorthogonalized Lanczos cycle that stops by residuals."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from benchmarks.peers.models import Subject
from benchmarks.peers.question import PAIRS_AT_EACH_END, RESIDUAL_RTOL
from benchmarks.peers.subject import Answer, Setting
from saddlescope.curvature.coordinates import coordinates_of
from saddlescope.curvature.lanczos import LanczosCycle, tridiagonalize
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.operator import HessianOperator

MAX_MATVECS = 300


def problem_of(subject: Subject) -> Problem:
    """The subject as the product sees it."""
    inputs, targets = (torch.cat(parts) for parts in zip(*subject.batches, strict=True))

    def loss(tensors: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        logits = torch.func.functional_call(subject.network, dict(tensors), (batch["inputs"],))
        return nn.functional.cross_entropy(logits, batch["targets"])

    parameters = {name: parameter.detach() for name, parameter in subject.network.named_parameters()}
    return Problem(loss=loss, params=parameters, data={"inputs": inputs, "targets": targets})


def prepare(subject: Subject) -> Callable[[int, Setting], Answer]:
    """The solve needs no setting: it stops when the residuals are what was asked."""
    objective = Objective(problem_of(subject), dtype=torch.float32, batch_size=len(subject.batches[0][0]))
    operator = HessianOperator(objective, objective.theta)
    operator.matvec(torch.ones_like(objective.theta))
    coordinates_of(operator)  # finds what can be found once

    def solve(seed: int, setting: Setting) -> Answer:
        assert not setting
        before = operator.num_matvecs
        generator = torch.Generator().manual_seed(seed)
        space = coordinates_of(operator)
        cycle = tridiagonalize(
            space.matvec,
            space.start(generator),
            num_matvecs=min(MAX_MATVECS, space.size),
            should_stop=is_answered,
        )
        coefficients = cycle.ritz().coefficients
        ends = torch.cat([coefficients[:, :PAIRS_AT_EACH_END], coefficients[:, -PAIRS_AT_EACH_END:]], dim=1)
        vectors = torch.stack([space.lift(vector) for vector in ends.T.to(cycle.basis) @ cycle.basis])
        return Answer({"vectors": vectors}, operator.num_matvecs - before)

    return solve


def is_answered(cycle: LanczosCycle) -> bool:
    """Whether every pair that was asked has the residual that was asked."""
    ritz = cycle.ritz()
    if cycle.num_steps < 2 * PAIRS_AT_EACH_END:
        return False
    ends = torch.cat([ritz.residual_norms[:PAIRS_AT_EACH_END], ritz.residual_norms[-PAIRS_AT_EACH_END:]])
    return bool((ends <= RESIDUAL_RTOL * ritz.values.abs().max()).all())
