"""One contestant in a process of its own: `python -m benchmarks.peers.subject CONTESTANT WORKLOAD FOLDER`.

Loads the workload, builds the operator, does one warm-up, says so; then solves once for each line of the standard input,
`{"seed": …, "setting": …}`, and answers each with a line of JSON. Only the solve is on the clock. What was found goes to a
file, for the judge.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from benchmarks.peers.models import Subject, read_subject

Setting = Mapping[str, float | str | bool]
Findings = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Answer:
    """What a solve found, by name (`vectors` (k, n) and more), and how many Hessian products it took."""

    findings: Findings
    num_products: int


class Contestant(Protocol):
    """An adapter module of this package."""

    def prepare(self, subject: Subject) -> Callable[[int, Setting], Answer]:
        """Build the operator, apply it once, and give the solve, from a seed and a setting to its answer."""
        ...


def main(arguments: list[str]) -> None:
    name, workload, folder = arguments
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries may print
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    subject = read_subject(workload, Path(folder))
    contestant: Contestant = importlib.import_module(f"benchmarks.peers.{name}")
    began = time.perf_counter()
    solve = contestant.prepare(subject)
    print(json.dumps({"setup_seconds": time.perf_counter() - began}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        began, began_cpu = time.perf_counter(), time.process_time()
        answer = solve(asked["seed"], asked["setting"])
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
        path = Path(folder) / f"{workload}-{name}-{asked['seed']}.pt"
        torch.save(dict(answer.findings), path)
        told = {
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "num_products": answer.num_products,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "path": str(path),
        }
        print(json.dumps(told), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
