"""Hostile programs sent to a real worker end in the fitting code, in its sandbox, and the next job succeeds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from program_archives import Json, node, product_then_sum, tensor, write
from run_floor import Floor, open_floor
from test_program_hostile import CASES, after, ways_in
from test_sandbox_jobs import ANALYSIS, TOY, submit, submit_program

from saddlescope.contract.vocabulary import FailureCode, JobStatus


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, broker_socket: Path) -> Iterator[Floor]:
    with open_floor(tmp_path_factory.mktemp("floor"), broker_socket) as floor:
        floor.start_worker(RUN_TARGET=ANALYSIS, SADDLESCOPE_WORKER_POLL_SECONDS="0.05")
        yield floor


def of_product(*nodes: Json) -> Json:
    """The loss is the sum of `y`, which the nodes make of `mul`, the product of data and parameters."""
    return after(product_then_sum()[0], *nodes)


NOT_SMOOTH: dict[str, tuple[Json, FailureCode]] = {
    "independent of the parameters": (
        after(node("exp.default", {"self": tensor("x")}, [tensor("y")])),
        FailureCode.NOT_DIFFERENTIABLE,
    ),
    "detached": (of_product(node("detach.default", {"self": tensor("mul")}, [tensor("y")])), FailureCode.NOT_DIFFERENTIABLE),
    "different at every evaluation": (
        of_product(
            node("dropout.default", {"input": tensor("mul"), "p": {"as_float": 0.5}, "train": {"as_bool": True}}, [tensor("y")])
        ),
        FailureCode.UNSUPPORTED_OPERATION,
    ),
    "not finite": (of_product(node("log.default", {"self": tensor("p_w")}, [tensor("l")]),
                              node("mul.Scalar", {"self": tensor("l"), "other": {"as_float": "Infinity"}}, [tensor("y")])),
                   FailureCode.NON_FINITE_LOSS),
}  # fmt: skip
# Of the graphs that test_program_hostile refuses without a process, those that could harm one.
HARMFUL = ("in place", "dropout", "file", "dtype 200", "cycle", "8 GiB", "20,000 products", "growing size", "no scalar")
REFUSED = {name: CASES[name][:2] for name in HARMFUL} | NOT_SMOOTH


def ends_and_the_next_succeeds(running: Floor, archive: Path) -> FailureCode | None:
    hostile, following = submit_program(running, archive), submit(running, TOY)
    job = running.await_end(hostile)
    assert running.await_end(following).status is JobStatus.SUCCEEDED, running.log()
    assert job.attempt == 1
    return None if job.error is None else job.error.code


@pytest.mark.parametrize("case", REFUSED)
def test_a_hostile_program_fails_with_its_code(running: Floor, tmp_path: Path, case: str) -> None:
    model, code = REFUSED[case]
    assert ends_and_the_next_succeeds(running, write(tmp_path, model)) is code


@pytest.mark.parametrize("way", ways_in(Path("marker")))
def test_no_way_into_the_stock_loader_leaves_a_mark(running: Floor, tmp_path: Path, way: str) -> None:
    marker = tmp_path / "marker"
    model, weights, members = ways_in(marker)[way]
    code = ends_and_the_next_succeeds(running, write(tmp_path, model, weights=weights, members=members))
    assert code in (None, FailureCode.LOSS_INVALID, FailureCode.DATA_INVALID)
    assert not marker.exists()
