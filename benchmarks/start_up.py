"""How long a training script waits for `import saddlescope`, and a shell for `saddlescope --help`: new processes, medians."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.promises import Promise

IMPORT_SECONDS, HELP_SECONDS = 0.3, 0.5
NUM_STARTS = 9
QUESTIONS: dict[str, tuple[list[str], float | None]] = {
    "python -c pass": (["-c", "pass"], None),
    "import saddlescope": (["-c", "import saddlescope"], IMPORT_SECONDS),
    "import saddlescope; saddlescope.Client": (["-c", "import saddlescope; saddlescope.Client"], None),
    "saddlescope --help": ([str(Path(sys.executable).with_name("saddlescope")), "--help"], HELP_SECONDS),
}


def run(num_starts: int = NUM_STARTS) -> list[Promise]:
    """Measure and print. The first start of each is not counted: it reads the disk."""
    promises = []
    for name, (arguments, most) in QUESTIONS.items():
        seconds = [_start(arguments) for _ in range(num_starts + 1)][1:]
        median = statistics.median(seconds)
        print(f"{name:<44}{median:>8.3f} s   slowest {max(seconds):.3f} s", flush=True)
        if most is not None:
            promises.append(Promise(f"{name}, seconds", median, most))
    return promises


def _start(arguments: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
