"""Whatever is done to a genuine file, its reader gives tensors or its own refusal: in little memory, soon, opening nothing."""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from run_floor import ROOT

from tests.fuzz._files import Subject
from tests.fuzz.readers import run
from workers.faults import JobFault


def test_every_reader_survives_some_thousand_mutations() -> None:
    """Longer: `make fuzz`."""
    command = [sys.executable, "-m", "tests.fuzz", "readers", "--count", "1500"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("refused") == 8
    assert "\n0 cases were not handled" in ended.stdout


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def fill(_: bytes) -> None:
    bytearray(2**30)


def crash() -> None:
    faulthandler.disable()  # what it would print is not of a failure
    os.kill(os.getpid(), signal.SIGSEGV)


HARM: dict[str, tuple[Callable[[bytes], object], str]] = {
    "memory": (fill, "more than 512 MiB"),
    "another file": (lambda _: Path("/etc/hostname").read_bytes(), "open"),
    "code": (lambda _: eval("1 + 1"), "compile"),
    "a name": (lambda _: pickle.loads(b"cos\nsystem\n."), "pickle.find_class"),
    "an error of another kind": (lambda content: content[len(content)], "IndexError"),
    "the end of the process": (lambda _: os._exit(3), "ended with 3"),
    "a crash": (lambda _: crash(), "ended with -11"),
    "time": (lambda _: burn(2.5), " s"),
}


@pytest.mark.parametrize("kind", HARM)
def test_the_judge_sees_every_kind_of_harm(kind: str) -> None:
    harm, words = HARM[kind]
    judge = os.getpid()

    def read(content: bytes) -> None:
        if os.getpid() != judge:
            harm(content)

    subject = Subject(read, (JobFault,), lambda: [[("file", b"as it was")]], lambda parts: parts[0][1])
    tally = run(kind, subject, 2)
    assert len(tally.bad) == 2, tally
    assert all(words in line for line in tally.bad)
