"""What an end means, over every kind of end; and what of a runner's words is believed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from saddlescope.contract.vocabulary import FailureCode
from workers.memory import memory_bytes, oom_kills
from workers.outcome import Ending, Fault, Interruption, Settled, judge
from workers.progress import ProgressReader
from workers.protocol import Exit, Failed, Succeeded
from workers.results import InvalidResult, check_vector, read_outcome

ANSWERED = Succeeded(device="cpu", num_escapes=0)


def killed_by(number: signal.Signals) -> Exit:
    return Exit(wait_status=int(number), max_rss_bytes=0)


def exited(status: int) -> Exit:
    return Exit(wait_status=status << 8, max_rss_bytes=0)


@pytest.mark.parametrize(
    ("ending", "code", "is_retryable"),
    [
        (Ending(exit=killed_by(signal.SIGKILL), outcome=None), FailureCode.WORKER_LOST, True),
        (Ending(exit=killed_by(signal.SIGTERM), outcome=None), FailureCode.WORKER_LOST, True),
        (Ending(exit=None, outcome=None), FailureCode.WORKER_LOST, True),
        (Ending(exit=killed_by(signal.SIGKILL), outcome=None, was_oom_killed=True), FailureCode.OUT_OF_MEMORY, False),
        (
            Ending(exit=killed_by(signal.SIGABRT), outcome=None, errors="what():  std::bad_alloc"),
            FailureCode.OUT_OF_MEMORY,
            False,
        ),
        (Ending(exit=killed_by(signal.SIGABRT), outcome=None), FailureCode.CRASHED, False),
        (Ending(exit=killed_by(signal.SIGSEGV), outcome=None, was_oom_killed=True), FailureCode.CRASHED, False),
        (Ending(exit=killed_by(signal.SIGSEGV), outcome=ANSWERED), FailureCode.CRASHED, False),
        (Ending(exit=killed_by(signal.SIGSYS), outcome=None), FailureCode.SANDBOX_VIOLATION, False),
        (Ending(exit=killed_by(signal.SIGXFSZ), outcome=None), FailureCode.RESOURCE_LIMIT, False),
        (Ending(exit=exited(1), outcome=ANSWERED), FailureCode.INTERNAL, False),
        (Ending(exit=exited(0), outcome=None), FailureCode.CRASHED, False),
        (
            Ending(exit=killed_by(signal.SIGKILL), outcome=None, interruption=Interruption.DEADLINE),
            FailureCode.DEADLINE_EXCEEDED,
            False,
        ),
        (
            Ending(exit=killed_by(signal.SIGKILL), outcome=None, interruption=Interruption.OVERTIME),
            FailureCode.RESOURCE_LIMIT,
            False,
        ),
    ],
)
def test_every_end_has_one_code_and_only_losses_are_tried_again(
    ending: Ending, code: FailureCode, is_retryable: bool
) -> None:
    judgement = judge(ending)
    assert isinstance(judgement, Fault)
    assert (judgement.code, judgement.is_retryable) == (code, is_retryable)


@pytest.mark.parametrize(
    ("interruption", "settled"),
    [
        (Interruption.CANCELLED, Settled.CANCELLED),
        (Interruption.STOPPING, Settled.RELEASED),
        (Interruption.LOST, Settled.ABANDONED),
    ],
)
def test_what_the_supervisor_ended_is_no_fault_of_the_job(interruption: Interruption, settled: Settled) -> None:
    killed = Ending(exit=killed_by(signal.SIGKILL), outcome=None, interruption=interruption, was_oom_killed=True)
    assert judge(killed) is settled


def test_a_runner_s_own_words_are_kept() -> None:
    said = Failed(code=FailureCode.DATA_INVALID, detail="3 rows and 4 targets", pointer="/data")
    assert judge(Ending(exit=exited(0), outcome=said)) == Fault(said.code, said.detail, pointer="/data")
    assert judge(Ending(exit=exited(0), outcome=ANSWERED)) is ANSWERED


def test_progress_survives_any_cut_of_the_stream_and_passes_over_nonsense() -> None:
    lines = (
        b'{"stage":"lanczos","fraction":0.25,"matvecs":1}\nnonsense\n{"stage":"lanczos","fraction":0.5,"matvecs":2}\n'
    )
    for size in range(1, len(lines) + 1):
        reader = ProgressReader()
        for start in range(0, len(lines), size):
            reader.feed(lines[start : start + size])
        assert reader.latest is not None
        assert reader.latest.matvecs == 2
        assert reader.take() == reader.latest
        assert reader.take() is None
    flooded = ProgressReader()
    flooded.feed(b"x" * 10**6)
    flooded.feed(b'\n{"stage":"dense","fraction":1.5,"matvecs":2}\n{"stage":"dense","fraction":1,"matvecs":3}\n')
    assert flooded.latest is not None
    assert flooded.latest.matvecs == 3


def vector_file(path: Path, header: dict[str, object], payload: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + payload)
    return path


GOOD = {"__metadata__": {"step": "1.0"}, "w": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]}}


def test_a_sound_vector_passes(tmp_path: Path) -> None:
    check_vector(vector_file(tmp_path / "v", GOOD, bytes(16)))


@pytest.mark.parametrize(
    ("change", "payload"),
    [
        ({}, bytes(15)),
        ({}, bytes(17)),
        ({"__metadata__": {}}, bytes(16)),
        ({"w": {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]}}, bytes(16)),
        ({"w": {"dtype": "F64", "shape": [3], "data_offsets": [0, 16]}}, bytes(16)),
        ({"w": {"dtype": "F64", "shape": [2], "data_offsets": [8, 24]}}, bytes(24)),
        ({"v": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]}}, bytes(16)),
        ({"a b": {"dtype": "F64", "shape": [0], "data_offsets": [16, 16]}}, bytes(16)),
        ({"w": {"dtype": "F64", "shape": [2**61, 2**61], "data_offsets": [0, 16]}}, bytes(16)),
        ({"w": {"dtype": "F64", "shape": [-2], "data_offsets": [0, 16]}}, bytes(16)),
    ],
)
def test_an_unsound_vector_is_refused(tmp_path: Path, change: dict[str, object], payload: bytes) -> None:
    with pytest.raises(InvalidResult):
        check_vector(vector_file(tmp_path / "v", GOOD | change, payload))


@pytest.mark.parametrize("plant", ["symlink", "hard link", "fifo", "nothing"])
def test_only_plain_files_are_read(tmp_path: Path, plant: str) -> None:
    good, planted = vector_file(tmp_path / "v", GOOD, bytes(16)), tmp_path / "planted"
    match plant:
        case "symlink":
            planted.symlink_to(good)
        case "hard link":
            planted.hardlink_to(good)
        case "fifo":
            os.mkfifo(planted)
    with pytest.raises(InvalidResult):
        check_vector(planted)


def test_a_torn_outcome_is_no_outcome(tmp_path: Path) -> None:
    assert read_outcome(tmp_path) is None
    (tmp_path / "outcome.json").write_text('{"status":"succ')
    assert read_outcome(tmp_path) is None


def test_memory_is_counted_where_the_kernel_counts_it() -> None:
    assert 2**26 < memory_bytes() < 2**50
    assert oom_kills() >= 0
