"""The pages are read as a reader would: block after block, against a service of one's own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from pages import REPOSITORY, Block, blocks, run_blocks

from examples.embedded import running_service

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
TO_RUN = [page for page in PAGES if any(block.not_run is None for block in blocks(page))]
LEFT_OUT = [block for page in PAGES for block in blocks(page) if block.not_run is not None]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_service(tmp_path_factory.mktemp("docs") / "data") as address:
        yield address


def running(page: str) -> list[Block]:
    return [block for block in blocks(REPOSITORY / page) if block.not_run is None]


@pytest.mark.parametrize("page", TO_RUN, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_block_of_a_page_runs_after_those_before_it(page, url, tmp_path) -> None:
    run_blocks([block for block in blocks(page) if block.not_run is None], url=url, folder=tmp_path)


@pytest.mark.parametrize("block", LEFT_OUT, ids=lambda block: block.place)
def test_a_block_that_cannot_run_here_says_why(block) -> None:
    pytest.skip(block.not_run)


def test_the_curl_example_is_answered_with_a_saddle(url, tmp_path) -> None:
    [command] = [block for block in running("README.md") if block.code.startswith("curl")]
    job = json.loads(run_blocks([command], url=url, folder=tmp_path))
    assert (job["object"], job["status"], job["verdict"]) == ("job", "succeeded", "saddle")


def test_the_training_script_of_the_readme_leaves_its_saddle(url, tmp_path) -> None:
    [script] = [block for block in running("README.md") if "client.submit" in block.code]
    output = run_blocks([script], url=url, folder=tmp_path)
    assert output.startswith("saddle Saddle point")
    # Mean squares of a difference of two standard normals are about 2 at zero weights.
    assert float(output.rpartition("loss after the escape: ")[2]) < 1.5


def test_the_local_example_of_the_readme_needs_no_service(tmp_path) -> None:
    [script] = [block for block in running("README.md") if "analyze(" in block.code]
    *words, loss_after = run_blocks([script], url="http://127.0.0.1:9", folder=tmp_path).split()
    assert words == ["saddle", "(-2.0,", "2.0)"]
    assert abs(float(loss_after)) < 1e-12


def test_the_tutorial_finds_what_its_table_says(url, tmp_path) -> None:
    toy = running("docs/tutorial.md")[0]
    check = """
values = report.spectrum.eigenvalues
inertia = report.inertia
escape = report.escapes[0]
print("then", report.verdict, round(values[0], 9), round(values[1], 9), inertia.negative, inertia.zero, inertia.positive)
print(report.minimum_ratio.estimate, round(escape.step ** 2, 9), round(escape.loss_after, 9))
print(round(float(escape.vector["w1"] * escape.vector["w2"]), 9))
"""
    output = run_blocks([toy, Block("the table", "python", check, None)], url=url, folder=tmp_path).partition("then ")[
        2
    ]
    assert output.split() == ["saddle", "-2.0", "2.0", "1", "0", "1", "0.5", "2.0", "0.0", "0.5"]


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
