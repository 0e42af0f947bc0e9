"""The whole service as its user starts it: one command, one folder, real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psutil

ROOT = Path(__file__).resolve().parents[2]

TOY: dict[str, object] = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
}


def long_job(num_parameters: int = 2500) -> dict[str, object]:
    """A request that takes seconds: a dense Hessian of some thousand parameters."""
    weights = [0.01 * ((37 * i) % 101 - 50) for i in range(num_parameters)]
    return {
        "checkpoint": {"inline": {"w": weights}},
        "loss": {"kind": "expression", "expression": "sum((1 - w*w)**2) + 0.01 * sum(sin(w))**2"},
        "options": {"method": "dense", "landscape": False},
    }


class Service:
    """A running `python -m service`."""

    def __init__(self, process: subprocess.Popen[str], client: httpx2.Client) -> None:
        self.process = process
        self.client = client

    def post(self, request: dict[str, object], *, wait: int = 0) -> dict[str, object]:
        response = self.client.post("/v1/jobs", json=request, headers={"Prefer": f"wait={wait}"} if wait else {})
        assert response.status_code == 202, response.text
        return response.json()

    def job(self, job_id: str) -> dict[str, object]:
        return self.client.get(f"/v1/jobs/{job_id}").raise_for_status().json()

    def await_status(self, job_id: str, status: str, *, seconds: float = 60) -> dict[str, object]:
        give_up = time.monotonic() + seconds
        while (job := self.job(job_id))["status"] != status:
            assert time.monotonic() < give_up, f"not {status} within {seconds} s: {job}"
            time.sleep(0.05)
        return job

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def worker(self) -> psutil.Process:
        (found,) = [child for child in self.descendants() if {"workers", "--queue"} <= set(child.cmdline())]
        return found

    def runner(self) -> psutil.Process:
        """The process of the running job: the only one with an ancestor that is the fork server."""
        wait_until(self._runners, seconds=30)
        (found,) = self._runners()
        return found

    def _runners(self) -> list[psutil.Process]:
        # A fork has the command line of its server, so the servers are the children of the worker.
        return [runner for server in self.worker().children() for runner in server.children()]


@contextmanager
def running_service(data: Path, settings: Mapping[str, str] | None = None) -> Iterator[Service]:
    """Start the service on a free port; end it, by force if need be, with everything it started."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SADDLESCOPE_")}
    environment = kept | dict(settings or {})
    data.mkdir(parents=True, exist_ok=True)
    with (data / "stderr.log").open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "--port", "0", "--data", str(data)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    try:
        ready = process.stdout.readline()
        assert ready.startswith("Saddlescope is ready at "), (data / "stderr.log").read_text()[-3000:]
        with httpx2.Client(base_url=ready.split()[-1], timeout=90) as client:
            yield Service(process, client)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
        process.stdout.close()


def wait_until(holds: Callable[[], object], *, seconds: float) -> None:
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up, f"did not come true within {seconds} s"
        time.sleep(0.05)
