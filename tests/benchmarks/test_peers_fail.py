"""The truth by which libraries are judged is the truth, the judge is just, and Saddlescope is right in every case."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.peers import failing_saddlescope
from benchmarks.peers.environment import RESULTS
from benchmarks.peers.failing import error_of, leading_by_dense_truth
from benchmarks.peers.failing_cases import CASES, RIGHT_RTOL, Case, Subject, read_case, write_case
from benchmarks.peers.failing_subject import Found, Way, attempt


def subject_of(case: Case, folder: Path) -> Subject:
    write_case(case, folder)
    return read_case(case, folder)


def case_named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def test_a_linear_network_has_each_eigenvalue_of_its_inputs_three_times(tmp_path) -> None:
    subject = subject_of(case_named("multiplicity"), tmp_path)
    inputs = subject.inputs.double()
    first, second = torch.linalg.eigvalsh(2 / (3 * len(inputs)) * inputs.T @ inputs).flip(0)[:2].tolist()
    assert leading_by_dense_truth(subject) == pytest.approx([first] * 3 + [second] * 3, rel=1e-12)


def test_a_loss_that_is_scaled_has_a_spectrum_that_is_scaled(tmp_path) -> None:
    plain = leading_by_dense_truth(subject_of(case_named("many_steps"), tmp_path))
    scaled = leading_by_dense_truth(subject_of(case_named("small_scale"), tmp_path))
    assert [1e8 * value for value in scaled] == pytest.approx(plain[:3], rel=1e-10)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("place", [0, 1], ids=["by default", "without a dense Hessian"])
def test_saddlescope_is_right_where_others_fail(case, place, tmp_path) -> None:
    told = attempt(subject_of(case, tmp_path), failing_saddlescope.ways(case.name)[place])
    assert told.refusal is None
    error = error_of(told.values, leading_by_dense_truth(subject_of(case, tmp_path)))
    assert error is not None
    assert error <= RIGHT_RTOL


def test_an_error_is_measured_by_the_largest_eigenvalue_in_the_order_of_magnitudes() -> None:
    assert error_of([1.0, -4.0, 2.0], [-4.0, 2.0, 1.0]) == 0.0
    assert error_of([-4.0, 2.0, 2.0], [-4.0, 2.0, 1.0]) == 0.25
    assert error_of(None, [1.0]) is None
    with pytest.raises(ValueError, match="argument 2 is longer"):
        error_of([1.0], [2.0, 1.0])


def test_what_a_library_raises_is_its_answer(tmp_path) -> None:
    def refuse(_: Subject) -> Found:
        raise RuntimeError("no convergence\nafter ten steps")

    told = attempt(subject_of(case_named("ragged"), tmp_path), Way("refuse()", refuse, is_default=True))
    assert told.values is None
    assert told.refusal == "RuntimeError: no convergence"


def test_every_case_is_in_the_stored_results() -> None:
    stored = json.loads((RESULTS / "peers_fail.json").read_text())
    assert {case["name"] for case in stored["cases"]} == {case.name for case in CASES}
