"""The lists of files in docs/contributing.md lead to files."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PATH = re.compile(r"`((?:saddlescope|store|service|workers|telemetry|tests|docs|benchmarks|migrations)/[\w./-]*)`")


def sections() -> dict[str, str]:
    text = (REPOSITORY / "docs" / "contributing.md").read_text(encoding="utf-8")
    return {part.partition("\n")[0]: part for part in text.split("\n## ")[1:]}


def test_every_path_that_is_named_exists() -> None:
    named = {path for section in sections().values() for path in PATH.findall(section)}
    assert [path for path in sorted(named) if not (REPOSITORY / path).exists()] == []


def test_a_layer_an_operator_an_algorithm_and_an_endpoint_each_have_their_list_of_files() -> None:
    lists = {heading: section for heading, section in sections().items() if heading.startswith("Add ")}
    assert [heading.split()[2] for heading in lists] == ["layer", "operator", "algorithm", "endpoint"]
    for heading, section in lists.items():
        steps = re.findall(r"^\d\. (.*)$", section, flags=re.MULTILINE)
        assert len(steps) >= 5, heading
        assert all(PATH.search(step) for step in steps), heading


def test_the_files_named_for_a_layer_and_an_operator_are_those_that_know_one() -> None:
    for heading, word in (("Add a layer", "tanh"), ("Add an operator", "softplus")):
        section = next(text for name, text in sections().items() if name.startswith(heading))
        known = [
            path for path in PATH.findall(section) if word in (REPOSITORY / path).read_text(encoding="utf-8").lower()
        ]
        assert len(known) >= 3, known
