"""Laws of isolated jobs: a program runs where system calls are filtered and nowhere else, and the report says how it ran."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from program_archives import node, product_then_sum, program, tensor, write
from run_floor import ROOT, SCRIPT, Floor
from weak_kernel import NO_FILTERS, NO_LANDLOCK, NO_NAMESPACES

from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.reports import Report
from saddlescope.contract.vocabulary import FailureCode, JobStatus, SandboxLevel, Verdict
from store.blobs import open_blobs
from store.jobs import insert_job
from store.presence import present_workers
from store.reports import find_report

ANALYSIS = "workers.answer:ANALYSIS"
TOY = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
}


def submit(floor: Floor, request: dict[str, object]) -> str:
    parsed = JobRequest.model_validate({**request, "queue": "cpu"})
    with floor.sessions.begin() as session:
        return insert_job(session, project="default", request=parsed, fingerprint="f" * 64, deadline_at=None).id


def submit_program(floor: Floor, archive: Path) -> str:
    """A job whose loss is the archive's, at w = (1, 2, 3) over four rows x."""
    blob = open_blobs(str(floor.folder / "blobs")).put(archive.read_bytes())
    return submit(
        floor,
        {
            "checkpoint": {"inline": {"w": [1.0, 2.0, 3.0]}},
            "loss": {"kind": "program", "program": {"artifact": blob.id}},
            "data": {"inline": {"x": [[1.0, 2.0, 3.0]] * 4}},
        },
    )


def report_of(floor: Floor, job_id: str) -> Report:
    with floor.sessions() as session:
        stored = find_report(session, project="default", job_id=job_id)
    assert stored is not None, floor.log()
    return stored.report


def squared_error(folder: Path) -> Path:
    """loss = mean((w - x)^2), at its minimum."""
    nodes = [
        node("sub.Tensor", {"self": tensor("p_w"), "other": tensor("x")}, [tensor("d")]),
        node("square.default", {"self": tensor("d")}, [tensor("s")]),
        node("mean.default", {"self": tensor("s")}, [tensor("loss")]),
    ]
    return write(folder, program(nodes))


@pytest.mark.parametrize(
    ("missing", "level"),
    [("", SandboxLevel.STRICT), (f"{NO_LANDLOCK} {NO_NAMESPACES}", SandboxLevel.STANDARD)],
    ids=["every layer", "filter alone"],
)
def test_a_program_is_analysed_wherever_system_calls_are_filtered(
    floor: Floor, tmp_path: Path, missing: str, level: SandboxLevel
) -> None:
    job_id = submit_program(floor, squared_error(tmp_path))
    floor.run_once(RUN_TARGET=ANALYSIS, RUN_WITHOUT=missing)
    report = report_of(floor, job_id)
    assert report.verdict is Verdict.LOCAL_MINIMUM
    assert report.numerics.sandbox in (level, SandboxLevel.STANDARD)


def test_a_worker_without_filters_says_so_refuses_programs_and_does_the_rest(floor: Floor, tmp_path: Path) -> None:
    floor.start_worker(RUN_TARGET=ANALYSIS, RUN_WITHOUT=NO_FILTERS)
    refused = floor.await_end(submit_program(floor, write(tmp_path, program(product_then_sum()))))
    assert (refused.status, refused.attempt) == (JobStatus.FAILED, 1)
    assert refused.error is not None
    assert (refused.error.code, refused.error.pointer) == (FailureCode.SANDBOX_UNAVAILABLE, "/loss")
    done = submit(floor, TOY)
    assert floor.await_end(done).status is JobStatus.SUCCEEDED
    assert report_of(floor, done).numerics.sandbox is SandboxLevel.BASIC
    with floor.sessions() as session:
        assert [worker.sandbox for worker in present_workers(session)] == ["basic"]


def test_a_worker_below_the_level_that_is_demanded_does_not_start(floor: Floor) -> None:
    job_id = submit(floor, TOY)
    demand = {"SADDLESCOPE_SANDBOX_REQUIRED": "standard", "RUN_WITHOUT": NO_FILTERS, "RUN_TARGET": ANALYSIS}
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), "1"],
        env=floor.environment() | demand,
        cwd=floor.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "SandboxTooWeak: the sandbox reaches basic" in ended.stderr
    assert floor.job(job_id).status is JobStatus.QUEUED


def test_the_command_shows_every_layer_and_attack() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "workers", "sandbox", "--device", "cpu", "--required", "standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert any(line.split() == ["few_system_calls", "holds"] for line in shown)
    assert any(line.split()[:3] == ["execute", "a", "program"] and "stopped" in line for line in shown)
    assert shown[-1] in ("level: standard", "level: strict")
