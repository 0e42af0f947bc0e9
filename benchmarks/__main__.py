"""`python -m benchmarks [NAME …]`: every benchmark, or those named, and one table of ratios; exits 1 if a promise is broken."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks import callback_cost, load, pages, products, scrape, start_up, toy_latency, uploads
from benchmarks.peers import compare, dense_verdict, failing
from benchmarks.promises import Promise, print_table


@dataclass(frozen=True)
class Benchmark:
    name: str
    run: Callable[[], list[Promise]]
    """Prints its figures and gives what they say of the promises."""
    run_quickly: Callable[[], list[Promise]] | None = None
    """The same in one repeat and without a result file, where there is a shorter way."""


BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark("start_up", start_up.run, partial(start_up.run, 3)),
    Benchmark("toy_latency", toy_latency.run),
    Benchmark("load", load.run, partial(load.run, quick=True)),
    Benchmark("uploads", uploads.run, partial(uploads.run, 2**28)),
    Benchmark("scrape", scrape.run),
    Benchmark("pages", pages.run, partial(pages.run, 10)),
    Benchmark("callback", callback_cost.run, partial(callback_cost.run, 3)),
    Benchmark("products", products.run),
    Benchmark("extreme_pairs", compare.run, partial(compare.run, quick=True)),
    Benchmark("dense_verdict", dense_verdict.run, partial(dense_verdict.run, quick=True)),
    Benchmark("peers_fail", failing.run, partial(failing.run, quick=True)),
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
    promises: list[Promise] = []
    for benchmark in BENCHMARKS:
        if chosen and benchmark.name not in chosen:
            continue
        print(f"== {benchmark.name}", flush=True)
        run = benchmark.run_quickly if parsed.quick and benchmark.run_quickly is not None else benchmark.run
        promises += run()
    print_table(promises)
    return 0 if all(promise.is_kept for promise in promises) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
