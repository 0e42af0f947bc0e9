"""How long a training script waits for `import saddlescope`, and a shell for `saddlescope --help`: new processes, medians."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.peers.environment import origin, write_results
from benchmarks.promises import Promise

IMPORT_SECONDS, HELP_SECONDS = 0.3, 0.5
NUM_STARTS, NUM_QUICK_STARTS = 9, 3
QUESTIONS: dict[str, tuple[list[str], float | None]] = {
    "python -c pass": (["-c", "pass"], None),
    "import saddlescope": (["-c", "import saddlescope"], IMPORT_SECONDS),
    "import saddlescope; saddlescope.Client": (["-c", "import saddlescope; saddlescope.Client"], None),
    "saddlescope --help": ([str(Path(sys.executable).with_name("saddlescope")), "--help"], HELP_SECONDS),
}


def run(*, quick: bool = False) -> list[Promise]:
    """Measure, print and store. The first start of each is not counted: it reads the disk."""
    num_starts = NUM_QUICK_STARTS if quick else NUM_STARTS
    here, starts, promises = origin("pydantic", "httpx2"), [], []
    for name, (arguments, most) in QUESTIONS.items():
        seconds = [_start(arguments) for _ in range(num_starts + 1)][1:]
        median = statistics.median(seconds)
        print(f"{name:<44}{median:>8.3f} s   slowest {max(seconds):.3f} s", flush=True)
        starts.append({"what": name, "median_seconds": median, "slowest_seconds": max(seconds), "most_seconds": most})
        if most is not None:
            promises.append(Promise(f"{name}, seconds", median, most))
    if not quick:
        write_results("start_up", {**here, "num_starts": num_starts, "starts": starts})
    return promises


def _start(arguments: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
