"""The verdict of the critical point near a checkpoint that is not critical itself."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from saddlescope.contract.reports import ReportWarning
from saddlescope.contract.vocabulary import Caution, Method, Precision, Stage, Verdict
from saddlescope.curvature.chords import chord
from saddlescope.curvature.critical_point import DEFAULT_MATVECS, CriticalPointSearch, find_critical_point
from saddlescope.curvature.escape import EscapePath
from saddlescope.curvature.higher_order import NOT_ZERO
from saddlescope.curvature.noise import Preflight, preflight
from saddlescope.curvature.objective import Objective
from saddlescope.curvature.operator import HessianOperator
from saddlescope.findings import Checkpoint, Findings, FoundPoint
from saddlescope.recipe import Examination, Recipe

LARGE_SEARCH = 20  # times the products of Lanczos
FEWEST_MATVECS = 10
AT_CHECKPOINT, SEARCHING, AT_FOUND = (0.0, 0.4), (0.4, 0.6), (0.6, 1.0)


def conclude_nearby(recipe: Recipe, *, device: str) -> Findings:
    """What is found at the checkpoint or, where it is not critical, at the critical point that a search from it reaches.

    A search that reaches none leaves the verdict on the checkpoint as it is, with a warning that says how it ended.
    """
    recipe.attempt.span = AT_CHECKPOINT
    examined = recipe.examine()
    if not _calls_for_search(examined):
        recipe.attempt.span = (0.0, 1.0)
        findings = recipe.conclude(examined)
        is_flat = examined.decision.verdict is Verdict.GRADIENT_FLAT
        return _warned(findings, "was not searched: the gradient lies in flat directions of H") if is_flat else findings
    here = _Here(recipe, examined, device)
    budget = here.affordable_matvecs()
    if budget < FEWEST_MATVECS:
        return _warned(recipe.conclude(examined), "was not searched: the deadline leaves no time")
    search = here.search(budget)
    if not search.is_critical:
        return _warned(recipe.conclude(examined), f"was not found: {search.outcome.value}")
    there = here.recipe_at(search)
    seen = there.examine()
    if not seen.evidence.criticality.is_critical:
        return _warned(
            recipe.conclude(examined), f"was not found: {seen.evidence.criticality.rule} where the search ended"
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

    def __init__(self, recipe: Recipe, examined: Examination, device: str) -> None:
        self.recipe, self.examined, self.device = recipe, examined, device
        self.objective, self.measured, self.operator = _in_float64(recipe, examined, device)

    def affordable_matvecs(self) -> int:
        """Products that a search may take: those asked for at most, and a third of the time left."""
        plan, options = self.recipe.plan, self.recipe.options
        most = DEFAULT_MATVECS if plan.method is Method.DENSE else LARGE_SEARCH * plan.max_matvecs
        affordable = self.recipe.deadline.affordable_matvecs() / 3
        return min(options.max_matvecs or most, most, most if math.isinf(affordable) else int(affordable))

    def search(self, max_matvecs: int) -> CriticalPointSearch:
        """From here to where the gradient vanishes."""
        attempt, before = self.recipe.attempt, self.recipe.num_matvecs
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

    def recipe_at(self, search: CriticalPointSearch) -> Recipe:
        """The same question, asked where the search ended."""
        recipe = self.recipe
        recipe.attempt.span = AT_FOUND
        return Recipe(
            replace(recipe.objective.problem, params=self.objective.tensors(search.theta)),
            recipe.options.model_copy(update={"dtype": Precision.FLOAT64, "batch_size": recipe.objective.batch_size}),
            device=self.device,
            attempt=recipe.attempt,
            earlier_matvecs=recipe.num_matvecs + search.num_matvecs,
            is_found=True,
        )

    def seen_from_here(self, search: CriticalPointSearch, there: Recipe, seen: Examination) -> Findings:
        """What was found there, with the ways out as ways from here."""
        findings = there.conclude(seen)
        counted = self.operator.num_matvecs
        pairs = [(self._way_to(path, there), path) for path in findings.paths if path.step > 0]
        found = sorted(
            ((way, path) for way, path in pairs if way is not None),
            key=lambda pair: (not pair[0].verified, pair[0].loss_after),
        )
        examined = self.examined
        return replace(
            findings,
            objective=self.recipe.objective,
            options=self.recipe.options,
            paths=tuple(way for way, _ in found),
            descent_decrease=self.recipe.descent(examined.measured),
            num_matvecs=findings.num_matvecs + self.operator.num_matvecs - counted,
            seconds=self.recipe.attempt.seconds,
            found=FoundPoint(
                search=search,
                checkpoint=Checkpoint(examined.measured, examined.evidence, examined.decision),
                paths=tuple(path for _, path in found),
            ),
        )

    def _way_to(self, path: EscapePath, there: Recipe) -> EscapePath | None:
        """From here to where a way out of the critical point leads."""
        target = there.operator.theta + path.step * path.vector
        return chord(self.objective, self.operator, self.measured, target)


def _in_float64(recipe: Recipe, examined: Examination, device: str) -> tuple[Objective, Preflight, HessianOperator]:
    if recipe.objective.dtype == torch.float64:
        return recipe.objective, examined.measured, recipe.operator
    objective = Objective(
        recipe.objective.problem, dtype=torch.float64, device=device, batch_size=recipe.objective.batch_size
    )
    operator = recipe.attempt.operator_at(objective, objective.theta)
    generator = torch.Generator().manual_seed(recipe.options.seed)
    return objective, preflight(objective, operator, generator=generator), operator
