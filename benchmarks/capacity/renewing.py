"""Leases renewed by several worker processes at once: what a database bears, and what of it is its own processor time.

`python -m benchmarks.capacity.renewing URL` is one of them: it claims a job, says so, and renews its lease from the next line of
its input on, for a few seconds; then it prints how often.
"""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.peers.environment import REPOSITORY
from store.database import open_engine, open_sessions
from store.queue import claim_job, heartbeat

SECONDS = 3.0


def rate(url: str, num_processes: int) -> float:
    """Renewals a second; as many jobs have to be queued."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.capacity.renewing", url],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(num_processes)
    ]
    for process in processes:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("a process that renews leases did not start")
    told = [_told(process) for process in [_started(process) for process in processes]]
    return sum(told) / SECONDS


def _started(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    return process


def _told(process: subprocess.Popen[str]) -> int:
    said, _ = process.communicate(timeout=60)
    return int(said)


def main(arguments: list[str]) -> None:
    (url,) = arguments
    engine = open_engine(url)
    sessions = open_sessions(engine)
    with sessions.begin() as session:
        claim = claim_job(session, job_id=None, queues=("cpu",), worker="one of several")
    if claim is None:
        raise RuntimeError("no job is queued")
    print("ready", flush=True)
    sys.stdin.readline()
    ends, count = time.monotonic() + SECONDS, 0
    while time.monotonic() < ends:
        with sessions.begin() as session:
            heartbeat(session, claim)
        count += 1
    print(count)
    engine.dispose()


if __name__ == "__main__":
    main(sys.argv[1:])
