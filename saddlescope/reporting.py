"""From findings to the contract's report: every number with its provenance, every sentence for its reader."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import JsonValue

from saddlescope.contract.jobs import Options
from saddlescope.contract.reports import (
    Advice,
    Criticality,
    Curve,
    Escape,
    Evidence,
    ExtremeEigenvalue,
    Inertia,
    Interval,
    Landscape,
    Numerics,
    Report,
    ReportWarning,
)
from saddlescope.contract.vocabulary import Action, Caution, Verdict
from saddlescope.curvature import verdict as rules
from saddlescope.curvature.escape import EscapePath
from saddlescope.curvature.noise import Preflight
from saddlescope.curvature.objective import Objective
from saddlescope.curvature.planner import Plan
from saddlescope.curvature.spectrum import SpectralKnowledge

WIDE = 0.2
NAMES = {
    Verdict.LOCAL_MINIMUM: "Local minimum",
    Verdict.FLAT_MINIMUM: "Flat minimum",
    Verdict.SADDLE: "Saddle point",
    Verdict.LOCAL_MAXIMUM: "Local maximum",
    Verdict.FLAT_MAXIMUM: "Flat maximum",
    Verdict.PLATEAU: "Plateau",
    Verdict.GRADIENT_FLAT: "Gradient-flat point",
    Verdict.NOT_CRITICAL: "Not a critical point",
    Verdict.UNDECIDED: "Undecided",
}


@dataclass(frozen=True)
class Findings:
    """What the recipe found, before it is put into words."""

    objective: Objective
    plan: Plan
    options: Options
    measured: Preflight
    knowledge: SpectralKnowledge
    evidence: rules.Evidence
    decision: rules.Decision
    paths: tuple[EscapePath, ...]
    landscape: Landscape | None
    descent_decrease: float
    num_matvecs: int
    seconds: float
    warnings: tuple[ReportWarning, ...]
    version: str

    @property
    def best_path(self) -> EscapePath | None:
        verified = [path for path in self.paths if path.verified]
        return min(verified, key=lambda path: path.loss_after) if verified else None


def make_report(findings: Findings) -> Report:
    """The report of the contract, without a job."""
    knowledge, decision, measured = findings.knowledge, findings.decision, findings.measured
    critical, options, n = findings.evidence.criticality, findings.options, findings.objective.num_parameters
    is_exact = knowledge.inertia is not None
    return Report(
        verdict=decision.verdict,
        summary=_summary(findings),
        num_parameters=n,
        num_examples=findings.objective.num_examples,
        loss=measured.loss,
        advice=_advice(findings),
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
            statement=decision.statement,
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


def _extreme(bounds: rules.Bounds) -> ExtremeEigenvalue:
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
    return facts


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


def _summary(findings: Findings) -> str:
    knowledge, decision, best = findings.knowledge, findings.decision, findings.best_path
    name, n = NAMES[decision.verdict], findings.objective.num_parameters
    if decision.verdict is Verdict.SADDLE and decision.order == 2 and knowledge.inertia is not None:
        negative = knowledge.inertia[0]
        verb = "is" if negative == 1 else "are"
        text = f"{name}: {negative} of {n} curvatures {verb} negative (lowest {knowledge.lambda_min.estimate:.4g})"
    elif decision.verdict is Verdict.SADDLE and decision.order == 2:
        text = f"{name}: a direction of curvature {knowledge.lambda_min.estimate:.4g} is proven"
    else:
        text = f"{name}: {decision.statement}"
    if best is not None and decision.verdict not in (Verdict.LOCAL_MINIMUM, Verdict.FLAT_MINIMUM):
        text += f"; a step of {best.step:.4g} along the escape takes the loss from {best.loss_before:.4g} to {best.loss_after:.4g}"
    return text + "."


def _advice(findings: Findings) -> Advice:
    verdict, best, gained = findings.decision.verdict, findings.best_path, findings.descent_decrease
    escaped = best.decrease if best is not None else 0.0
    compared = f"one escape lowers the loss by {escaped:.4g}, one line-searched gradient step by {gained:.4g}"
    if verdict in (Verdict.LOCAL_MINIMUM, Verdict.FLAT_MINIMUM):
        return Advice(action=Action.STOP, because=f"no descent exists near θ: {findings.decision.statement}")
    if verdict in (Verdict.NOT_CRITICAL, Verdict.GRADIENT_FLAT):
        if gained > 0 or escaped == 0.0:
            return Advice(action=Action.CONTINUE, because=f"the gradient still works: {compared}")
        return Advice(action=Action.ESCAPE, because=compared)
    if verdict in (Verdict.SADDLE, Verdict.LOCAL_MAXIMUM, Verdict.FLAT_MAXIMUM):
        if escaped > gained:
            return Advice(action=Action.ESCAPE, because=compared)
        if gained > 0:
            return Advice(action=Action.CONTINUE, because=f"the gradient buys as much: {compared}")
        return Advice(action=Action.INSPECT, because="no escape lowered the measured loss beyond its rounding")
    return Advice(action=Action.INSPECT, because=findings.decision.statement)


def cautions(
    measured: Preflight,
    knowledge: SpectralKnowledge,
    evidence: rules.Evidence,
    paths: tuple[EscapePath, ...],
    options: Options,
) -> tuple[ReportWarning, ...]:
    """What a reader should know before relying on the report."""
    found: list[tuple[Caution, str]] = []
    if not evidence.smoothness.is_smooth:
        found.append(
            (Caution.NON_SMOOTH, "L has a kink at θ (ReLU, max, abs): second derivatives do not describe it there")
        )
    if measured.unused:
        names = ", ".join(measured.unused[:5]) + ("…" if len(measured.unused) > 5 else "")
        found.append(
            (Caution.UNUSED_PARAMETERS, f"L does not depend on {names}; each of their entries adds a zero eigenvalue")
        )
    if any(path.is_lost_to_rounding for path in paths):
        found.append(
            (
                Caution.ROUNDED_ESCAPE,
                "an escape's step is lost when rounded to the checkpoint's dtype; it is not verified",
            )
        )
    if knowledge.inertia is None and knowledge.positive.high - knowledge.positive.low > WIDE:
        found.append(
            (Caution.WIDE_INTERVAL, "the minimum ratio is known only within a wide interval; more matvecs narrow it")
        )
    if knowledge.is_budget_spent:
        found.append(
            (
                Caution.BUDGET_EXHAUSTED,
                "the budget of matvecs ended before the extreme eigenvalues and bounds had settled",
            )
        )
    if options.critical_point_search:
        found.append(
            (Caution.OPTION_NOT_AVAILABLE, "option 'critical_point_search' is not available yet and had no effect")
        )
    return tuple(ReportWarning(code=code, detail=detail) for code, detail in found)
