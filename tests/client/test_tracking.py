"""A verdict beside the run in trackers, on their own packages where they are installed, else on their call surface."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from known_reports import report_with

from saddlescope.callbacks.answers import Answer
from saddlescope.tracking import MlflowMetrics, WandbSummary

ANSWER = Answer(12, report_with([{"w": torch.zeros(2)}]), "job_1", "http://127.0.0.1:8000/jobs/job_1")


class RecordedSummary:
    def __init__(self) -> None:
        self.values: dict[str, object] = {}

    def update(self, values: dict[str, object]) -> None:
        self.values.update(values)


class RecordedRun:
    def __init__(self) -> None:
        self.summary = RecordedSummary()


class RecordedMlflow:
    def __init__(self) -> None:
        self.metrics: dict[str, tuple[float, int | None]] = {}
        self.tags: dict[str, str] = {}

    def log_metric(self, run_id: str, key: str, value: float, *, step: int | None = None) -> None:
        assert run_id == "run-1"
        self.metrics[key] = (value, step)

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        assert run_id == "run-1"
        self.tags[key] = value


def test_a_summary_tells_verdict_index_lowest_curvature_and_where_to_read_more() -> None:
    run = RecordedRun()
    WandbSummary(run)(ANSWER)
    values = run.summary.values
    assert values["saddlescope/verdict"] == "saddle"
    assert values["saddlescope/index"] == 0.5
    assert values["saddlescope/lambda_min"] == -2.0
    assert values["saddlescope/step"] == 12
    assert values["saddlescope/url"] == ANSWER.url


def test_metrics_stand_at_the_step_that_they_are_about() -> None:
    client = RecordedMlflow()
    MlflowMetrics(client, "run-1")(ANSWER)
    assert client.metrics["saddlescope.lambda_min"] == (-2.0, 12)
    assert client.metrics["saddlescope.index"] == (0.5, 12)
    assert client.tags["saddlescope.verdict"] == "saddle"
    assert client.tags["saddlescope.url"] == ANSWER.url


def test_wandb_itself_takes_the_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wandb = pytest.importorskip("wandb")
        monkeypatch.setenv("WANDB_SILENT", "true")
        with wandb.init(mode="offline", dir=str(tmp_path), project="saddlescope") as run:
            WandbSummary(run)(ANSWER)
            assert run.summary["saddlescope/verdict"] == "saddle"
            assert run.summary["saddlescope/lambda_min"] == -2.0
    assert list(tmp_path.rglob("*.wandb"))


def test_mlflow_itself_takes_metrics_and_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow = pytest.importorskip("mlflow")
        client = mlflow.MlflowClient(tracking_uri=(tmp_path / "runs").as_uri())
        run = client.create_run(client.create_experiment("saddlescope"))
        MlflowMetrics(client, run.info.run_id)(ANSWER)
        found = client.get_run(run.info.run_id).data
    assert found.metrics["saddlescope.lambda_min"] == -2.0
    assert found.tags["saddlescope.verdict"] == "saddle"
    (point,) = client.get_metric_history(run.info.run_id, "saddlescope.loss")
    assert point.step == 12
    assert json.loads(json.dumps(found.tags))["saddlescope.job"] == "job_1"
