"""The whole service as a child process: database, broker, worker, API and dashboard."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue

REPOSITORY = Path(__file__).resolve().parents[1]
READY = re.compile(r"^Saddlescope is ready at (\S+)$")
START_SECONDS = 120.0
STOP_SECONDS = 30.0


class ServiceDidNotStart(Exception):
    """The service ended, or did not say that it is ready."""


@contextmanager
def running_service(data: Path, *, port: int = 0, worker_threads: int | None = None) -> Iterator[str]:
    """Run `python -m service` on the loopback address and yield its URL; its log is `data/service.log`.

    Raises:
        ServiceDidNotStart: with the end of its log.
    """
    data.mkdir(parents=True, exist_ok=True)
    log = data / "service.log"
    command = [sys.executable, "-m", "service", "--host", "127.0.0.1", "--port", str(port), "--data", str(data)]
    # The settings of another deployment must not reach this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SADDLESCOPE_")}
    if worker_threads is not None:
        environment["SADDLESCOPE_WORKER_THREADS"] = str(worker_threads)
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            yield _ready_url(process, log)
        finally:
            _stop(process)


@contextmanager
def service_at(url: str | None) -> Iterator[str]:
    """The service at this address, or one of its own on a temporary folder."""
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="saddlescope-") as folder, running_service(Path(folder)) as own:
        yield own


def _ready_url(process: subprocess.Popen[str], log: Path) -> str:
    urls: Queue[str | None] = Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:  # to the end, so that the pipe never fills
            if ready := READY.match(line.strip()):
                urls.put(ready[1])
        urls.put(None)

    threading.Thread(target=read, daemon=True).start()
    try:
        url = urls.get(timeout=START_SECONDS)
    except Empty:
        url = None
    if url is None:
        end = log.read_text(encoding="utf-8", errors="replace")[-3000:]
        raise ServiceDidNotStart(f"the service did not start; the end of {log}:\n{end}")
    return url


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
