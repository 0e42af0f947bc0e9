"""From findings to the contract's report: every number with its provenance."""

from __future__ import annotations

import math

import torch
from pydantic import JsonValue

from saddlescope.contract.reports import (
    Criticality,
    Curve,
    Escape,
    Evidence,
    ExtremeEigenvalue,
    Inertia,
    Interval,
    Numerics,
    Report,
)
from saddlescope.curvature.escape import EscapePath
from saddlescope.curvature.evidence import Bounds
from saddlescope.curvature.kantorovich import Kantorovich
from saddlescope.curvature.knowledge import SpectralKnowledge
from saddlescope.findings import Findings, FoundPoint
from saddlescope.wording import advice, statement, summary


def make_report(findings: Findings) -> Report:
    """The report of the contract, without a job. Loss, criticality and escapes are the checkpoint's in any case."""
    knowledge, decision, measured = findings.knowledge, findings.decision, findings.measured
    at = findings.checkpoint
    critical, options, n = at.evidence.criticality, findings.options, findings.objective.num_parameters
    is_exact = knowledge.inertia is not None
    return Report(
        verdict=decision.verdict,
        summary=summary(findings),
        num_parameters=n,
        num_examples=findings.objective.num_examples,
        loss=at.measured.loss,
        advice=advice(findings),
        criticality=Criticality(
            is_critical=critical.is_critical,
            gradient_norm=critical.gradient_norm,
            gradient_tol=critical.gradient_tol,
            rounding_floor=critical.rounding_floor,
            sampling_error=critical.sampling_error,
            predicted_decrease=critical.predicted_decrease,
            reference_decrease=critical.reference_decrease,
            critical_rtol=critical.critical_rtol,
            rule=critical.rule,
        ),
        inertia=_inertia(knowledge, n),
        minimum_ratio=Interval(
            estimate=knowledge.positive.estimate,
            low=knowledge.positive.low,
            high=knowledge.positive.high,
            exact=is_exact,
        ),
        lambda_min=_extreme(knowledge.lambda_min),
        lambda_max=_extreme(knowledge.lambda_max),
        evidence=Evidence(
            order=3 if decision.order == 3 else 4 if decision.order == 4 else 2,
            strength=decision.strength,
            failure_probability=decision.failure_probability,
            statement=statement(findings),
            facts=_facts(findings),
        ),
        escapes=tuple(_escape(index, path) for index, path in enumerate(findings.paths)),
        numerics=Numerics(
            method=findings.plan.method,
            dtype=findings.plan.precision,
            device=str(findings.objective.device),
            num_matvecs=findings.num_matvecs,
            seconds=findings.seconds,
            seed=options.seed,
            spectral_scale=knowledge.scale,
            matvec_noise=measured.matvec_noise,
            asymmetry=knowledge.asymmetry,
        ),
        versions={"saddlescope": findings.version, "torch": torch.__version__},
        warnings=findings.warnings,
    )


def _inertia(knowledge: SpectralKnowledge, size: int) -> Inertia:
    if knowledge.inertia is not None:
        negative, zero, positive = knowledge.inertia
    else:
        positive = round(knowledge.positive.estimate * size)
        negative = min(round(knowledge.negative.estimate * size), size - positive)
        zero = size - negative - positive
    return Inertia(
        negative=negative,
        zero=zero,
        positive=positive,
        zero_tol=knowledge.zero_tol,
        exact=knowledge.inertia is not None,
    )


def _extreme(bounds: Bounds) -> ExtremeEigenvalue:
    return ExtremeEigenvalue(
        estimate=bounds.estimate,
        low=min(bounds.low, bounds.estimate),
        high=max(bounds.high, bounds.estimate),
        confidence=1.0 - bounds.failure_probability,
    )


def _facts(findings: Findings) -> dict[str, JsonValue]:
    kernel, knowledge = findings.evidence.kernel, findings.knowledge
    facts: dict[str, JsonValue] = {
        "eigenvalue_error": knowledge.error,
        "zero_tol": knowledge.zero_tol,
        "flat_gradient_share": findings.evidence.criticality.flat_share,
        "negative_share_low": knowledge.negative.low,
        "negative_share_high": knowledge.negative.high,
        "gradient_step_decrease": findings.descent_decrease,
    }
    if findings.evidence.probe_decrease > 0:
        facts["probe_decrease"] = findings.evidence.probe_decrease
    if kernel is not None:
        facts["kernel"] = {
            "order": kernel.order,
            "lowest": kernel.lowest,
            "highest": kernel.highest,
            "num_directions": kernel.num_directions,
        }
    if findings.evidence.pivots is not None:
        facts["pivots"] = list(findings.evidence.pivots)
    if findings.evidence.range_counts is not None:
        facts["range_counts"] = list(findings.evidence.range_counts)
    if findings.evidence.kantorovich is not None:
        facts["kantorovich"] = _kantorovich(findings.evidence.kantorovich)
    if findings.found is not None:
        facts["critical_point"] = _critical_point(findings, findings.found)
    return facts


def _kantorovich(test: Kantorovich) -> dict[str, JsonValue]:
    """h ≤ ½ shows a critical point within the distance; the Lipschitz constant is sampled, so that this is no proof."""
    return {
        "h": test.h if math.isfinite(test.h) else None,
        "lipschitz_sampled": test.lipschitz if math.isfinite(test.lipschitz) else None,
        "distance": test.distance,
    }


def _critical_point(findings: Findings, found: FoundPoint) -> dict[str, JsonValue]:
    search, decision = found.search, found.checkpoint.decision
    return {
        "distance": search.distance,
        "relative_distance": search.relative_distance,
        "loss": findings.measured.loss,
        "gradient_norm": search.gradient_norm_after,
        "search": search.outcome.value,
        "num_steps": search.num_steps,
        "num_matvecs": search.num_matvecs,
        "checkpoint": f"{decision.verdict.value}: {decision.statement}",
        "escapes": [
            {"curvature": path.curvature, "residual_norm": path.residual_norm, "loss_after": path.loss_after}
            for path in found.paths
        ],
    }


def _escape(index: int, path: EscapePath) -> Escape:
    return Escape(
        index=index,
        curvature=path.curvature,
        residual_norm=path.residual_norm,
        slope=path.slope,
        step=path.step,
        loss_before=path.loss_before,
        loss_after=path.loss_after,
        predicted_decrease=path.predicted_decrease,
        decrease=path.decrease,
        verified=path.verified,
        curve=Curve(step=path.steps, loss=path.losses, quadratic=tuple(path.quadratic(step) for step in path.steps)),
    )
