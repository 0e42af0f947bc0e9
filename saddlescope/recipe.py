"""The recipe at a point: spectrum, criticality, higher orders, verdict, ways out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import saddlescope
from saddlescope.charting import make_landscape
from saddlescope.contract.vocabulary import Method, Stage
from saddlescope.curvature import higher_order
from saddlescope.curvature.criticality import KRYLOV_PRODUCTS, Criticality, assess
from saddlescope.curvature.escape import EscapePath
from saddlescope.curvature.evidence import Decision, Evidence
from saddlescope.curvature.higher_order import HigherOrders
from saddlescope.curvature.kantorovich import Kantorovich, near_critical_point
from saddlescope.curvature.knowledge import SpectralKnowledge
from saddlescope.curvature.noise import Preflight, preflight, smoothness
from saddlescope.curvature.probes import probe_decrease
from saddlescope.curvature.sampling import SampledCurvature, gradient_sampling, sampled_curvature
from saddlescope.curvature.spectrum import by_eigendecomposition, by_lanczos
from saddlescope.curvature.verdict import decide
from saddlescope.deadline import ESSENTIAL
from saddlescope.findings import Findings
from saddlescope.point import Point
from saddlescope.ways_out import arc, best_first, escapes, gained_by_descent
from saddlescope.wording import cautions

LANDSCAPE = 60  # evaluations of L, at least
KERNEL_SEARCH = 9_000  # worth of evaluations of L: starts, steps and fourth derivatives
KANTOROVICH_SIZE = 1_000
KANTOROVICH_PRODUCTS = 60  # from scratch, at other points
ROUNDING_FACTOR = 8  # times the loss's noise: a smaller distance to a bound is none


@dataclass(frozen=True)
class Examination:
    """What decides at a point, and the decision; `paths` are the escapes along negative curvature."""

    measured: Preflight
    knowledge: SpectralKnowledge
    paths: tuple[EscapePath, ...]
    evidence: Evidence
    decision: Decision


def examine(point: Point) -> Examination:
    """All that decides, in the order in which each needs what the former found."""
    point.tell(Stage.PREFLIGHT, 0.0)
    measured = preflight(point.objective, point.operator, generator=point.generator)
    smooth = smoothness(point.objective, point.operator, measured, point.relative_directions(2))
    point.deadline.measure(point.operator)
    point.plan = point.deadline.fitted(point.plan, point.objective.num_parameters)
    knowledge = _spectrum(point, measured)
    paths = escapes(point, measured, knowledge)
    critical = _criticality(point, measured, knowledge, paths)
    beyond = _kernel(point, critical, knowledge, measured)
    evidence = Evidence(
        criticality=critical,
        smoothness=smooth,
        lambda_min=knowledge.lambda_min,
        lambda_max=knowledge.lambda_max,
        zero_tol=knowledge.zero_tol,
        inertia=knowledge.inertia,
        pivots=knowledge.pivots,
        kernel=beyond.finding,
        kernel_obstacle=beyond.obstacle,
        range_counts=beyond.counts,
        probe_decrease=_probe(point, measured, knowledge.inertia or beyond.counts),
        gap_to_bound=_gap_to_bound(point, measured),
        sampled=_sampled_curvature(point),
        is_sample=point.options.data_is_sample,
        is_found=point.is_found,
        kantorovich=_kantorovich(point, critical, knowledge, measured),
    )
    return Examination(measured, knowledge, paths, evidence, decide(evidence))


def conclude(point: Point, examined: Examination) -> Findings:
    """What else was asked for: the way out, what descent gains, the landscape."""
    measured, knowledge, evidence = examined.measured, examined.knowledge, examined.evidence
    point.tell(Stage.ESCAPE, 0.9)
    paths = best_first(point, examined.paths, arc(point, measured, evidence.kernel))
    descended = gained_by_descent(point, measured)
    point.tell(Stage.LANDSCAPE, 0.95)
    landscape = None
    if point.options.landscape and point.deadline.allows(products=2, losses=LANDSCAPE, or_else="the landscape"):
        landscape = make_landscape(point.objective, point.operator, measured, knowledge, paths)
    return Findings(
        objective=point.objective,
        plan=point.plan,
        options=point.options,
        measured=measured,
        knowledge=knowledge,
        evidence=evidence,
        decision=examined.decision,
        paths=paths,
        landscape=landscape,
        descent_decrease=descended,
        num_matvecs=point.num_matvecs,
        seconds=point.attempt.seconds,
        warnings=(*cautions(measured, knowledge, evidence, paths), *point.attempt.cautions()),
        version=saddlescope.__version__,
    )


def _spectrum(point: Point, measured: Preflight) -> SpectralKnowledge:
    options = point.options
    if point.plan.method is Method.DENSE:
        return by_eigendecomposition(
            point.operator,
            measured,
            zero_tol=options.zero_tol,
            num_directions=options.num_escape_vectors,
            generator=point.generator,
            on_progress=lambda fraction: point.tell(Stage.DENSE, 0.05 + 0.6 * fraction),
        )
    return by_lanczos(
        point.operator,
        measured,
        max_matvecs=point.plan.max_matvecs,
        failure_probability=1 - options.confidence,
        zero_tol=options.zero_tol,
        num_directions=options.num_escape_vectors,
        generator=point.generator,
        on_progress=lambda fraction, lowest, residual: point.tell(
            Stage.LANCZOS, 0.05 + 0.6 * min(fraction, 1.0), lowest, residual
        ),
        is_late=lambda: point.deadline.is_late_for(*ESSENTIAL),
        is_brief=not options.density,
    )


def _criticality(
    point: Point, measured: Preflight, knowledge: SpectralKnowledge, paths: tuple[EscapePath, ...]
) -> Criticality:
    point.tell(Stage.CRITICALITY, 0.8)
    matvec: Callable[[Tensor], Tensor] = point.operator.matvec
    if knowledge.dense is not None:
        hessian = knowledge.dense.hessian.to(point.objective.dtype)
        matvec = hessian.__matmul__
    affordable = KRYLOV_PRODUCTS
    if knowledge.dense is None and not point.deadline.allows(products=KRYLOV_PRODUCTS):
        affordable = max(1, min(KRYLOV_PRODUCTS, int(point.deadline.affordable_matvecs(reserve=(0, 0)))))
        point.deadline.omitted.append(f"{KRYLOV_PRODUCTS - affordable} products of the test of criticality")
    sampling = None
    if point.options.data_is_sample:
        sampling = gradient_sampling(point.objective, matvec, loss_noise=measured.loss_noise, generator=point.generator)
    return assess(
        point.objective,
        matvec,
        measured,
        gradient_tol=point.options.gradient_tol,
        critical_rtol=point.options.critical_rtol,
        known_decrease=max((path.decrease for path in paths if path.verified), default=0.0),
        generator=point.generator,
        sampling_error=None if sampling is None else sampling.sampling_error,
        sampling_decrease=0.0 if sampling is None else sampling.decrease,
        num_products=affordable,
    )


def _sampled_curvature(point: Point) -> SampledCurvature | None:
    if not point.options.data_is_sample:
        return None
    failure = 1 - point.options.confidence
    return sampled_curvature(point.objective, failure_probability=failure, generator=point.generator)


def _kernel(point: Point, critical: Criticality, knowledge: SpectralKnowledge, measured: Preflight) -> HigherOrders:
    """What orders three and four say, where they may decide."""
    if in_the_way := higher_order.obstacle(point.objective, critical, knowledge):
        return HigherOrders(None, in_the_way)
    if not point.deadline.allows(losses=KERNEL_SEARCH, or_else="orders three and four"):
        return HigherOrders(None, "for which the deadline left no time")
    point.tell(Stage.DEGENERATE, 0.85)
    return higher_order.examined(point.objective, point.operator, measured, knowledge, generator=point.generator)


def _kantorovich(
    point: Point, critical: Criticality, knowledge: SpectralKnowledge, measured: Preflight
) -> Kantorovich | None:
    """Whether there is a critical point within reach, where H is regular and the question is open."""
    is_small = knowledge.dense is not None and point.objective.num_parameters <= KANTOROVICH_SIZE
    if not point.is_found and (not is_small or not critical.is_critical or critical.is_zero_to_rounding):
        return None
    eigenpairs = None
    if knowledge.dense is not None:
        eigenpairs = knowledge.dense.eigenvalues, knowledge.dense.eigenvectors
        least = eigenpairs[0].abs().min().item()
    else:
        least = max(knowledge.lambda_min.low, -knowledge.lambda_max.high)
    if not least > knowledge.zero_tol or not point.deadline.allows(products=KANTOROVICH_PRODUCTS):
        return None
    return near_critical_point(
        point.objective,
        point.operator.theta,
        measured.gradient,
        inverse_norm=1 / least,
        eigenpairs=eigenpairs,
        generator=torch.Generator().manual_seed(point.options.seed),
    )


def _probe(point: Point, measured: Preflight, counts: tuple[int, int, int] | None) -> float:
    if counts is None or counts[0] or counts[2]:
        return 0.0
    return probe_decrease(point.objective, measured, point.relative_directions(4))


def _gap_to_bound(point: Point, measured: Preflight) -> float | None:
    bound = point.objective.problem.lower_bound
    if bound is None:
        return None
    gap = measured.loss - bound
    return 0.0 if gap <= ROUNDING_FACTOR * measured.loss_noise else gap
