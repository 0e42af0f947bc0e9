"""`python -m benchmarks [NAME …]`: every benchmark, or those named, and one table of ratios; exits 1 if a promise is broken.

What is measured is stored and put into docs/performance.md, broken promises too. `--quick` stores nothing and leaves the page.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Protocol

from benchmarks import callback_cost, load, page, pages, products, scrape, start_up, toy_latency, uploads
from benchmarks.peers import compare, dense_verdict, failing
from benchmarks.promises import Promise, print_table, store


class Run(Protocol):
    """Prints its figures, stores them unless it is quick, and gives what they say of the promises."""

    def __call__(self, *, quick: bool = False) -> list[Promise]: ...


BENCHMARKS: Mapping[str, Run] = {
    "start_up": start_up.run,
    "toy_latency": toy_latency.run,
    "load": load.run,
    "uploads": uploads.run,
    "scrape": scrape.run,
    "pages": pages.run,
    "callback": callback_cost.run,
    "products": products.run,
    "extreme_pairs": compare.run,
    "dense_verdict": dense_verdict.run,
    "peers_fail": failing.run,
}


def main(arguments: Sequence[str]) -> int:
    names = list(BENCHMARKS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="fewer repeats, and nothing is stored")
    parsed = parser.parse_args(arguments)
    chosen = parsed.names
    if unknown := set(chosen) - set(names):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    all_promises: list[Promise] = []
    for name, run in BENCHMARKS.items():
        if chosen and name not in chosen:
            continue
        print(f"== {name}", flush=True)
        promises = run(quick=parsed.quick)
        if not parsed.quick:
            store(name, promises)
            page.write()
        all_promises += promises
    print_table(all_promises)
    return 0 if all(promise.is_kept for promise in all_promises) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
