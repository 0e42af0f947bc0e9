"""What a decision is worth where more is asked of it than curvature: of a point that was searched, of a population."""

from __future__ import annotations

from dataclasses import replace

from saddlescope.contract.numerals import number
from saddlescope.contract.vocabulary import Strength, Verdict
from saddlescope.curvature.evidence import Decision, Evidence, undecided


def where_newton_converges(decision: Decision, evidence: Evidence) -> Decision:
    """A strict extremum found by Newton's steps, if there is a critical point of the same inertia within their reach.

    On the way to a degenerate point such as that of x³ the Hessian is definite all along.
    """
    test = evidence.kantorovich
    if test is not None and test.holds:
        return decision
    h = "unknown" if test is None else number(test.h, 3)
    return undecided(
        f"{decision.statement}, yet the Newton–Kantorovich test does not show that a critical point of this kind is there "
        f"(h = {h}, above ½): it may be degenerate"
    )


def of_the_population(decision: Decision, evidence: Evidence) -> Decision:
    """What a verdict over the rows says of the population that they were drawn from."""
    sampled, tau = evidence.sampled, evidence.zero_tol
    if decision.verdict is not Verdict.SADDLE:
        return undecided(
            f"over these rows: {decision.verdict.value} ({decision.statement}); the rows are a sample, from which only "
            "negative curvature can be carried over to the population"
        )
    if sampled is None:
        return undecided(
            f"over these rows: saddle ({decision.statement}); the rows are a sample of fewer than 16, or the loss is no sum "
            "over rows, so that nothing is known of the population"
        )
    if not sampled.is_below(tau):
        return undecided(
            f"over these rows: saddle ({decision.statement}); on rows it was not chosen on, the lowest direction has curvature "
            f"{number(sampled.mean, 3)} ± {number(sampled.standard_error, 2)}, not surely negative"
        )
    return replace(
        decision,
        strength=Strength.PROBABILISTIC,
        failure_probability=sampled.failure_probability,
        statement=f"{decision.statement}; on rows it was not chosen on, the lowest direction has curvature "
        f"{number(sampled.mean, 3)} ± {number(sampled.standard_error, 2)}",
    )
