"""`python -m benchmarks [NAME …]`: every benchmark of the table, or those named; exits 1 if one breaks its promise."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks import toy_latency


@dataclass(frozen=True)
class Benchmark:
    name: str
    run: Callable[[], bool]
    """Prints its table; True if what the documentation promises holds."""


BENCHMARKS: tuple[Benchmark, ...] = (Benchmark("toy_latency", toy_latency.run),)


def main(arguments: Sequence[str]) -> int:
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    chosen = parser.parse_args(arguments).names
    if unknown := set(chosen) - set(names):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    broken = []
    for benchmark in BENCHMARKS:
        if chosen and benchmark.name not in chosen:
            continue
        print(f"== {benchmark.name}", flush=True)
        if not benchmark.run():
            broken.append(benchmark.name)
    if broken:
        print(f"promises broken: {', '.join(broken)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
