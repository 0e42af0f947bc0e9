"""A verdict beside the run that it is about, in Weights & Biases or MLflow.

    callback = PlainCallback(…, tell=[saddlescope.tracking.WandbSummary(wandb.run)])
    saddlescope.tracking.WandbSummary(run)(answer)

Neither package is imported: what is given is used by its methods. Called on the callback's own thread, so that a slow
server of theirs costs training nothing either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from saddlescope.contract.reports import Report

if TYPE_CHECKING:
    from saddlescope.callbacks.answers import Answer

PREFIX = "saddlescope"


class Summary(Protocol):
    """What is used of `wandb.Run.summary`."""

    def update(self, values: Mapping[str, object], /) -> object: ...


class WandbRun(Protocol):
    """What is used of `wandb.Run`."""

    @property
    def summary(self) -> Summary: ...


class MlflowClient(Protocol):
    """What is used of `mlflow.MlflowClient`."""

    def log_metric(self, run_id: str, key: str, value: float, *, step: int | None = None) -> object: ...
    def set_tag(self, run_id: str, key: str, value: str) -> object: ...


def numbers(report: Report) -> dict[str, float]:
    """What a chart of a run shows, by the report's own names."""
    return {
        "loss": report.loss,
        "gradient_norm": report.criticality.gradient_norm,
        "index": report.inertia.negative / report.num_parameters,
        "num_negative": float(report.inertia.negative),
        "minimum_ratio": report.minimum_ratio.estimate,
        "lambda_min": report.lambda_min.estimate,
        "lambda_max": report.lambda_max.estimate,
    }


def words(answer: Answer) -> dict[str, str]:
    """The verdict, why, and where to read more."""
    report = answer.report.report
    return {
        "verdict": report.verdict.value,
        "evidence": report.evidence.strength.value,
        "advice": report.advice.action.value,
        "summary": report.summary,
        "job": answer.job,
        "url": answer.url,
    }


@dataclass(frozen=True)
class WandbSummary:
    """Writes summary values `saddlescope/…` of the newest step that was answered.

    Not `run.log`: that takes values in the order of steps, and an answer is about a step that has passed.
    """

    run: WandbRun

    def __call__(self, answer: Answer) -> None:
        values: dict[str, object] = {"step": answer.step, **words(answer), **numbers(answer.report.report)}
        self.run.summary.update({f"{PREFIX}/{name}": value for name, value in values.items()})


@dataclass(frozen=True)
class MlflowMetrics:
    """Logs metrics `saddlescope.…` at the step that they are about, and tags of the newest answer."""

    client: MlflowClient
    run_id: str

    def __call__(self, answer: Answer) -> None:
        for name, value in numbers(answer.report.report).items():
            self.client.log_metric(self.run_id, f"{PREFIX}.{name}", value, step=answer.step)
        for name, text in {"step": str(answer.step), **words(answer)}.items():
            self.client.set_tag(self.run_id, f"{PREFIX}.{name}", text)
