"""Findings in sentences: summary, advice and cautions."""

from __future__ import annotations

from saddlescope.contract.numerals import number
from saddlescope.contract.reports import Advice, ReportWarning
from saddlescope.contract.vocabulary import Action, Caution, Verdict
from saddlescope.curvature.escape import EscapePath
from saddlescope.curvature.evidence import Evidence
from saddlescope.curvature.knowledge import SpectralKnowledge
from saddlescope.curvature.noise import Preflight
from saddlescope.findings import Findings

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


def summary(findings: Findings) -> str:
    """One sentence on the point, and before it, where that is not the checkpoint, whose verdict it is."""
    if findings.found is None:
        return _of_the_point(findings)
    search, verdict = findings.found.search, findings.found.checkpoint.decision.verdict
    itself = "not critical" if verdict is Verdict.NOT_CRITICAL else verdict.value
    return (
        f"The checkpoint itself is {itself}; this is the verdict on the critical point found {number(search.distance, 3)} away "
        f"({number(search.relative_distance, 2)} of its size). {_of_the_point(findings)}"
    )


def statement(findings: Findings) -> str:
    """What the verdict rests on, and where."""
    text = findings.decision.statement
    if findings.found is None:
        return text
    return f"at the critical point found {number(findings.found.search.distance, 3)} from the checkpoint: {text}"


def _of_the_point(findings: Findings) -> str:
    knowledge, decision, best = findings.knowledge, findings.decision, findings.best_path
    name, n = NAMES[decision.verdict], findings.objective.num_parameters
    if decision.verdict is Verdict.SADDLE and decision.order == 2 and knowledge.inertia is not None:
        negative = knowledge.inertia[0]
        verb = "is" if negative == 1 else "are"
        text = f"{name}: {negative} of {n} curvatures {verb} negative (lowest {number(knowledge.lambda_min.estimate)})"
    elif decision.verdict is Verdict.SADDLE and decision.order == 2:
        text = f"{name}: a direction of curvature {number(knowledge.lambda_min.estimate)} is proven"
    else:
        text = f"{name}: {decision.statement}"
    if best is not None and decision.verdict not in (Verdict.LOCAL_MINIMUM, Verdict.FLAT_MINIMUM):
        before, after = number(best.loss_before), number(best.loss_after)
        text += f"; a step of {number(best.step)} along the escape takes the loss from {before} to {after}"
    return text + "."


def advice(findings: Findings) -> Advice:
    """What to do at the checkpoint, from measured decreases."""
    verdict, best, gained = findings.decision.verdict, findings.best_path, findings.descent_decrease
    escaped = best.decrease if best is not None else 0.0
    compared = f"one escape lowers the loss by {number(escaped)}, one line-searched gradient step by {number(gained)}"
    if findings.found is not None and verdict in (Verdict.LOCAL_MINIMUM, Verdict.FLAT_MINIMUM):
        left = findings.found.checkpoint.measured.loss - findings.measured.loss
        if left > 0:
            reason = f"a minimum lies {number(findings.found.search.distance, 3)} away, {number(left)} lower than the checkpoint"
            return Advice(action=Action.CONTINUE, because=reason)
        return Advice(action=Action.INSPECT, because="the minimum found lies no lower than the checkpoint")
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
    evidence: Evidence,
    paths: tuple[EscapePath, ...],
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
    if measured.regrouping is not None:
        found.append((Caution.NOT_ADDITIVE, f"{measured.regrouping}; the loss was taken as it is on all rows at once"))
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
    return tuple(ReportWarning(code=code, detail=detail) for code, detail in found)
