"""`python -m benchmarks [NAME …]`: every benchmark of the table, or those named; exits 1 if one breaks its promise."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks import load, products, toy_latency, uploads
from benchmarks.peers import compare, dense_verdict


@dataclass(frozen=True)
class Benchmark:
    name: str
    run: Callable[[], bool]
    """Prints its table; True if what the documentation promises holds."""
    run_quickly: Callable[[], bool] | None = None
    """The same in one repeat and without a result file, where there is a shorter way."""


BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark("toy_latency", toy_latency.run),
    Benchmark("load", load.run, partial(load.run, quick=True)),
    Benchmark("uploads", uploads.run, partial(uploads.run, 2**28)),
    Benchmark("products", products.run),
    Benchmark("extreme_pairs", compare.run, partial(compare.run, quick=True)),
    Benchmark("dense_verdict", dense_verdict.run, partial(dense_verdict.run, quick=True)),
)


def main(arguments: Sequence[str]) -> int:
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="one repeat where a benchmark has several")
    parsed = parser.parse_args(arguments)
    chosen = parsed.names
    if unknown := set(chosen) - set(names):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    broken = []
    for benchmark in BENCHMARKS:
        if chosen and benchmark.name not in chosen:
            continue
        print(f"== {benchmark.name}", flush=True)
        run = benchmark.run_quickly if parsed.quick and benchmark.run_quickly is not None else benchmark.run
        if not run():
            broken.append(benchmark.name)
    if broken:
        print(f"promises broken: {', '.join(broken)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
