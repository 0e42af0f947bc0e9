"""The chart, rendered by Helm itself, is valid by the schemas of Kubernetes and KEDA, and confines what it starts."""

# ruff: noqa: N815  the names are KEDA's
from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import helm_python as helm
import kubernetes_validate
import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from service.settings import Settings
from store.queue import claim_job
from workers.settings import WorkerSettings

CHART = Path(__file__).resolve().parents[2] / "deploy/helm/saddlescope"
KUBERNETES = ("1.29.0", kubernetes_validate.latest_version())
KEDA = "keda.sh/v1alpha1"
GPU_TOO = {"workers": {"gpu": {"enabled": True}}}
VARIANTS = [
    {},
    GPU_TOO,
    {"keda": {"enabled": False}, "networkPolicy": {"enabled": False}},
    {"blobs": {"existingClaim": None, "url": "s3://bucket/blobs"}, "workers": {"cpu": {"scale": None, "replicas": 3}}},
    {"imagePullSecrets": [{"name": "registry"}], "podAnnotations": {"a": "b"}, "networkPolicy": {"apiFrom": []},
     "api": {"env": {"SADDLESCOPE_MAX_ARTIFACT_BYTES": "1000"}}},
]  # fmt: skip
Manifest = dict[str, Any]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Reference(Strict):
    name: str


class Metadata(Strict):
    name: str
    labels: dict[str, str]


class PostgresqlTrigger(Strict):
    class Fields(Strict):
        query: str
        targetQueryValue: str

    type: Literal["postgresql"]
    authenticationRef: Reference
    metadata: Fields


class ScaledObject(Strict):
    """What KEDA 2 documents of the fields that the chart uses."""

    class Spec(Strict):
        scaleTargetRef: Reference
        minReplicaCount: Annotated[int, Field(ge=0)]
        maxReplicaCount: Annotated[int, Field(ge=1)]
        pollingInterval: Annotated[int, Field(ge=1)]
        cooldownPeriod: Annotated[int, Field(ge=0)]
        triggers: Annotated[list[PostgresqlTrigger], Field(min_length=1)]

    apiVersion: Literal["keda.sh/v1alpha1"]
    kind: Literal["ScaledObject"]
    metadata: Metadata
    spec: Spec


class TriggerAuthentication(Strict):
    class Spec(Strict):
        class Secret(Strict):
            parameter: Literal["connection"]
            name: str
            key: str

        secretTargetRef: list[Secret]

    apiVersion: Literal["keda.sh/v1alpha1"]
    kind: Literal["TriggerAuthentication"]
    metadata: Metadata
    spec: Spec


@pytest.fixture(scope="module")
def render() -> Iterator[Callable[..., list[Manifest]]]:
    with helm.Chart.load(str(CHART)) as chart:

        def manifests(values: dict[str, Any]) -> list[Manifest]:
            files = chart.render(values, name="demo", namespace="prod")
            texts = [text for name, text in files.items() if name.endswith(".yaml")]
            return [one for text in texts for one in yaml.safe_load_all(text) if one is not None]

        yield manifests


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for one in manifests:
        if one["kind"] in ("Deployment", "Job"):
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]


@pytest.mark.parametrize("values", VARIANTS)
def test_every_manifest_is_valid(render: Callable[..., list[Manifest]], values: dict[str, Any]) -> None:
    manifests = render(values)
    assert len({(one["kind"], one["metadata"]["name"]) for one in manifests}) == len(manifests)
    for one in manifests:
        if one["apiVersion"] == KEDA:
            {"ScaledObject": ScaledObject, "TriggerAuthentication": TriggerAuthentication}[one["kind"]].model_validate(
                one
            )
        else:
            for release in KUBERNETES:
                kubernetes_validate.validate(one, release, strict=True)


def test_helm_finds_nothing_to_complain_about() -> None:
    remarks = helm.lint(str(CHART))["messages"]
    assert [remark["error"] for remark in remarks if remark["error"] != "icon is recommended"] == []


