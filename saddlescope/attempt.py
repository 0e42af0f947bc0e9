"""One attempt at an analysis as it is seen from outside: what it tells, what it saves, and when it must have ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import saddlescope
from saddlescope.contract.jobs import Options
from saddlescope.contract.planning import SAVED_BYTES
from saddlescope.contract.reports import ReportWarning
from saddlescope.contract.vocabulary import Caution, Stage
from saddlescope.curvature.memory import available_bytes
from saddlescope.curvature.modes import ModeChoice
from saddlescope.curvature.objective import Objective
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.planner import EtaClock
from saddlescope.curvature.product_log import ProductLog
from saddlescope.curvature.saved import SavedRun, fingerprint
from saddlescope.deadline import Deadline

AFTERWARDS = 40  # products' worth of criticality, escapes and landscape
EARLY = 10  # a tenth of the interval between saves passes before products are kept: a short run pays nothing
LOG_SHARE = 8  # at most this fraction of the memory at hand


@dataclass(frozen=True)
class ProgressUpdate:
    """Where an analysis is; the partial λ_min is a Ritz value with its residual norm."""

    stage: Stage
    fraction: float
    matvecs: int
    eta_seconds: float | None = None
    lambda_min: float | None = None
    residual_norm: float | None = None


OnProgress = Callable[[ProgressUpdate], None]
OnSave = Callable[[SavedRun], None]


class Attempt:
    """What accompanies a run of the recipe.

    Args:
        on_progress: is told every stage and count of products.
        saved: what an earlier attempt at the same question left; of another question it is not used.
        on_save: is given the state at most every `save_every_seconds`, between two products, and may raise to stop the run.
        deadline: moment of `time.monotonic` to be done by, None for as long as it takes.

    Attributes:
        span: the part of the whole that is in progress, between 0 and 1.
    """

    def __init__(
        self,
        *,
        on_progress: OnProgress | None = None,
        saved: SavedRun | None = None,
        on_save: OnSave | None = None,
        save_every_seconds: float = 60.0,
        deadline: float | None = None,
    ) -> None:
        self.on_progress, self.on_save = on_progress or (lambda _: None), on_save
        self.save_every_seconds = save_every_seconds
        self._offered = self._known = saved
        self._began = self._told = time.monotonic()
        self.deadline = Deadline(deadline)
        self.span = (0.0, 1.0)
        self._clock = EtaClock()
        self._fingerprint = ""
        self._log: ProductLog | None = None
        self._first: HessianOperator | None = None

    @property
    def seconds(self) -> float:
        """Spent on the question so far, in this attempt and in those it goes on from."""
        earlier = 0.0 if self._known is None else self._known.seconds
        return earlier + time.monotonic() - self._began

    def recognize(self, objective: Objective, options: Options) -> SavedRun | None:
        """The saved run, if it is of this question: that of the first point; what follows from it is asked of nobody."""
        if self._first is not None or (self._offered is None and self.on_save is None):
            return None
        question = f"{saddlescope.__version__} {torch.__version__} {options.model_dump_json()}"
        self._fingerprint = fingerprint(objective, question)
        if self._known is not None and self._known.fingerprint != self._fingerprint:
            self._known = None
        return self._known

    def operator(
        self, objective: Objective, *, expected_matvecs: int, may_save: Callable[[HessianOperator], bool]
    ) -> HessianOperator:
        """H at the objective's θ; its products are kept where the run is saved, and looked up where it was.

        At a second point and later the products are computed as at the first.
        """
        if self._first is not None:
            return self.operator_at(objective, objective.theta)
        known = self._known
        if known is not None or self.on_save is not None:
            self._log = ProductLog(
                {} if known is None else known.products,
                max_bytes=min(SAVED_BYTES, available_bytes(torch.device("cpu")) // LOG_SHARE),
                on_product=lambda: self._save(first) if may_save(first) else None,
                is_worthwhile=lambda: time.monotonic() - self._began >= self.save_every_seconds / EARLY,
            )
        self._first = first = HessianOperator(
            objective,
            objective.theta,
            mode=None if known is None else ModeChoice(known.mode, known.overflow),
            expected_matvecs=expected_matvecs,
            log=self._log,
        )
        first.row_block = None if known is None else known.row_block
        return first

    def operator_at(self, objective: Objective, theta: Tensor) -> HessianOperator:
        """H at another θ (n,)."""
        assert self._first is not None  # noqa: S101 - the first point comes first
        operator = HessianOperator(objective, theta, mode=replace(self._first.choice, first=None), log=self._log)
        operator.row_block = self._first.row_block
        return operator

    def _save(self, operator: HessianOperator) -> None:
        if self.on_save is None or self._log is None or time.monotonic() - self._told < self.save_every_seconds:
            return
        self.on_save(
            SavedRun(
                fingerprint=self._fingerprint,
                products=dict(self._log.products),
                mode=operator.choice.mode,
                overflow=operator.choice.overflow,
                batch_size=operator.objective.batch_size,
                row_block=operator.row_block,
                matvecs=self._log.num_answered,
                seconds=self.seconds,
            )
        )
        self._told = time.monotonic()

    def tell(
        self,
        stage: Stage,
        fraction: float,
        *,
        matvecs: int,
        remaining: int = 0,
        lowest: float | None = None,
        residual: float | None = None,
    ) -> None:
        """Tell where the run is; what remains is counted in products at the pace seen so far."""
        self._clock.tick(matvecs, time.monotonic())
        eta = self._clock.remaining_seconds(remaining + AFTERWARDS)
        low, high = self.span
        self.on_progress(ProgressUpdate(stage, low + (high - low) * fraction, matvecs, eta, lowest, residual))

    def cautions(self) -> tuple[ReportWarning, ...]:
        """What a reader should know of how the run went."""
        return (*self._of_the_saved_run(), *self.deadline.cautions())

    def _of_the_saved_run(self) -> tuple[ReportWarning, ...]:
        is_used = self._known is not None and self._log is not None and self._log.num_recalled > 0
        if self._offered is None or (is_used and self._log is not None and not self._log.is_refused):
            return ()
        detail = "a saved run was given that is not of this question, on this machine; the analysis started over"
        return (ReportWarning(code=Caution.SAVED_RUN_IGNORED, detail=detail),)
