"""A question that training asked, and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from saddlescope.contract.vocabulary import Verdict
from saddlescope.results import AnalysisReport

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Snapshot:
    """θ and the buffers as they were at a step, copied to the host."""

    step: int
    tensors: dict[str, Tensor]
    train_loss: float | None = None


@dataclass(frozen=True)
class Answer:
    """What the service found about the checkpoint of a step; training has gone on since."""

    step: int
    report: AnalysisReport
    job: str
    url: str
    """The job's page on the dashboard."""
    fingerprint: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """The digest of each tensor of the checkpoint."""

    @property
    def verdict(self) -> Verdict:
        return self.report.verdict
