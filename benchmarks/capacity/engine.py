"""One network on one thread in a process of its own: `python -m benchmarks.capacity.engine NETWORK`.

Prints one line of JSON for each checkpoint: what its analysis took at the service's defaults, and what it leaves to store.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch

import saddlescope
from benchmarks.capacity.networks import NETWORKS, Network, checkpoints, loss_of
from benchmarks.peers.environment import REPOSITORY, with_threads

LIMIT_SECONDS = 1200.0


@dataclass(frozen=True)
class Analysis:
    """One checkpoint's; bytes are of what the service would store."""

    num_parameters: int
    seconds: float
    cpu_seconds: float
    num_matvecs: int
    method: str
    dtype: str
    verdict: str
    checkpoint_bytes: int
    spectrum_bytes: int
    landscape_bytes: int
    vector_bytes: int
    report: str
    """The report as JSON."""


def measure(network: Network) -> list[Analysis]:
    """All checkpoints of a network, on one thread of a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.capacity.engine", network.name],
        cwd=REPOSITORY,
        env=with_threads(1),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=True,
    )
    return [Analysis(**json.loads(line)) for line in done.stdout.splitlines()]


def analyses(network: Network) -> list[Analysis]:
    found = []
    for module, data in checkpoints(network):
        parameters = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
        began, began_cpu = time.perf_counter(), time.process_time()
        report = saddlescope.analyze(loss_of(module), parameters, data)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
        landscape, vectors = report.landscape, [escape.vector.values() for escape in report.escapes]
        found.append(
            Analysis(
                num_parameters=report.num_parameters,
                seconds=seconds,
                cpu_seconds=cpu_seconds,
                num_matvecs=report.numerics.num_matvecs,
                method=report.numerics.method.value,
                dtype=report.numerics.dtype.value,
                verdict=report.verdict.value,
                checkpoint_bytes=_num_bytes(parameters.values()),
                spectrum_bytes=len(report.spectrum.model_dump_json()),
                landscape_bytes=0 if landscape is None else len(landscape.model_dump_json()),
                vector_bytes=sum(map(_num_bytes, vectors)),
                report=report.to_json(),
            )
        )
    return found


def _num_bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def main(arguments: list[str]) -> None:
    (name,) = arguments
    torch.set_num_threads(1)
    # What torch imports on the first forward derivative, a worker has imported before it takes a job.
    analyses(NETWORKS[0])
    for analysis in analyses(next(network for network in NETWORKS if network.name == name)):
        print(json.dumps(asdict(analysis)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
