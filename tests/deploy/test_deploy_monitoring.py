"""Alerts and dashboards ask for metrics that exist, with labels that exist, and each is documented."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel, ConfigDict, Field

from service.metrics import Metrics
from workers.metrics import WorkerMetrics

ROOT = Path(__file__).resolve().parents[2]
ALERTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/saddlescope.json").read_text(encoding="utf-8"))
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Labels(Strict):
    severity: Literal["warning", "critical"]


class Annotations(Strict):
    summary: str = Field(min_length=10)


class Rule(Strict):
    alert: str = Field(pattern=r"^Saddlescope[A-Za-z]+$")
    expr: str
    for_: str = Field(alias="for", pattern=r"^\d+[mh]$")
    labels: Labels
    annotations: Annotations


def wrapped(registry: CollectorRegistry) -> list[MetricWrapperBase]:
    return [one for one in registry._collector_to_names if isinstance(one, MetricWrapperBase)]


def ours() -> list[MetricWrapperBase]:
    return wrapped(Metrics().registry) + wrapped(WorkerMetrics(num_slots=1).registry)


def samples() -> dict[str, set[str]]:
    """Labels by the name of every sample that our processes give."""
    found: dict[str, set[str]] = {}
    for metric in ours():
        for suffix in SUFFIXES[metric._type]:
            extra = {"le"} if suffix == "_bucket" else set()
            found[metric._name + suffix] = set(metric._labelnames) | extra
    return found


def expressions() -> list[tuple[str, str]]:
    rules = [(rule["alert"], rule["expr"]) for group in ALERTS["groups"] for rule in group["rules"]]
    panels = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return rules + panels


def test_rules_have_the_form_that_prometheus_reads() -> None:
    assert set(ALERTS) == {"groups"}
    rules = [Rule.model_validate(rule) for group in ALERTS["groups"] for rule in group["rules"]]
    assert len({rule.alert for rule in rules}) == len(rules) >= 8


@pytest.mark.parametrize(("where", "expression"), expressions())
def test_an_expression_names_metrics_and_labels_that_exist(where: str, expression: str) -> None:
    known = samples()
    named = re.findall(r"\b(saddlescope_[a-z_]+)(?:\{([^}]*)\})?", expression)
    assert named or where == "SaddlescopeApiDown"
    for name, chosen in named:
        assert name in known, f"{where}: {name}"
        assert set(re.findall(r"(\w+)\s*[=!]~?", chosen)) <= known[name], f"{where}: {chosen}"
    labels = {"instance", "job"}.union(*(known[name] for name, _ in named)) if named else {"instance", "job"}
    for group in re.findall(r"by \(([^)]*)\)", expression):
        assert {label.strip() for label in group.split(",")} <= labels, f"{where}: {group}"
    assert expression.count("(") == expression.count(")")


def test_the_dashboard_is_one_that_grafana_can_lay_out() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert 0 <= place["x"] <= place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"]["uid"] == data_source()["uid"]


def data_source() -> dict[str, Any]:
    path = ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml"
    [found] = yaml.safe_load(path.read_text(encoding="utf-8"))["datasources"]
    return found


def test_no_label_could_name_a_job_a_run_or_a_project() -> None:
    labels = {label for metric in ours() for label in metric._labelnames}
    assert labels == {
        "method", "route", "status", "kind", "part", "queue", "device", "sandbox", "attempt", "outcome", "verdict", "code",
    }  # fmt: skip


def test_every_metric_and_every_alert_is_documented() -> None:
    for metric in ours():
        name = metric._name + ("_total" if metric._type == "counter" else "")
        assert f"`{name}`" in OPERATIONS, name
        for label in metric._labelnames:
            row = next(line for line in OPERATIONS.splitlines() if f"`{name}`" in line)
            assert f"`{label}`" in row, (name, label)
    for rule in (rule for group in ALERTS["groups"] for rule in group["rules"]):
        assert f"`{rule['alert']}`" in OPERATIONS


def test_operations_document_no_metric_that_does_not_exist() -> None:
    names = {metric._name + ("_total" if metric._type == "counter" else "") for metric in ours()}
    assert set(re.findall(r"`(saddlescope_[a-z_]+)`", OPERATIONS)) <= names
