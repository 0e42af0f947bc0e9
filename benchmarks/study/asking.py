"""Hundreds of jobs over HTTP: submitted at once, read in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from torch import Tensor

from saddlescope import AnalysisReport, Client
from saddlescope.client import Job

NUM_CONNECTIONS = 4
LONGEST_SECONDS = 1800.0


@dataclass(frozen=True)
class Question:
    """One job."""

    checkpoint: Mapping[str, Tensor]
    loss: Mapping[str, object]
    data: Mapping[str, Tensor] | None
    run: str
    step: int
    options: Mapping[str, object] = field(default_factory=dict)


def ask(client: Client, questions: Iterable[Question]) -> list[AnalysisReport]:
    """The reports, in the order of the questions.

    Raises:
        JobFailed: as soon as one of them is known to have failed.
    """

    def submit(question: Question) -> Job:
        # Pictures and ways out are not part of the study, but for those that are asked for.
        options = {"density": False, "landscape": False, "num_escape_vectors": 1} | dict(question.options)
        return client.submit(
            dict(question.checkpoint),
            question.loss,
            None if question.data is None else dict(question.data),
            run=question.run,
            step=question.step,
            **options,
        )

    with ThreadPoolExecutor(NUM_CONNECTIONS) as connections:
        jobs = list(connections.map(submit, questions))
    return [job.wait(LONGEST_SECONDS, progress=False) for job in jobs]


def significant(value: float, digits: int = 6) -> float:
    """As it is stored: rounded to significant digits."""
    return float(f"{value:.{digits}g}")


def counted(report: AnalysisReport) -> dict[str, object]:
    """What most parts store of a report."""
    return {
        "verdict": report.verdict.value,
        "is_critical": report.criticality.is_critical,
        "loss": significant(report.loss),
        "gradient_norm": significant(report.criticality.gradient_norm),
        "negative": report.inertia.negative,
        "zero": report.inertia.zero,
        "positive": report.inertia.positive,
        "is_exact": report.inertia.exact,
        "minimum_ratio": significant(report.minimum_ratio.estimate),
        "lambda_min": significant(report.lambda_min.estimate),
        "lambda_max": significant(report.lambda_max.estimate),
    }
