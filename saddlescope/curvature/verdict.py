"""From evidence to a verdict: plain Python over numbers, no tensors.

Every claim is a row: what must hold, what is said, how strongly. What no row allows is `undecided`, with what would settle it.
"""

from __future__ import annotations

from dataclasses import replace

from saddlescope.contract.numerals import number
from saddlescope.contract.vocabulary import Strength, Verdict
from saddlescope.curvature.contraction import UNTRIED, Contraction
from saddlescope.curvature.criticality import FLAT_SHARE, TRUST_RADIUS, Criticality
from saddlescope.curvature.evidence import Decision, Evidence, undecided
from saddlescope.curvature.higher_order import NOT_NEEDED
from saddlescope.curvature.qualifications import of_the_population, where_newton_converges

EXTREMA = frozenset(
    {Verdict.LOCAL_MINIMUM, Verdict.FLAT_MINIMUM, Verdict.LOCAL_MAXIMUM, Verdict.FLAT_MAXIMUM},
)


def decide(evidence: Evidence) -> Decision:
    """The verdict that the evidence allows.

    A minimum is never claimed on less than a bound on every eigenvalue, or on L being at a bound that it never falls below.
    """
    if not evidence.smoothness.is_smooth:
        return undecided(
            f"L has a kink at θ: second differences at relative radius {evidence.smoothness.radius:.0e} disagree with the "
            "Hessian, so its eigenvalues decide nothing here"
        )
    if not evidence.criticality.is_critical:
        return _not_critical(evidence.criticality)
    if evidence.criticality.is_bounded_only:
        return undecided(
            f"{evidence.criticality.rule}, as far as the few products tell that there was time for; whether θ is critical "
            "needs more of them"
        )
    decision = _by_inertia(evidence) if evidence.inertia is not None else _by_bounds(evidence)
    if evidence.is_found and decision.order == 2 and decision.verdict in (Verdict.LOCAL_MINIMUM, Verdict.LOCAL_MAXIMUM):
        decision = where_newton_converges(decision, evidence)
    if decision.verdict in EXTREMA and evidence.contraction is not None and not evidence.contraction.holds:
        return undecided(f"{decision.statement}; yet {_no_point_near(evidence.contraction)}")
    if evidence.is_sample:
        decision = of_the_population(decision, evidence)
    if decision.strength is Strength.PROVED and not evidence.criticality.is_zero_to_rounding:
        return replace(decision, strength=Strength.NUMERICAL)
    return decision


def _no_point_near(contraction: Contraction) -> str:
    if contraction is UNTRIED:
        return "there was no time for the Newton step that tells whether a critical point is near"
    if contraction.distance > TRUST_RADIUS:
        fault = f"a Newton step is {number(contraction.distance, 3)} times as long as θ"
    else:
        left, decrement = number(contraction.after, 3), number(contraction.before, 3)
        fault = f"a Newton step leaves {left} of a decrement of {decrement}, more than a quarter"
    return f"{fault}, so that no critical point need be near: train on, or ask for a critical point search"


def _not_critical(criticality: Criticality) -> Decision:
    if criticality.flat_share**0.5 > FLAT_SHARE:
        return Decision(
            Verdict.GRADIENT_FLAT,
            2,
            Strength.NUMERICAL,
            0.0,
            f"{criticality.rule}, but {criticality.flat_share:.0%} of ‖g‖² lies in flat directions of H, where the quadratic "
            "model has no critical point",
        )
    return Decision(Verdict.NOT_CRITICAL, 2, Strength.NUMERICAL, 0.0, criticality.rule)


