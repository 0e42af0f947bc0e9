"""The pages are read as a reader would: block after block, against a service of one's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import REPOSITORY, Block, blocks, run_blocks

from examples.embedded import running_service

README, TUTORIAL = REPOSITORY / "README.md", REPOSITORY / "docs" / "tutorial.md"
PAGES = [README, *sorted((REPOSITORY / "docs").rglob("*.md"))]
LEFT_OUT = [block for page in PAGES for block in blocks(page) if block.not_run is not None]


def running(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.not_run is None]


TO_RUN = [page for page in PAGES if running(page) and page not in (README, TUTORIAL)]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_service(tmp_path_factory.mktemp("docs") / "data", worker_threads=1) as address:
        yield address


@pytest.fixture(scope="module")
def readme(url: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the blocks of the README print, run as a reader would."""
    return run_blocks(running(README), url=url, folder=tmp_path_factory.mktemp("readme"))


@pytest.mark.parametrize("page", TO_RUN, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_block_of_a_page_runs_after_those_before_it(page, url, tmp_path) -> None:
    run_blocks(running(page), url=url, folder=tmp_path)


@pytest.mark.parametrize("block", LEFT_OUT, ids=lambda block: block.place)
def test_a_block_that_cannot_run_here_says_why(block) -> None:
    pytest.skip(block.not_run)


def test_the_curl_example_is_answered_with_a_saddle(readme) -> None:
    job = json.loads(readme[0])
    assert (job["object"], job["status"], job["verdict"]) == ("job", "succeeded", "saddle")


def test_the_training_script_of_the_readme_leaves_its_saddle(readme) -> None:
    assert readme[1].startswith("saddle Saddle point")
    # Mean squares of a difference of two standard normals are about 2 at zero weights.
    assert float(readme[1].rpartition("loss after the escape: ")[2]) < 1.5


def test_the_local_example_of_the_readme_says_the_same(readme) -> None:
    *words, loss_after = readme[2].split()
    assert words == ["saddle", "(-2.0,", "2.0)"]
    assert abs(float(loss_after)) < 1e-12


def test_the_tutorial_finds_what_its_table_says(url, tmp_path) -> None:
    toy, *others = running(TUTORIAL)
    check = """
values = report.spectrum.eigenvalues
inertia = report.inertia
escape = report.escapes[0]
print(report.verdict, round(values[0], 9), round(values[1], 9), inertia.negative, inertia.zero, inertia.positive)
print(report.minimum_ratio.estimate, round(escape.step ** 2, 9), round(escape.loss_after, 9))
print(round(float(escape.vector["w1"] * escape.vector["w2"]), 9))
"""
    said = run_blocks([toy, Block("the table", "python", check, None), *others], url=url, folder=tmp_path)
    assert said[1].split() == ["saddle", "-2.0", "2.0", "1", "0", "1", "0.5", "2.0", "0.0", "0.5"]


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([("python", "zero = 0\n"), ("python", "1 / zero\n")], r"-- block 1\n(.|\n)*ZeroDivisionError"),
        ([("sh", "false\ntrue\n")], r"-- block 0\n(.|\n)*CalledProcessError"),
    ],
)
def test_a_page_whose_block_fails_is_told(steps, said, tmp_path) -> None:
    failing = [Block(f"block {number}", *step, None) for number, step in enumerate(steps)]
    with pytest.raises(AssertionError, match=said):
        run_blocks(failing, url="unused", folder=tmp_path)
