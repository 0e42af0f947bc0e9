"""Every line has the one form, whoever speaks, and holds what is allowed and nothing else."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import service.logs
import workers.logs
from telemetry.logs import without_secrets
from telemetry.tracing import is_wanted, trace_id

ROOT = Path(__file__).resolve().parents[2]
KEY = f"sk_{'0' * 32}_{'f' * 64}"


def lines_of(script: str) -> list[dict[str, object]]:
    """What a process of its own logs, with the fields `job_id` and `seconds` allowed."""
    head = "import logging, threading, structlog\nfrom telemetry.logs import configure_logs\n"
    head += "log = structlog.get_logger()\nconfigure_logs({'job_id', 'seconds'})\n"
    done = subprocess.run(
        [sys.executable, "-c", head + script], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_field_that_is_not_allowed_by_name_is_dropped() -> None:
    [line] = lines_of("log.info('job_ended', job_id='job_1', seconds=0.5, label='secret', run=None)")
    assert line.pop("timestamp")
    assert line == {"event": "job_ended", "level": "info", "job_id": "job_1", "seconds": 0.5}


def test_every_field_that_the_code_logs_is_allowed() -> None:
    for package, allowed in (("service", service.logs.ALLOWED), ("workers", workers.logs.ALLOWED)):
        calls = [
            node
            for path in (ROOT / package).rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if isinstance(node.func.value, ast.Name) and node.func.value.id == "log"
        ]
        assert len(calls) > 3
        assert {keyword.arg for call in calls for keyword in call.keywords} <= allowed


def test_what_is_bound_around_is_in_every_line_also_in_those_of_libraries() -> None:
    first, second, third = lines_of(
        "with structlog.contextvars.bound_contextvars(job_id='job_1'):\n"
        "    log.warning('ours')\n"
        "    logging.getLogger('celery').warning('theirs %s', 7)\n"
        "    logging.getLogger('celery').info('not heard')\n"
        "log.info('after')\n"
    )
    assert (first["event"], first["job_id"]) == ("ours", "job_1")
    assert (second["event"], second["logger"], second["job_id"]) == ("theirs 7", "celery", "job_1")
    assert "job_id" not in third


def test_the_exception_that_ends_a_process_or_a_thread_is_a_line_without_its_secrets() -> None:
    in_thread, at_end = lines_of(
        "def fail():\n    raise ValueError('postgresql://me:hunter2@host/name')\n"
        "thread = threading.Thread(target=fail)\nthread.start()\nthread.join()\n"
        "fail()\n"
    )
    assert (in_thread["event"], at_end["event"]) == ("an exception ended a thread", "an exception ended the process")
    for line in (in_thread, at_end):
        assert "postgresql://me:***@host/name" in str(line["exception"])
        assert "hunter2" not in json.dumps(line)


def test_secrets_are_blotted_out_of_texts_and_nothing_else_is() -> None:
    said = {
        "event": f"refused {KEY} at redis://:hunter2@broker:6379/0",
        "detail": "DETAIL: Failing row contains (hunter2).\nwhsec_aHVudGVyMg==",
        "route": "/v1/jobs/{job_id}",
        "url": "https://host/path?at=a@b",
        "seconds": 0.5,
    }
    assert without_secrets(None, "", dict(said)) == {
        "event": f"refused sk_{'0' * 32}_*** at redis://:***@broker:6379/0",
        "detail": "DETAIL: ***\nwhsec_***",
        "route": "/v1/jobs/{job_id}",
        "url": "https://host/path?at=a@b",
        "seconds": 0.5,
    }


def test_a_trace_is_known_by_a_well_formed_traceparent_alone() -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    assert trace_id(f"00-{trace}-00f067aa0ba902b7-01") == trace
    for wrong in (
        None,
        "",
        trace,
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{trace}-{'0' * 16}-01",
        f"ff-{trace}-1-01",
    ):
        assert trace_id(wrong) is None


def test_traces_are_wanted_where_they_have_somewhere_to_go() -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    assert is_wanted(endpoint)
    assert not is_wanted({})
    assert not is_wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": ""})
    assert not is_wanted(endpoint | {"OTEL_SDK_DISABLED": "true"})
