"""The three kinds of losses, each built from data into a `Problem`, and never from code."""

from __future__ import annotations

from dataclasses import dataclass

from saddlescope.contract.reports import ReportWarning
from saddlescope.contract.vocabulary import Caution
from saddlescope.curvature.objective import Problem
from workers.faults import quoted


@dataclass(frozen=True)
class BuiltProblem:
    """A problem ready for analysis, and what the report should say about how it was built."""

    problem: Problem
    warnings: tuple[ReportWarning, ...] = ()


def ignored_tensors(names: list[str]) -> tuple[ReportWarning, ...]:
    """The caution that the checkpoint holds tensors which the loss does not read."""
    if not names:
        return ()
    shown = ", ".join(quoted(name) for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    detail = f"the loss reads nothing from these tensors of the checkpoint, so they are left out: {shown}"
    return (ReportWarning(code=Caution.IGNORED_TENSORS, detail=detail),)
