"""One job, followed through every process by its log lines, its trace and the counts; and no secret in any of them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from e2e_service import ROOT, TOY, running_service, wait_until
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from otlp_receiver import ReceivedSpan, receiving
from prometheus_client.parser import text_string_to_metric_families

from saddlescope.client import Client, JobFailed

PEPPER = "a-pepper-that-nobody-may-see"
NOT_FINITE = {
    "checkpoint": {"inline": {"w": -1.0}},
    "loss": {"kind": "expression", "expression": "log(w)"},
}
Lines = list[dict[str, object]]


@dataclass(frozen=True)
class Followed:
    """What was left behind by one service, one job that succeeded and one that failed."""

    key: str
    client_span: str
    trace_id: str
    job_id: str
    failed_id: str
    request_id: str
    api_lines: Lines
    worker_lines: Lines
    raw: str
    spans: list[ReceivedSpan]
    api_metrics: dict[str, float]
    worker_metrics: dict[str, float]


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    data = tmp_path_factory.mktemp("observed") / "data"
    secrets = {"SADDLESCOPE_AUTH": "keys", "SADDLESCOPE_KEY_PEPPER": PEPPER}
    key = make_key(data, secrets)
    port = free_port()
    with receiving() as receiver:
        settings = secrets | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "SADDLESCOPE_WORKER_METRICS_PORT": str(port),
        }
        with running_service(data, settings) as service, Client(str(service.client.base_url), key) as client:
            tracer = TracerProvider().get_tracer("a training script")
            with tracer.start_as_current_span("training step") as span:
                job = client.submit(TOY["checkpoint"]["inline"], TOY["loss"], wait=30)
            assert job.wait(timeout=60).verdict == "saddle"
            failing = client.submit(NOT_FINITE["checkpoint"]["inline"], NOT_FINITE["loss"])
            with pytest.raises(JobFailed):
                failing.wait(timeout=60)
            bearer = {"Authorization": f"Bearer {key}"}
            events = service.client.get(f"/v1/jobs/{job.id}/events", headers=bearer).json()["data"]
            service.client.get(f"/no/such/address/{key}")
            admin = {"Authorization": f"Bearer {make_key(data, secrets, scopes='admin')}"}
            api_metrics = numbers(service.client.get("/metrics", headers=admin).text)
            worker_metrics = numbers(httpx2.get(f"http://127.0.0.1:{port}/metrics").text)
            wait_until(lambda: {"job", "settle"} <= {span.name for span in receiver.spans()}, seconds=20)
        context = span.get_span_context()
        api_log = (data / "stderr.log").read_text(encoding="utf-8")
        worker_log = (data / "logs" / "worker.log").read_text(encoding="utf-8")
        yield Followed(
            key=key,
            client_span=f"{context.span_id:016x}",
            trace_id=f"{context.trace_id:032x}",
            job_id=job.id,
            failed_id=failing.id,
            request_id=events[0]["data"]["request_id"],
            api_lines=[json.loads(line) for line in api_log.splitlines()],
            worker_lines=[json.loads(line) for line in worker_log.splitlines()],
            raw=api_log + worker_log + "".join(path.read_text(errors="replace") for path in (data / "logs").iterdir()),
            spans=receiver.spans(),
            api_metrics=api_metrics,
            worker_metrics=worker_metrics,
        )


def make_key(data: Path, settings: dict[str, str], scopes: str = "submit,read") -> str:
    command = [sys.executable, "-m", "service", "keys", "create", "--project", "vision", "--scopes", scopes]
    done = subprocess.run(
        [*command, "--data", str(data)], cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def numbers(text: str) -> dict[str, float]:
    return {
        sample.name + "".join(f",{name}={label}" for name, label in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_trace_goes_from_the_callers_span_through_request_and_worker_to_the_stages(followed: Followed) -> None:
    spans = [span for span in followed.spans if span.trace_id == followed.trace_id]
    by_name = {span.name: span for span in spans}
    request, job, runner = by_name["POST /v1/jobs"], by_name["job"], by_name["runner"]
    assert request.parent_id == followed.client_span
    assert job.parent_id == request.span_id
    assert runner.parent_id == job.span_id
    assert (request.service, job.service) == ("saddlescope-api", "saddlescope-worker")
    assert job.attributes["saddlescope.job"] == followed.job_id
    stages = {span.name for span in spans if span.parent_id == runner.span_id}
    assert {"loading", "storing"} <= stages
    for span in spans:
        assert span.start_ns <= span.end_ns
        if span.parent_id in (job.span_id, runner.span_id):
            assert job.start_ns <= span.start_ns
            assert span.end_ns <= job.end_ns


def test_a_failed_job_is_an_error_in_its_trace(followed: Followed) -> None:
    [failed] = [span for span in followed.spans if span.attributes.get("saddlescope.job") == followed.failed_id]
    assert (failed.name, failed.attributes["error.type"]) == ("job", "non_finite_loss")


def test_each_request_is_one_line_with_its_route_status_and_project(followed: Followed) -> None:
    lines = [line for line in followed.api_lines if line["event"] == "http"]
    [submission] = [line for line in lines if line["request_id"] == followed.request_id]
    assert {name: submission[name] for name in ("method", "route", "status", "project", "trace_id")} == {
        "method": "POST", "route": "/v1/jobs", "status": 202, "project": "vision", "trace_id": followed.trace_id,
    }  # fmt: skip
    assert submission["seconds"] > 0
    assert len({line["request_id"] for line in lines}) == len(lines)


def test_the_ids_of_a_request_come_back_in_every_line_about_its_job(followed: Followed) -> None:
    ids = {"request_id": followed.request_id, "trace_id": followed.trace_id}
    [queued] = [line for line in followed.api_lines if line.get("job_id") == followed.job_id]
    assert (queued["event"], queued["level"]) == ("job_queued", "info")
    assert ids.items() <= queued.items()
    about = [line for line in followed.worker_lines if line.get("job_id") == followed.job_id]
    assert [line["event"] for line in about] == ["job_ended"]
    assert (ids | {"attempt": 1, "fence": 1, "judgement": "Succeeded"}).items() <= about[0].items()
    [fault] = [line for line in followed.worker_lines if line["event"] == "job_fault"]
    assert (fault["job_id"], fault["code"], fault["attempt"]) == (followed.failed_id, "non_finite_loss", 1)
    assert fault["request_id"] in {line["request_id"] for line in followed.api_lines if line["event"] == "http"}
    assert "runner_errors" in fault


def test_no_secret_stands_in_a_log_or_in_a_span(followed: Followed) -> None:
    secret = followed.key.rpartition("_")[2]
    for told in (followed.raw, repr(followed.spans)):
        assert PEPPER not in told
        assert secret not in told
    assert len(followed.api_lines) > 5


def test_a_worker_counts_jobs_verdicts_faults_products_and_starts(followed: Followed) -> None:
    counted = followed.worker_metrics
    assert counted["saddlescope_worker_verdicts_total,verdict=saddle"] == 1
    assert counted["saddlescope_worker_failures_total,code=non_finite_loss"] == 1
    assert counted["saddlescope_worker_claims_total,attempt=1"] == 2
    assert counted["saddlescope_worker_job_seconds_count,outcome=succeeded"] == 1
    assert counted["saddlescope_worker_job_seconds_count,outcome=failed"] == 1
    assert counted["saddlescope_worker_runner_start_seconds_count"] == 2
    assert counted["saddlescope_worker_matvecs_total"] >= 2
    assert (counted["saddlescope_worker_slots"], counted["saddlescope_worker_running_jobs"]) == (1, 0)
    assert followed.job_id not in repr(counted)
    assert followed.api_metrics["saddlescope_jobs,status=succeeded"] == 1
    assert followed.api_metrics["saddlescope_part_up,part=broker"] == 1


def test_a_password_is_in_no_line_of_a_process_that_cannot_reach_its_database(tmp_path: Path) -> None:
    url = "postgresql+psycopg://someone:hunter2@127.0.0.1:1/nothing"
    addresses = {"SADDLESCOPE_DATABASE_URL": url, "SADDLESCOPE_BROKER_URL": "redis://:hunter2@127.0.0.1:1/0"}
    done = subprocess.run(
        [sys.executable, "-m", "service", "--api-only", "--port", "0", "--data", str(tmp_path)],
        cwd=ROOT, env=os.environ | addresses, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "hunter2" not in done.stderr
    assert done.stderr.startswith("saddlescope: the database nothing at 127.0.0.1:1 does not answer")
    assert len(done.stderr.splitlines()) == 1


def test_without_an_endpoint_no_process_loads_opentelemetrys_sdk() -> None:
    script = (
        "import sys, saddlescope.client, workers.daemon, workers.__main__\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
        "import service.embedded\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.sdk')]\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_call_outside_of_a_span_names_no_trace() -> None:
    from saddlescope.client.trace_context import current_traceparent  # noqa: PLC0415

    assert current_traceparent() is None
    with TracerProvider().get_tracer("t").start_as_current_span("s"):
        assert current_traceparent() is not None
    assert trace.get_current_span().get_span_context().is_valid is False