def _by_inertia(evidence: Evidence) -> Decision:
    assert evidence.inertia is not None  # noqa: S101 - the caller's branch
    negative, zero, positive = evidence.inertia
    total = negative + zero + positive
    proved, tau = Strength.PROVED, evidence.zero_tol
    if negative and positive:
        return Decision(
            Verdict.SADDLE,
            2,
            proved,
            0.0,
            f"{negative} of {total} eigenvalues lie below −{number(tau, 3)} and {positive} above {number(tau, 3)}",
        )
    if evidence.pivots is not None and evidence.pivots != evidence.inertia:
        return undecided(
            f"the eigenvalues are (negative, zero, positive) = {evidence.inertia} at {number(tau, 3)}, the pivots of a "
            f"factorization {evidence.pivots}: rounding decides"
        )
    if not zero:
        verdict = Verdict.LOCAL_MINIMUM if positive else Verdict.LOCAL_MAXIMUM
        side = f"above {number(tau, 3)}" if positive else f"below −{number(tau, 3)}"
        return Decision(verdict, 2, proved, 0.0, f"all {total} eigenvalues lie {side}")
    if evidence.range_counts is not None:
        return _by_complement(evidence, negative, zero, positive)
    return _by_kernel(evidence, negative, zero, positive)


def _by_kernel(evidence: Evidence, negative: int, zero: int, positive: int) -> Decision:
    """H is semidefinite with a kernel: orders three and four decide, where the gradient is zero to rounding."""
    finding, numerical = evidence.kernel, Strength.NUMERICAL
    is_strict = finding is not None and finding.order == 4 and finding.is_definite and finding.lowest > 0
    if evidence.gap_to_bound == 0 and positive and not is_strict:
        return _at_the_bound(
            f"{zero} of {negative + zero + positive} eigenvalues are zero to {number(evidence.zero_tol, 3)}"
        )
    if finding is None:
        return undecided(
            f"{zero} eigenvalues are zero to {number(evidence.zero_tol, 3)} and the others have one sign; orders three "
            f"and four decide then, {evidence.kernel_obstacle}"
        )
    tried = (
        f"{finding.num_directions} direction{'s' if finding.num_directions > 1 else ''} of a kernel of dimension {zero}"
    )
    if finding.explained_dimension:
        explained = (
            f"{finding.explained_dimension} of {zero} flat directions explained by {', '.join(finding.generators)}"
        )
        tried = f"{tried}; {explained}" if finding.num_directions else f"the kernel: {explained}"
    if finding.is_masked:
        return undecided(
            "a third derivative was seen along a kernel direction, but at no distance does it outweigh the slope and the "
            "curvature that are left there: θ need not be a critical point"
        )
    descends = finding.has_descent or negative > 0
    ascends = finding.has_ascent or positive > 0
    if finding.order == 3 or (descends and ascends and finding.order == 4):
        name = "third" if finding.order == 3 else "reduced fourth"
        value = finding.lowest if finding.has_descent else finding.highest
        return Decision(
            Verdict.SADDLE,
            finding.order,
            numerical,
            0.0,
            f"the {name} derivative along a kernel direction is {number(value, 3)}",
        )
    if finding.order == 4 and finding.is_definite:
        verdict = Verdict.LOCAL_MINIMUM if finding.lowest > 0 else Verdict.LOCAL_MAXIMUM
        return Decision(
            verdict,
            4,
            numerical,
            0.0,
            f"the reduced fourth derivative keeps one sign, at least {number(finding.lowest, 3)}, in {tried}"
            if finding.lowest > 0
            else f"the reduced fourth derivative is at most {number(finding.highest, 3)} in {tried}",
        )
    if positive or negative or finding.order == 4:
        return _flat_extremum(evidence, tried, is_minimum=positive > 0 or finding.has_ascent)
    lower = (
        f"; yet L falls by {number(evidence.probe_decrease, 3)} within a relative radius of 1"
        if evidence.probe_decrease > 0
        else ""
    )
    return Decision(Verdict.PLATEAU, 4, numerical, 0.0, f"orders 2, 3 and 4 vanish in {tried}{lower}")


