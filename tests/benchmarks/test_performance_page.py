"""docs/performance.md tells what is stored, for every benchmark there is, and no number beside its targets that is not."""

from __future__ import annotations

import json

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.page import PAGE, TABLES, broken, rendered
from benchmarks.peers import environment
from benchmarks.promises import Promise, store

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_tables_of_the_page_are_those_of_the_stored_results() -> None:
    assert rendered(TEXT) == TEXT, "run `python -m benchmarks.page`"


def test_every_benchmark_has_its_table_with_date_machine_and_versions() -> None:
    assert TABLES.keys() == BENCHMARKS.keys()
    for name in TABLES:
        _, _, told = TEXT.partition(f"<!-- {name} -->\n")
        said = told.partition(f"\n<!-- end of {name} -->")[0].splitlines()[-1]
        assert said.startswith("20"), name
        assert " cores" in said, name
        assert "; Python 3." in said, name


def test_there_is_no_table_of_numbers_that_no_benchmark_makes() -> None:
    prose = TEXT
    for name in TABLES:
        before, _, rest = prose.partition(f"<!-- {name} -->\n")
        prose = before + rest.partition(f"<!-- end of {name} -->\n")[2]
    assert [line for line in prose.splitlines() if line.startswith("|")] == []
    assert "the same machine" not in prose


def test_a_table_stays_as_it_is_while_nothing_is_stored_for_it(tmp_path) -> None:
    assert rendered(TEXT, tmp_path) == TEXT


def test_the_page_tells_of_every_broken_promise_by_the_last_run_of_its_benchmark(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "RESULTS", tmp_path)
    store("first", [Promise("seconds", 3.0, 2.0), Promise("ratio", None, 0.5)])
    store("second", [Promise("bytes", 1.0, 2.0)])
    lines = list(broken(json.loads((tmp_path / "promises.json").read_text())))
    assert lines[0] == "1 of 3 promises were kept by the last runs, but:"
    assert [line.split(" | ")[:3] for line in lines[-2:]] == [
        ["| seconds", "3.00", "2.00"],
        ["| ratio", "none", "0.50"],
    ]
    store("first", [Promise("seconds", 2.0, 2.0)])
    assert list(broken(json.loads((tmp_path / "promises.json").read_text()))) == [
        "2 of 2 promises were kept by the last runs."
    ]
    assert "2 of 2 promises were kept" in rendered(TEXT, tmp_path)
