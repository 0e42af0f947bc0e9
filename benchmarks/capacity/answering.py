"""Processor time of the API for what a job asks of it, and the broker's memory for a ring, measured on the whole service."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from redis import Redis

from benchmarks.services import REPOSITORY, Running, running_service
from benchmarks.toy_latency import REQUEST
from service.broker import socket_path

ROUND_SECONDS = 3
NUM_CONNECTIONS = 8
NUM_UPLOADS = 20
UPLOAD_BYTES = 4 * 2**20
SETTLE_SECONDS = 1.0


@dataclass(frozen=True)
class Answering:
    """Seconds of one API process."""

    submission_seconds: float
    poll_seconds: float
    report_seconds: float
    upload_seconds_per_byte: float
    ring_bytes: float
    """In the broker, for each job that waits."""


def measure(settings: Mapping[str, str]) -> Answering:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        with running_service(data, settings) as service:
            job = _ask(service, "POST", "/v1/jobs", json.dumps(REQUEST).encode(), prefer="wait=30")
            path = f"/v1/jobs/{job['id']}"
            poll, report = _hammer(service, _get(path)), _hammer(service, _get(f"{path}/report"))
            upload = _upload(service)
            with Redis(unix_socket_path=str(socket_path(data))) as broker:
                before = broker.info("memory")["used_memory"]
                submission = _hammer(service, _post())
                time.sleep(SETTLE_SECONDS)  # the bells are rung behind the answers
                ring = (broker.info("memory")["used_memory"] - before) / broker.llen("cpu")
    return Answering(submission, poll, report, upload, ring)


def _hammer(service: Running, request: str) -> float:
    """Processor seconds of the API for one such request."""
    target, api = urlsplit(service.url), psutil.Process(service.pid)
    before = _busy(api)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.hammer", str(target.hostname), str(target.port), str(ROUND_SECONDS),
         str(NUM_CONNECTIONS)],
        input=json.dumps([request]), capture_output=True, text=True, check=True, cwd=REPOSITORY,
    )  # fmt: skip
    told = json.loads(done.stdout)
    if not set(told["statuses"]) <= {"200", "202"}:
        raise RuntimeError(f"the answers were {told['statuses']}")
    return (_busy(api) - before) / len(told["latencies"])


def _upload(service: Running) -> float:
    """Processor seconds of the API for one byte of an artifact."""
    bodies = [os.urandom(UPLOAD_BYTES) for _ in range(NUM_UPLOADS)]
    names = [f"/v1/artifacts/sha256:{hashlib.sha256(body).hexdigest()}" for body in bodies]
    api = psutil.Process(service.pid)
    before = _busy(api)
    for name, body in zip(names, bodies, strict=True):
        _ask(service, "PUT", name, body)
    return (_busy(api) - before) / (NUM_UPLOADS * UPLOAD_BYTES)


def _busy(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _ask(service: Running, method: str, path: str, body: bytes, *, prefer: str | None = None) -> dict[str, object]:
    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=90)
    kind = "application/json" if path.endswith("/jobs") else "application/octet-stream"
    connection.request(method, path, body, {"Content-Type": kind} | ({} if prefer is None else {"Prefer": prefer}))
    answer = connection.getresponse()
    told: dict[str, object] = json.loads(answer.read())
    connection.close()
    if answer.status >= 400:
        raise RuntimeError(f"{method} {path} was answered {told}")
    return told


def _get(path: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def _post() -> str:
    body = json.dumps(REQUEST)
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n{body}"
