"""The examples of the README and the guide are run as a reader would run them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.embedded import running_service

REPOSITORY = Path(__file__).resolve().parents[2]
WRITTEN_URL = "http://127.0.0.1:8000"


def blocks(page: str, language: str) -> list[str]:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_service(tmp_path_factory.mktemp("docs") / "data") as address:
        yield address


def run_python(code: str, url: str) -> str:
    environment = os.environ | {"PYTHONWARNINGS": "error", "PYTHONPATH": str(REPOSITORY)}
    code = code.replace(WRITTEN_URL, url)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_curl_example_is_answered_with_a_saddle(url) -> None:
    [command] = [block for block in blocks("README.md", "sh") if block.startswith("curl")]
    done = subprocess.run(command.replace(WRITTEN_URL, url), shell=True, capture_output=True, text=True, check=True)
    job = json.loads(done.stdout)
    assert (job["object"], job["status"], job["verdict"]) == ("job", "succeeded", "saddle")


def test_the_training_script_of_the_readme_leaves_its_saddle(url) -> None:
    output = run_python(next(block for block in blocks("README.md", "python") if "client.submit" in block), url)
    assert output.startswith("saddle Saddle point")
    # Mean squares of a difference of two standard normals are about 2 at zero weights.
    assert float(output.rpartition("loss after the escape: ")[2]) < 1.5


def test_the_local_example_of_the_readme_needs_no_service() -> None:
    output = run_python(next(block for block in blocks("README.md", "python") if "analyze(" in block), "unused")
    *words, loss_after = output.split()
    assert words == ["saddle", "(-2.0,", "2.0)"]
    assert abs(float(loss_after)) < 1e-12


def test_the_tutorial_of_the_guide_finds_what_its_table_says(url) -> None:
    toy, network, *_ = blocks("docs/guide.md", "python")
    check = """
values = report.spectrum.eigenvalues
inertia = report.inertia
escape = report.escapes[0]
print(report.verdict, round(values[0], 9), round(values[1], 9), inertia.negative, inertia.zero, inertia.positive)
print(report.minimum_ratio.estimate, round(escape.step ** 2, 9), round(escape.loss_after, 9))
print(round(float(escape.vector["w1"] * escape.vector["w2"]), 9))
"""
    output = run_python(toy + check, url)
    assert output.split() == ["saddle", "-2.0", "2.0", "1", "0", "1", "0.5", "2.0", "0.0", "0.5"]
    moved = "\nprint(report.verdict, report.loss > report.escapes[0].loss_after, bool(model[0].weight.count_nonzero()))"
    assert run_python(toy + network + moved, url).split() == ["saddle", "True", "True"]
