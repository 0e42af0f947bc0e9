"""Contestants as processes: started, asked one round after the other, and stopped."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks.peers.environment import REPOSITORY, peers_python, with_threads
from benchmarks.peers.question import LIMIT_SECONDS, NUM_THREADS
from benchmarks.peers.subject import Setting

START_SECONDS = 120.0


@dataclass(frozen=True)
class Entry:
    """A contestant of the table: its adapter module, and whether it lives in the peers' environment."""

    module: str
    title: str
    is_peer: bool = True


@dataclass(frozen=True)
class Solve:
    """One answer on the clock; `path` holds what was found."""

    seconds: float
    cpu_seconds: float
    num_products: int
    peak_bytes: int
    path: str


class NoAnswer(Exception):
    """The contestant failed or took too long; the reason in words."""


@dataclass(frozen=True)
class Runner:
    """A contestant that is ready to solve."""

    process: subprocess.Popen[str]
    errors: IO[str]
    setup_seconds: float

    def solve(self, seed: int, setting: Setting, *, limit_seconds: float = LIMIT_SECONDS) -> Solve:
        """One round.

        Raises:
            NoAnswer: it failed, or took longer than the limit.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"seed": seed, "setting": setting}) + "\n")
        self.process.stdin.flush()
        return Solve(**json.loads(_line(self.process, self.errors, limit_seconds)))


@contextmanager
def started(entry: Entry, workload: str, folder: Path, *, num_threads: int = NUM_THREADS) -> Iterator[Runner]:
    """Start a contestant on a workload; it is killed at the end, whatever it does.

    Raises:
        NoAnswer: it did not get ready.
    """
    python = str(peers_python()) if entry.is_peer else sys.executable
    command = [python, "-W", "ignore", "-m", "benchmarks.peers.subject", entry.module, workload, str(folder)]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=with_threads(num_threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            yield Runner(process, errors, json.loads(_line(process, errors, START_SECONDS))["setup_seconds"])
        finally:
            process.kill()
            process.communicate()


def _line(process: subprocess.Popen[str], errors: IO[str], limit_seconds: float) -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], limit_seconds)
    if not ready:
        raise NoAnswer(f"no answer within {limit_seconds:.0f} s")
    line = process.stdout.readline()
    if not line:
        process.wait()
        errors.seek(0)
        said = errors.read().strip().splitlines()
        raise NoAnswer(said[-1] if said else f"exited with {process.returncode}")
    return line
