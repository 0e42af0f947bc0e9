"""The examples do what they are there to show, in short."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from docs.figures import way_out as figure
from examples.embedded import running_service
from examples.plateaus.cases import CASES

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_service(tmp_path_factory.mktemp("programs") / "data", worker_threads=1) as address:
        yield address


def run(module: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_doubled_units_never_part_by_themselves_and_do_after_the_escape(tmp_path) -> None:
    run(
        "examples.way_out",
        "doubled_units",
        "ordinary_weights",
        "--seeds",
        "1",
        "--steps",
        "100",
        "--output",
        str(tmp_path / "out.json"),
    )
    doubled, ordinary = json.loads((tmp_path / "out.json").read_text())["cases"]
    [outcome] = doubled["outcomes"]
    alone, escape = outcome["curves"]["alone"], outcome["curves"]["escape"]
    assert outcome["verdict"] == "saddle"
    assert alone[-1] > 0.999 * alone[0]
    assert escape[-1] < 0.9 * alone[-1]
    assert ordinary["outcomes"][0]["verdict"] == "not_critical"


def test_a_tiny_gpt_leaves_its_plateau_sooner_by_the_escape(url) -> None:
    said = run("examples.tiny_gpt", "--url", url, "--steps", "60")
    assert "saddle" in said.lower()
    rows = re.findall(r"^ *(\d+) +(\d\.\d{4}) +(\d\.\d{4}) *$", said, flags=re.MULTILINE)
    assert [int(step) for step, _, _ in rows] == [0, 20, 40, 60]
    assert all(float(escaped) < float(alone) for _, alone, escaped in rows)


def test_the_checkpoints_of_a_run_are_on_its_page_by_step(url) -> None:
    said = run("examples.timeline", "--url", url, "--steps", "200", "--every", "100")
    found = re.search(r"The timeline of the run: (\S+)", said)
    assert found is not None, said
    assert found[1].startswith(f"{url}/runs/")
    assert httpx2.get(found[1]).status_code == 200
    points = httpx2.get(found[1].replace("/runs/", "/v1/runs/")).raise_for_status().json()["jobs"]
    assert [(point["step"], point["status"]) for point in points] == [
        (0, "succeeded"),
        (100, "succeeded"),
        (200, "succeeded"),
    ]
    assert points[0]["loss"] > points[-1]["loss"]


def test_the_table_of_the_way_out_is_that_of_the_stored_results() -> None:
    results = json.loads(figure.DATA.read_text(encoding="utf-8"))
    page = figure.PAGE.read_text(encoding="utf-8")
    assert figure.with_table(page, results) == page, "run `python -m docs.figures.way_out`"
    assert [case["name"] for case in results["cases"]] == [case.name for case in CASES]
    assert all(len(case["outcomes"]) == 10 for case in results["cases"])


def test_the_figure_of_the_way_out_draws_every_case() -> None:
    results = json.loads(figure.DATA.read_text(encoding="utf-8"))
    drawn = figure.draw(results)
    assert [axes.get_title().partition("\n")[0] for axes in drawn.axes] == [case["title"] for case in results["cases"]]
