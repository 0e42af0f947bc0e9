"""The API as a process of its own, for what only sockets and signals can do to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Api:
    process: subprocess.Popen[str]
    url: str

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", int(self.url.rpartition(":")[2])))

    def peak_bytes(self) -> int:
        """The most memory that the process has held."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@contextmanager
def running_api(data: Path, **changes: str) -> Iterator[Api]:
    """`python -m service --api-only` on a data folder, killed at the end."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SADDLESCOPE_")}
    nowhere = {"SADDLESCOPE_BROKER_URL": "redis+socket:///nowhere/valkey.sock"}
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "--port", "0", "--data", str(data), "--api-only"],
        cwd=ROOT,
        env=kept | nowhere | changes,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield Api(process, process.stdout.readline().split()[-1])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
