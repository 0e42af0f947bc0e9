"""Gives mutated files to every reader, in processes with little memory that may open nothing and must not die.

A case is the seed of its mutations. It is good if the bytes are read or refused with the reader's own error, within two
seconds of processor time and 512 MiB, without another file opened, code compiled or a name looked up by pickle.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from tests.fuzz._files import SUBJECTS, Subject
from tests.fuzz._mutation import mutated

CASES_A_PROCESS = 5_000
SECONDS_OF_PROCESSOR = 2.0
SECONDS_OF_SILENCE = 120.0
MEMORY_BYTES = 512 * 2**20
_FORBIDDEN = {
    "exec",
    "compile",
    "import",
    "os.system",
    "os.exec",
    "subprocess.Popen",
    "pickle.find_class",
    "socket.connect",
}


class Forbidden(BaseException):
    """A reader did what no reader may; nothing between here and the judge catches it."""


@dataclass
class Tally:
    """What came of the cases of one subject."""

    outcomes: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, 0)

    def count(self, name: str, line: str) -> None:
        seed, seconds, outcome = line.split(" ", 2)
        self.slowest = max(self.slowest, (float(seconds), int(seed)))
        self.outcomes[outcome.partition(":")[0]] += 1
        if outcome.startswith("FAULT"):
            self.bad.append(f"{name} {seed}: {outcome}")


def content_of(name: str, subject: Subject, seed: int) -> bytes:
    chance = random.Random(f"{name} {seed}")
    return mutated(chance.choice(subject.genuine()), subject.genuine(), subject.pack, chance)


def try_case(subject: Subject, content: bytes) -> str:
    try:
        subject.read(content)
    except subject.refusals:
        return "refused"
    except MemoryError:
        return f"FAULT: more than {MEMORY_BYTES >> 20} MiB"
    except Forbidden as done:
        return f"FAULT: {done}"
    except Exception as wrong:  # noqa: BLE001 - what no one expects is what is looked for
        return f"FAULT: {type(wrong).__name__}: {str(wrong)[:200]!r}"
    return "read"


def run(name: str, subject: Subject, count: int, *, first_seed: int = 0) -> Tally:
    """Try so many cases; what is bad of them stands in the tally."""
    tally = Tally()
    for parts in subject.genuine():  # what is imported late is imported now
        assert try_case(subject, subject.pack(parts)) == "read", f"{name}: a genuine file is refused"
    try_case(subject, b"[")
    seed = first_seed
    while seed < first_seed + count:
        seed = _watch(name, subject, range(seed, min(seed + CASES_A_PROCESS, first_seed + count)), tally)
    return tally


def _watch(name: str, subject: Subject, seeds: range, tally: Tally) -> int:
    """One process, until it has done its cases or died; gives the next seed."""
    seed = seeds.start
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _try_all(name, subject, seeds, writing)
    os.close(writing)
    rest = b""
    while select.select([reading], [], [], SECONDS_OF_SILENCE)[0]:
        chunk = os.read(reading, 2**16)
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            tally.count(name, line.decode())
            seed += 1
    else:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(reading)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return seed
    tally.bad.append(f"{name} {seed}: FAULT: {'hung' if code == -signal.SIGKILL else f'ended with {code}'}")
    return seed + 1


def _try_all(name: str, subject: Subject, seeds: range, writing: int) -> NoReturn:
    try:
        with open("/proc/self/statm", encoding="ascii") as sizes:
            mapped = int(sizes.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES,) * 2)
        sys.addaudithook(_forbid)
        for seed in seeds:
            content = content_of(name, subject, seed)
            start = time.process_time()
            outcome = try_case(subject, content)
            seconds = time.process_time() - start
            if seconds > SECONDS_OF_PROCESSOR and not outcome.startswith("FAULT"):
                outcome = f"FAULT: {seconds:.1f} s"
            os.write(writing, f"{seed} {seconds:.3f} {outcome}\n".encode())
        os._exit(0)
    finally:
        os._exit(1)


def _forbid(event: str, arguments: tuple[object, ...]) -> None:
    # A file by its descriptor is the one that the reader was given.
    if event in _FORBIDDEN or (event == "open" and not isinstance(arguments[0], int)):
        raise Forbidden(f"{event} {arguments[:1]!r}")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz readers", description=__doc__)
    parser.add_argument("--count", type=int, default=1_500, help="cases of each reader")
    parser.add_argument("--seed", type=int, default=0, help="the first case; every case is a seed of its own")
    parser.add_argument("--reader", choices=sorted(SUBJECTS), action="append", help="by default all")
    parser.add_argument("--only", action="store_true", help="run the one case of the seed, here and without limits")
    options = parser.parse_args(arguments)
    bad: list[str] = []
    for name in options.reader or SUBJECTS:
        if options.only:
            content = content_of(name, SUBJECTS[name], options.seed)
            print(content[:2_000])
            SUBJECTS[name].read(content)
            continue
        tally = run(name, SUBJECTS[name], options.count, first_seed=options.seed)
        bad += tally.bad
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(tally.outcomes.items()))
        print(f"{name}: {outcomes}; slowest {tally.slowest[0]:.2f} s (case {tally.slowest[1]})", flush=True)
    print(*bad, sep="\n")
    print(f"{len(bad)} cases were not handled")
    return 1 if bad else 0
