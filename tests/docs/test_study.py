"""The study in small: the laws that its parts are there to show, asked of a service of its own. The page tells what is stored."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.study import page
from benchmarks.study.__main__ import PARTS
from docs.figures import study as lecture_figure
from docs.figures import theory as theory_figure

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict:
    target = tmp_path_factory.mktemp("study") / "small.json"
    command = [sys.executable, "-m", "benchmarks.study", "--small", "--workers", "1", "--output", str(target)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(target.read_text(encoding="utf-8"))


def test_every_part_is_asked_and_says_where_and_when(small) -> None:
    assert list(small) == list(PARTS)
    assert all({"date", "machine", "versions", "seconds"} <= part.keys() for part in small.values())


def test_on_the_ladder_the_index_falls_from_eight_to_none_as_the_loss_falls(small) -> None:
    points = small["ladder"]["points"]
    assert {point["num_trained"] for point in points} == {0, 1, 8}
    for point in points:
        report, untrained = point["report"], 8 - point["num_trained"]
        assert report["is_critical"]
        assert (report["negative"], report["verdict"]) == (untrained, "saddle" if untrained else "local_minimum")
        assert report["negative"] + report["zero"] + report["positive"] == 25
        if untrained:
            assert report["lambda_min"] == pytest.approx(small["ladder"]["weight_decay"] - point["pull"], rel=1e-4)
    best = {point["num_trained"]: point["report"]["loss"] for point in points}
    assert best[0] > best[1] > best[8]


def test_the_inertia_of_an_autoencoder_is_that_of_the_formula(small) -> None:
    points = small["autoencoder"]["points"]
    assert [point["what"] for point in points] == ["none", "the best half", "the best", "the best but one"]
    for point in points:
        report = point["report"]
        assert [report["negative"], report["zero"], report["positive"]] == point["formula"]
        assert report["lambda_min"] == pytest.approx(point["lambda_min_of_formula"], abs=1e-6)
        assert report["verdict"] == ("flat_minimum" if point["what"] == "the best" else "saddle")


def test_random_hessians_have_an_index_from_their_critical_energy_on(small) -> None:
    below, above = small["pennington_bahri"]["points"]
    assert (below["index_of_theory"], below["report"]["negative"]) == (pytest.approx(0, abs=1e-6), 0)
    share = above["report"]["negative"] / small["pennington_bahri"]["num_dimensions"]
    assert share == pytest.approx(above["index_of_theory"], abs=0.1)


def test_descent_leaves_a_saddle_later_the_nearer_it_begins_unless_it_is_perturbed(small) -> None:
    part = small["escape_time"]
    near, nearer = part["plain"]
    assert max(near) < min(nearer)
    assert part["steps_per_efold"] == pytest.approx(part["steps_per_efold_of_theory"], rel=0.2)
    assert part["plain_from_the_saddle"] == part["num_steps"]
    assert max(part["perturbed_from_the_saddle"]) < part["num_steps"]
    assert max(part["perturbed"][1]) < max(nearer)


def test_a_network_that_tells_classes_apart_has_large_eigenvalues_above_a_gap(small) -> None:
    for point in small["classes"]["points"]:
        largest = point["largest"]
        assert largest == sorted(largest, reverse=True)
        assert largest[0] == pytest.approx(point["report"]["lambda_max"])
        assert 2 <= point["num_outliers"] < len(largest)


def test_the_reports_of_the_networks_count_every_eigenvalue(small) -> None:
    for group in small["lecture"]["groups"]:
        for network in group["networks"]:
            report = network["report"]
            assert report["is_exact"]
            assert report["negative"] + report["zero"] + report["positive"] == 141
            assert network["flattest"]["gradient_norm"] <= network["trained"]["gradient_norm"] * (1 + 1e-4)
            assert report["loss"] == pytest.approx(network["flattest"]["loss"], rel=1e-5)


def test_gradient_descent_lowers_the_loss_at_its_checkpoints(small) -> None:
    [descent] = small["edge"]["descents"]
    assert descent["losses"][-1] < descent["losses"][0]
    assert len(descent["lambda_max"]) == len(descent["steps"])
    assert descent["edge"] * descent["learning_rate"] == pytest.approx(2)


def test_figures_and_tables_are_made_of_any_results(small) -> None:
    assert len(lecture_figure.draw(small).axes) == 4
    assert len(theory_figure.draw(small).axes) == 4
    told = page.with_tables(page.PAGE.read_text(encoding="utf-8"), small)
    assert "| 8 |" in told


def test_the_tables_of_the_study_are_those_of_the_stored_results() -> None:
    results = json.loads(lecture_figure.DATA.read_text(encoding="utf-8"))
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.with_tables(text, results) == text, "run `python -m benchmarks.study.page`"
    assert list(results) == list(PARTS)
    assert all(part["scale"] == "full" for part in results.values())


def test_the_bounds_of_large_autoencoders_hold_what_the_formula_says() -> None:
    points = json.loads(lecture_figure.DATA.read_text(encoding="utf-8"))["autoencoder"]["points"]
    large = [point for point in points if not point["report"]["is_exact"]]
    assert max(point["num_parameters"] for point in large) == 1_000_000
    for point in large:
        assert point["ratio_low"] <= point["formula"][2] / point["num_parameters"] <= point["ratio_high"]
        tolerance = 1e-5 * abs(point["lambda_min_of_formula"]) + 1e-11
        assert point["lambda_min_low"] <= point["lambda_min_of_formula"] <= point["report"]["lambda_min"] + tolerance
