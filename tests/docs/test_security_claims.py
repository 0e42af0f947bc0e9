"""Every claim of the security page names the tests that hold it, and they are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def claims() -> dict[str, list[str]]:
    rows = [line.split("|") for line in section("Claim by claim").splitlines() if line.startswith("| ")]
    return {row[1].strip(): re.findall(r"`([^`]+)`", row[2]) for row in rows[1:]}


def num_tests(path: Path) -> int:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return sum(isinstance(each, ast.FunctionDef) and each.name.startswith("test_") for each in tree.body)


def test_every_claim_has_its_row_and_every_row_its_claim() -> None:
    made = {claim.rstrip(".") for claim in re.findall(r"^- \*\*([^*]+)\*\*", section("What is there"), re.MULTILINE)}
    assert len(made) > 12
    assert claims().keys() == made | {"The sandbox"}


@pytest.mark.parametrize(("claim", "files"), claims().items())
def test_the_tests_of_a_claim_are_there(claim: str, files: list[str]) -> None:
    assert files, claim
    assert [file for file in files if num_tests(REPOSITORY / file) == 0] == []
