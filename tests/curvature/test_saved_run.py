"""A run that was stopped anywhere goes on to the report that it would have given undisturbed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from saddlescope.analysis import SavedRun, analyze_problem
from saddlescope.contract.jobs import Options
from saddlescope.curvature.objective import Problem
from saddlescope.curvature.saved import SavedRunDamaged, digest_of
from saddlescope.results import AnalysisReport

Tensors = Mapping[str, Tensor]


class Killed(Exception):
    pass


class Network:
    """A small tanh network near zero weights."""

    def __init__(self, hidden: int, inputs: int, shift: float = 0.0) -> None:
        self.shift = shift
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(24, inputs, generator=generator, dtype=torch.float64)
        self.params = {
            "W": 0.05 * torch.randn(hidden, inputs, generator=generator, dtype=torch.float64),
            "v": 0.05 * torch.randn(hidden, generator=generator, dtype=torch.float64),
        }

    def loss(self, t: Tensors, batch: Tensors) -> Tensor:
        errors = torch.tanh(batch["x"] @ t["W"].T) @ t["v"] - torch.sin(batch["x"][:, 0] + self.shift)
        return errors.square().mean()

    def problem(self) -> Problem:
        return Problem(self.loss, self.params, data={"x": self.x})


def dense() -> Network:
    return Network(6, 8)


def sloping() -> Network:
    network = Network(4, 5)
    network.params["v"] = network.params["v"] + 0.3
    return network


def lanczos() -> Network:
    return Network(40, 150)


def told(report: AnalysisReport) -> dict[str, object]:
    """All but the time that it took."""
    everything = report.report.model_dump()
    del everything["numerics"]["seconds"]
    vectors = [{name: tensor.tolist() for name, tensor in escape.vector.items()} for escape in report.escapes]
    return {"report": everything, "spectrum": report.spectrum.model_dump(), "vectors": vectors}


def killed(make: Callable[[], Network], options: Options, *, after: int) -> SavedRun:
    """What was saved last of a run that is killed after so many products."""
    kept: list[SavedRun] = []

    def keep(saved: SavedRun) -> None:
        kept.append(saved)
        if saved.matvecs >= after:
            raise Killed

    with pytest.raises(Killed):
        analyze_problem(make().problem(), options, on_save=keep, save_every_seconds=0.0)
    return kept[-1]


LANCZOS = Options(max_matvecs=120, landscape=False)
DENSE = Options(landscape=False)
SEARCH = Options(landscape=False, critical_point_search=True)


@pytest.mark.parametrize(
    ("make", "options", "products"),
    [
        *((lanczos, LANCZOS, count) for count in (1, 4, 17, 60, 100, 130)),
        *((dense, DENSE, count) for count in (20, 40, 55)),
        *((sloping, SEARCH, count) for count in (20, 60, 100)),
    ],
    ids=lambda value: value.__name__ if callable(value) else str(value) if isinstance(value, int) else "",
)
def test_a_resumed_run_gives_the_undisturbed_report_bit_for_bit(
    make: Callable[[], Network], options: Options, products: int, tmp_path: Path
) -> None:
    every: list[SavedRun] = []
    whole = analyze_problem(make().problem(), options, on_save=every.append, save_every_seconds=0.0)
    # Another run may find another way to compute products the faster: the states are those of this one.
    before, after = next(index for index, saved in enumerate(every, 1) if saved.matvecs >= products), list[SavedRun]()
    every[before - 1].write(tmp_path / "run")
    saved = SavedRun.read(tmp_path / "run")
    resumed = analyze_problem(make().problem(), options, saved=saved, on_save=after.append, save_every_seconds=0.0)
    assert told(resumed) == told(whole)
    assert before + len(after) == len(every)  # no product was computed twice


def test_a_run_that_saves_reports_what_one_does_that_does_not() -> None:
    d = torch.linspace(-1, 3, 6000, dtype=torch.float64)  # every way to differentiate gives the same bits
    problem = Problem(lambda t, _: 0.5 * (d * t["x"]) @ t["x"], {"x": torch.zeros_like(d)})
    plain = analyze_problem(problem, LANCZOS)
    assert told(analyze_problem(problem, LANCZOS, on_save=lambda _: None, save_every_seconds=0.0)) == told(plain)


def test_seconds_add_up_over_attempts() -> None:
    saved = killed(lanczos, LANCZOS, after=17)
    report = analyze_problem(lanczos().problem(), LANCZOS, saved=replace(saved, seconds=1000.0))
    assert 1000 < report.numerics.seconds < 2000


@pytest.mark.parametrize("change", ["options", "theta", "data", "loss"])
def test_a_run_of_another_question_is_ignored_with_a_warning(change: str) -> None:
    saved, other, options = killed(lanczos, LANCZOS, after=17), lanczos(), LANCZOS
    if change == "options":
        options = LANCZOS.model_copy(update={"seed": 1})
    if change == "theta":
        other.params["v"] = other.params["v"] + 1e-9
    if change == "data":
        other.x = other.x.clone()
        other.x[3, 5] += 1e-9
    if change == "loss":  # nothing but the products themselves can tell
        other.shift = 0.1
    report = analyze_problem(other.problem(), options, saved=saved)
    assert "saved_run_ignored" in [warning.code for warning in report.warnings]
    truth = analyze_problem(other.problem(), options)
    assert report.lambda_min.estimate == pytest.approx(truth.lambda_min.estimate, rel=1e-6)
    assert report.numerics.num_matvecs == pytest.approx(truth.numerics.num_matvecs, abs=5)
    assert report.verdict == truth.verdict


def test_a_damaged_file_is_told_from_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "run"
    saved = killed(lanczos, LANCZOS, after=17)
    saved.write(path)
    back, blob = SavedRun.read(path), path.read_bytes()
    assert replace(back, products={}) == replace(saved, products={})
    assert all(torch.equal(back.products[name], product) for name, product in saved.products.items())
    assert back.products.keys() == saved.products.keys()
    assert abs(len(blob) - saved.num_bytes) < 20_000
    altered = [
        blob.replace(old, new)
        for old, new in (
            (b"saved-run-1", b"saved-run-0"),
            (b'batch_size\\": 24', b'batch_size\\": -4'),
            (b'mode\\": \\"', b'mode\\": \\?'),
            (b"F64", b"I64"),
        )
    ]
    assert blob not in altered
    for damaged in (b"", blob[:5], blob[: len(blob) // 2], blob[:-1], b"\xff" * 100, *altered):
        path.write_bytes(damaged)
        with pytest.raises(SavedRunDamaged):
            SavedRun.read(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_vectors_that_differ_in_a_bit_or_a_place_have_other_digests(dtype: torch.dtype) -> None:
    vector = torch.randn(70_001, generator=torch.Generator().manual_seed(0)).to(dtype)
    others = [vector, vector.flip(0), -vector, vector[:-1], vector.roll(1), vector.roll(2**16)]
    for place in (0, 1, 65_535, 65_536, 70_000):
        other = vector.clone()
        other[place] = torch.nextafter(other[place], torch.tensor(9.0, dtype=dtype))
        unit = torch.zeros_like(vector)
        unit[place] = 1.0
        others += [other, unit]
    assert len({digest_of(other) for other in others}) == len(others)
    assert digest_of(vector) == digest_of(torch.stack([-vector, vector])[1])
    assert digest_of(vector, b"here") != digest_of(vector, b"there")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_rows_that_a_dense_hessian_asks_for_have_digests_of_their_own(dtype: torch.dtype) -> None:
    units = torch.eye(5_000, dtype=dtype)
    small_integers = torch.arange(1.0, 5_001, dtype=dtype)[:, None].expand(-1, 3).contiguous()
    assert len({digest_of(row) for row in (*units, *-units, *small_integers)}) == 15_000
