"""The ways out of a point, measured on the true loss."""

from __future__ import annotations

from saddlescope.contract.vocabulary import Stage
from saddlescope.curvature.criticality import KRYLOV_PRODUCTS
from saddlescope.curvature.degenerate import KernelFinding
from saddlescope.curvature.escape import EscapePath, descent, search
from saddlescope.curvature.knowledge import SpectralKnowledge
from saddlescope.curvature.noise import Preflight
from saddlescope.curvature.probes import arc_escape
from saddlescope.curvature.subspace import search_subspace
from saddlescope.deadline import LINE_SEARCH
from saddlescope.point import Point


def escapes(point: Point, measured: Preflight, knowledge: SpectralKnowledge) -> tuple[EscapePath, ...]:
    point.tell(Stage.ESCAPE, 0.7)
    directions = knowledge.lowest[: point.options.num_escape_vectors]
    paths: list[EscapePath] = []
    for index, direction in enumerate(directions):
        if index and not point.deadline.allows(
            products=KRYLOV_PRODUCTS, losses=2 * LINE_SEARCH, or_else=f"{len(directions) - index} escapes"
        ):
            return tuple(paths)
        paths.append(search(point.objective, direction, measured))
    combined = search_subspace(point.objective, point.operator, directions, measured, generator=point.generator)
    return tuple(paths if combined is None else [*paths, combined])


def arc(point: Point, measured: Preflight, kernel: KernelFinding | None) -> EscapePath | None:
    if kernel is None or kernel.down is None or not point.options.num_escape_vectors:
        return None
    return arc_escape(point.objective, point.operator, measured, kernel.down)


def best_first(point: Point, paths: tuple[EscapePath, ...], arc: EscapePath | None) -> tuple[EscapePath, ...]:
    every = paths if arc is None else (*paths, arc)
    ordered = sorted(every, key=lambda path: (not path.verified, path.loss_after))
    return tuple(ordered[: point.options.num_escape_vectors])


def gained_by_descent(point: Point, measured: Preflight) -> float:
    """What a line-searched step along −g gains; 0 where the deadline leaves no time for it."""
    if not point.deadline.allows(losses=LINE_SEARCH, or_else="a line search along the gradient"):
        return 0.0
    return descent(point.objective, measured)
