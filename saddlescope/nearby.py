"""The verdict of the critical point near a checkpoint that is not critical itself."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from saddlescope.contract.reports import ReportWarning
from saddlescope.contract.vocabulary import Caution, Method, Precision, Stage, Verdict
from saddlescope.curvature.chords import chord
from saddlescope.curvature.critical_point import DEFAULT_MATVECS, find_critical_point
from saddlescope.curvature.escape import EscapePath
from saddlescope.curvature.higher_order import NOT_ZERO
from saddlescope.curvature.noise import Preflight, preflight
from saddlescope.curvature.objective import Objective
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.search_outcome import CriticalPointSearch
from saddlescope.findings import Checkpoint, Findings, FoundPoint
from saddlescope.point import Point
from saddlescope.recipe import Examination, conclude, examine
from saddlescope.ways_out import gained_by_descent

LARGE_SEARCH = 20  # times the products of Lanczos
FEWEST_MATVECS = 10
AT_CHECKPOINT, SEARCHING, AT_FOUND = (0.0, 0.4), (0.4, 0.6), (0.6, 1.0)


def conclude_nearby(point: Point) -> Findings:
    """What is found at the checkpoint or, where it is not critical, at the critical point that a search from it reaches.

    A search that reaches none leaves the verdict on the checkpoint as it is, with a warning that says how it ended.
    """
    point.attempt.span = AT_CHECKPOINT
    examined = examine(point)
    if not _calls_for_search(examined):
        point.attempt.span = (0.0, 1.0)
        findings = conclude(point, examined)
        is_flat = examined.decision.verdict is Verdict.GRADIENT_FLAT
        return _warned(findings, "was not searched: the gradient lies in flat directions of H") if is_flat else findings
    here = _Here(point, examined)
    budget = here.affordable_matvecs()
    if budget < FEWEST_MATVECS:
        return _warned(conclude(point, examined), "was not searched: the deadline leaves no time")
    search = here.search(budget)
    if not search.is_critical:
        return _warned(conclude(point, examined), f"was not found: {search.outcome.value}")
    there = here.point_at(search)
    seen = examine(there)
    if not seen.evidence.criticality.is_critical:
        return _warned(
            conclude(point, examined), f"was not found: {seen.evidence.criticality.rule} where the search ended"
        )
    return here.seen_from_here(search, there, seen)


def _calls_for_search(examined: Examination) -> bool:
    """θ is not critical; or it is, but not so exactly that orders three and four may be asked, which would have to decide."""
    verdict, is_silent = examined.decision.verdict, examined.evidence.kernel_obstacle == NOT_ZERO
    return verdict is Verdict.NOT_CRITICAL or (verdict is Verdict.UNDECIDED and is_silent)


def _warned(findings: Findings, ending: str) -> Findings:
    warning = ReportWarning(
        code=Caution.CRITICAL_POINT_NOT_FOUND, detail=f"a critical point near the checkpoint {ending}"
    )
    return replace(findings, warnings=(*findings.warnings, warning))


class _Here:
    """The checkpoint, in double precision whatever it is stored in."""

    def __init__(self, point: Point, examined: Examination) -> None:
        self.point, self.examined = point, examined
        self.objective, self.measured, self.operator = _in_float64(point, examined)

    def affordable_matvecs(self) -> int:
        """Products that a search may take: those asked for at most, and a third of the time left."""
        plan, options = self.point.plan, self.point.options
        most = DEFAULT_MATVECS if plan.method is Method.DENSE else LARGE_SEARCH * plan.max_matvecs
        affordable = self.point.deadline.affordable_matvecs() / 3
        return min(options.max_matvecs or most, most, most if math.isinf(affordable) else int(affordable))

    def search(self, max_matvecs: int) -> CriticalPointSearch:
        """From here to where the gradient vanishes."""
        attempt, before = self.point.attempt, self.point.num_matvecs
        attempt.span = SEARCHING
        return find_critical_point(
            self.objective,
            self.measured,
            max_matvecs=max_matvecs,
            operator_at=lambda theta: attempt.operator_at(self.objective, theta),
            on_progress=lambda fraction: attempt.tell(
                Stage.CRITICALITY, fraction, matvecs=before + int(fraction * max_matvecs)
            ),
        )

    def point_at(self, search: CriticalPointSearch) -> Point:
        """The same question, asked where the search ended."""
        point = self.point
        point.attempt.span = AT_FOUND
        return Point(
            replace(point.objective.problem, params=self.objective.tensors(search.theta)),
            point.options.model_copy(update={"dtype": Precision.FLOAT64, "batch_size": point.objective.batch_size}),
            device=point.device,
            attempt=point.attempt,
            earlier_matvecs=point.num_matvecs + search.num_matvecs,
            is_found=True,
        )

    def seen_from_here(self, search: CriticalPointSearch, there: Point, seen: Examination) -> Findings:
        """What was found there, with the ways out as ways from here."""
        findings = conclude(there, seen)
        counted = self.operator.num_matvecs
        pairs = [(self._way_to(path, there), path) for path in findings.paths if path.step > 0]
        found = sorted(
            ((way, path) for way, path in pairs if way is not None),
            key=lambda pair: (not pair[0].verified, pair[0].loss_after),
        )
        examined = self.examined
        return replace(
            findings,
            objective=self.point.objective,
            options=self.point.options,
            paths=tuple(way for way, _ in found),
            descent_decrease=gained_by_descent(self.point, examined.measured),
            num_matvecs=findings.num_matvecs + self.operator.num_matvecs - counted,
            seconds=self.point.attempt.seconds,
            found=FoundPoint(
                search=search,
                checkpoint=Checkpoint(examined.measured, examined.evidence, examined.decision),
                paths=tuple(path for _, path in found),
            ),
        )

    def _way_to(self, path: EscapePath, there: Point) -> EscapePath | None:
        """From here to where a way out of the critical point leads."""
        target = there.operator.theta + path.step * path.vector
        return chord(self.objective, self.operator, self.measured, target)


def _in_float64(point: Point, examined: Examination) -> tuple[Objective, Preflight, HessianOperator]:
    if point.objective.dtype == torch.float64:
        return point.objective, examined.measured, point.operator
    objective = Objective(
        point.objective.problem, dtype=torch.float64, device=point.device, batch_size=point.objective.batch_size
    )
    operator = point.attempt.operator_at(objective, objective.theta)
    generator = torch.Generator().manual_seed(point.options.seed)
    return objective, preflight(objective, operator, generator=generator), operator