def _flat_extremum(evidence: Evidence, tried: str, *, is_minimum: bool) -> Decision:
    """H is semidefinite and orders three and four found no way on; orders beyond may have one."""
    tau, valley = evidence.zero_tol, evidence.valley
    step, change = ("descent", "falls") if is_minimum else ("ascent", "rises")
    if valley is not None and valley.change > 0:
        return undecided(
            f"no {step} to order 4 in {tried}; yet on the floor of a flat valley L {change} by {number(valley.change, 3)} "
            f"at a relative distance of {number(valley.radius, 2)}: orders beyond four decide, or a slope that rounding hides"
        )
    side = f"below −{number(tau, 3)}" if is_minimum else f"above {number(tau, 3)}"
    walked = (
        f"; nor at a finite distance along {valley.num_directions} of its flat directions" if valley is not None else ""
    )
    return Decision(
        Verdict.FLAT_MINIMUM if is_minimum else Verdict.FLAT_MAXIMUM,
        4,
        Strength.NUMERICAL,
        0.0,
        f"no eigenvalue {side}, and no {step} to order 4 in {tried}{walked}",
    )


def _at_the_bound(flat: str) -> Decision:
    return Decision(
        Verdict.FLAT_MINIMUM,
        2,
        Strength.NUMERICAL,
        0.0,
        f"L is at a bound that it never falls below, to rounding, so that nothing descends; {flat}",
    )


def _by_bounds(evidence: Evidence) -> Decision:
    low, high, tau = evidence.lambda_min, evidence.lambda_max, evidence.zero_tol
    if low.high < -tau and high.low > tau:
        return Decision(
            Verdict.SADDLE,
            2,
            Strength.PROVED,
            0.0,
            f"a direction of curvature at most {number(low.high, 3)} and one of curvature at least {number(high.low, 3)} "
            "were measured",
        )
    if low.low > tau:
        return Decision(
            Verdict.LOCAL_MINIMUM,
            2,
            Strength.PROBABILISTIC,
            low.failure_probability,
            f"every eigenvalue is at least {number(low.low, 3)}, up to a failure probability of "
            f"{number(low.failure_probability, 3)}",
        )
    if high.high < -tau:
        return Decision(
            Verdict.LOCAL_MAXIMUM,
            2,
            Strength.PROBABILISTIC,
            high.failure_probability,
            f"every eigenvalue is at most {number(high.high, 3)}, up to a failure probability of "
            f"{number(high.failure_probability, 3)}",
        )
    if evidence.gap_to_bound == 0 and high.low > tau and low.estimate <= tau:
        return _at_the_bound(f"the lowest curvature that was found is {number(low.estimate, 3)}")
    if evidence.range_counts is not None and evidence.kernel is not None:
        return _by_complement(evidence, *evidence.range_counts)
    if low.high < -tau:
        return undecided(
            f"a direction of curvature at most {number(low.high, 3)} was measured and none that rises by more than "
            f"{number(tau, 3)}: a saddle or a maximum"
        )
    return undecided(
        f"no curvature below {number(low.low, 3)} exists (failure probability {number(low.failure_probability, 3)}) and none "
        f"below −{number(tau, 3)} was found; eigenvalues between are not excluded: more matvecs narrow the gap, and a kernel needs "
        f"orders three and four{_why(evidence.kernel_obstacle)}"
    )


def _why(obstacle: str) -> str:
    return f", {obstacle}" if obstacle != NOT_NEEDED else ""


def _by_complement(evidence: Evidence, negative: int, zero: int, positive: int) -> Decision:
    """As `_by_kernel`, in a kernel too large for its starts to tell that nothing descends: no extremum is claimed."""
    decision = _by_kernel(evidence, negative, zero, positive)
    if decision.verdict in (Verdict.SADDLE, Verdict.PLATEAU) or evidence.gap_to_bound == 0:
        return decision
    if decision.verdict is Verdict.UNDECIDED:
        return decision
    way = "down" if decision.verdict in (Verdict.LOCAL_MINIMUM, Verdict.FLAT_MINIMUM) else "up"
    return undecided(
        f"H is semidefinite of rank {negative + positive}; {decision.statement}: too few to exclude a way {way} there"
    )
