"""What the recipe found, before it is put into words."""

from __future__ import annotations

from dataclasses import dataclass

from saddlescope.contract.jobs import Options
from saddlescope.contract.planning import Plan
from saddlescope.contract.reports import Landscape, ReportWarning
from saddlescope.curvature.escape import EscapePath
from saddlescope.curvature.evidence import Decision, Evidence
from saddlescope.curvature.knowledge import SpectralKnowledge
from saddlescope.curvature.noise import Preflight
from saddlescope.curvature.objective import Objective
from saddlescope.curvature.search_outcome import CriticalPointSearch


@dataclass(frozen=True)
class Findings:
    """Of one point: the checkpoint, or the critical point that was found near it.

    Attributes:
        paths: escapes from the checkpoint, the best measured first.
        descent_decrease: what a line-searched gradient step from the checkpoint gains.
        found: how the point came to be another than the checkpoint; None where it is the checkpoint.
    """

    objective: Objective
    plan: Plan
    options: Options
    measured: Preflight
    knowledge: SpectralKnowledge
    evidence: Evidence
    decision: Decision
    paths: tuple[EscapePath, ...]
    landscape: Landscape | None
    descent_decrease: float
    num_matvecs: int
    seconds: float
    warnings: tuple[ReportWarning, ...]
    version: str
    found: FoundPoint | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        """What is known of the checkpoint itself."""
        if self.found is not None:
            return self.found.checkpoint
        return Checkpoint(self.measured, self.evidence, self.decision)

    @property
    def best_path(self) -> EscapePath | None:
        verified = [path for path in self.paths if path.verified]
        return min(verified, key=lambda path: path.loss_after) if verified else None


@dataclass(frozen=True)
class FoundPoint:
    """A critical point near a checkpoint that is not one.

    Attributes:
        search: how it was found, and how far away.
        checkpoint: what is known of the checkpoint itself.
        paths: the escapes from the point found that those from the checkpoint were made of, in the same order.
    """

    search: CriticalPointSearch
    checkpoint: Checkpoint
    paths: tuple[EscapePath, ...]


@dataclass(frozen=True)
class Checkpoint:
    """θ as it was given: where L and its gradient stand, and what was decided there."""

    measured: Preflight
    evidence: Evidence
    decision: Decision
