"""One library on all cases, each in its settings: `python -m benchmarks.peers.failing_subject LIBRARY FOLDER`.

Prints one line of JSON for each attempt: what was called, what it gave, what the library itself says of it.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch

from benchmarks.peers.failing_cases import CASES, Subject, read_case


@dataclass(frozen=True)
class Found:
    """Eigenvalues in any order, and whether the library says that it is sure of them."""

    values: Sequence[float]
    is_sure: bool = True


@dataclass(frozen=True)
class Way:
    """A call as its documentation has it; `is_default` for the one that a reader would write first."""

    call: str
    solve: Callable[[Subject], Found]
    is_default: bool


class Library(Protocol):
    """An adapter module of this package."""

    def ways(self, case_name: str) -> Sequence[Way]: ...


@dataclass(frozen=True)
class Told:
    """One attempt, as it crosses the border of the process."""

    case: str
    call: str
    is_default: bool
    values: Sequence[float] | None
    is_sure: bool
    refusal: str | None
    seconds: float


# How numerical libraries say that they cannot: the table quotes it. Anything else is a fault of the benchmark.
REFUSALS = (ArithmeticError, RuntimeError, ValueError)


def attempt(subject: Subject, way: Way) -> Told:
    torch.manual_seed(0)
    began = time.perf_counter()
    values, is_sure, refusal = None, False, None
    try:
        found = way.solve(subject)
        values, is_sure = [float(value) for value in found.values], found.is_sure
    except REFUSALS as error:
        refusal = f"{type(error).__name__}: {error}".splitlines()[0]
    seconds = time.perf_counter() - began
    return Told(subject.case.name, way.call, way.is_default, values, is_sure, refusal, seconds)


def main(arguments: list[str]) -> None:
    name, folder = arguments
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries may print
    torch.set_num_threads(1)
    library: Library = importlib.import_module(f"benchmarks.peers.{name}")
    for case in CASES:
        for way in library.ways(case.name):
            told = attempt(read_case(case, Path(folder)), way)
            print(json.dumps(asdict(told)), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