@pytest.mark.parametrize(
    "wrong",
    [{"workers": {"cpu": {"qeues": ["cpu"]}}}, {"workers": {"cpu": {"queues": ["a b"]}}}, {"secret": {"name": ""}}],
)
def test_values_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with helm.Chart.load(str(CHART)) as chart, pytest.raises(helm.HelmError):
        chart.validate_schema(chart.merge_values(wrong))


def test_every_container_is_confined_and_no_secret_is_written_down(render: Callable[..., list[Manifest]]) -> None:
    found = dict(pods(render(GPU_TOO)))
    assert set(found) == {"demo-api", "demo-worker-cpu", "demo-worker-gpu", "demo-migrate"}
    known = {f"SADDLESCOPE_{name.upper()}" for name in (*Settings.model_fields, *WorkerSettings.model_fields)}
    for pod in found.values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        [container] = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert container["resources"]["limits"]["memory"]
        for variable in container["env"]:
            assert variable["name"] in known
            if re.search("DATABASE|BROKER|PEPPER", variable["name"]):
                assert "secretKeyRef" in variable["valueFrom"]


def test_the_api_is_probed_where_it_answers_and_a_worker_has_time_to_give_its_job_back(
    render: Callable[..., list[Manifest]],
) -> None:
    found = dict(pods(render(GPU_TOO)))
    [api] = found["demo-api"]["containers"]
    assert (api["livenessProbe"]["httpGet"]["path"], api["readinessProbe"]["httpGet"]["path"]) == (
        "/healthz",
        "/readyz",
    )
    assert found["demo-worker-gpu"]["terminationGracePeriodSeconds"] >= 60
    [gpu] = found["demo-worker-gpu"]["containers"]
    assert gpu["args"] == ["python", "-m", "workers", "--queue", "gpu"]
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_selectors_find_their_own_pods_alone(render: Callable[..., list[Manifest]]) -> None:
    manifests = render(GPU_TOO)
    labels = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"]
        for one in manifests
        if one["kind"] in ("Deployment", "Job")
    }
    for one in manifests:
        if one["kind"] == "Deployment":
            chosen = [
                name
                for name, found in labels.items()
                if one["spec"]["selector"]["matchLabels"].items() <= found.items()
            ]
            assert chosen == [one["metadata"]["name"]]
        if one["kind"] == "NetworkPolicy":
            [rule] = one["spec"]["podSelector"]["matchExpressions"]
            assert [name for name, found in labels.items() if found[rule["key"]] in rule["values"]]


def test_migrations_run_before_an_install_and_an_upgrade(render: Callable[..., list[Manifest]]) -> None:
    [job] = [one for one in render({}) if one["kind"] == "Job"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["python", "-m", "store", "migrate"]


def test_the_scaler_asks_for_the_jobs_of_its_queues(
    render: Callable[..., list[Manifest]], sessions: sessionmaker[Session], submit: Callable[..., object]
) -> None:
    """The query itself, on a real PostgreSQL: queued jobs that may run and running ones count, resting ones do not."""
    objects = {one["metadata"]["name"]: one for one in render(GPU_TOO) if one["kind"] == "ScaledObject"}
    [trigger] = objects["demo-worker-gpu"]["spec"]["triggers"]
    for queue in ("gpu", "gpu", "gpu", "cpu"):
        submit(of={"queue": queue})
    with sessions.begin() as session:
        assert claim_job(session, job_id=None, queues=["gpu"], worker="w") is not None
        resting = session.scalars(text("SELECT id FROM jobs WHERE queue = 'gpu' AND status = 'queued'")).first()
        session.execute(text("UPDATE jobs SET not_before = now() + interval '1 hour' WHERE id = :id"), {"id": resting})
        assert session.scalar(text(trigger["metadata"]["query"])) == 2
