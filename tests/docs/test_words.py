"""The documentation names what the contract names: nothing is missing and nothing is invented."""

from __future__ import annotations

import re
from pathlib import Path

from saddlescope.contract import losses, vocabulary
from saddlescope.contract.jobs import Options
from saddlescope.contract.layers import Layers
from service import logs as service_logs
from service.settings import Settings
from workers import logs as worker_logs
from workers.settings import WorkerSettings

DOCS = Path(__file__).resolve().parents[2] / "docs"


def words_of(page: str, heading: str) -> set[str]:
    """The code words in the first column of the tables under a heading."""
    section = (DOCS / page).read_text(encoding="utf-8").partition(heading)[2]
    section = re.split(r"\n##+ ", section)[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


def test_concepts_define_every_verdict() -> None:
    assert words_of("concepts.md", "\n## Verdicts") == {verdict.value for verdict in vocabulary.Verdict}


def test_concepts_define_every_strength_and_warning() -> None:
    assert words_of("concepts.md", "\n## How surely") == {strength.value for strength in vocabulary.Strength}
    assert words_of("concepts.md", "\n## Warnings") == {caution.value for caution in vocabulary.Caution}


def test_the_api_page_lists_every_option_and_failure() -> None:
    assert words_of("http-api.md", "\n### Options") == set(Options.model_fields)
    follow = (DOCS / "http-api.md").read_text(encoding="utf-8").partition("`error.code` of a failed job:")[2]
    listed = re.findall(r"`([a-z_]+)`", follow.partition(" Each has")[0])
    assert listed == [code.value for code in vocabulary.FailureCode]


def test_the_api_page_lists_every_layer_and_criterion() -> None:
    text = (DOCS / "http-api.md").read_text(encoding="utf-8")
    listed = text.partition("Layer types:")[2].partition(".\n")[0]
    types = set(re.findall(r"[a-z_0-9]+", listed.replace("\n", " ")))
    assert types == layer_types()
    for criterion in criterion_types():
        assert f"`{criterion}`" in text


def layer_types() -> set[str]:
    from pydantic import TypeAdapter  # noqa: PLC0415

    definitions = TypeAdapter(Layers).json_schema()["$defs"].values()
    return {
        definition["properties"]["type"]["const"] for definition in definitions if "type" in definition["properties"]
    }


def criterion_types() -> set[str]:
    from pydantic import TypeAdapter  # noqa: PLC0415

    return set(TypeAdapter(losses.Criterion).json_schema()["discriminator"]["mapping"])


def test_operations_name_every_setting_and_none_that_does_not_exist() -> None:
    named = words_of("operations.md", "\n## Settings")
    known = {f"SADDLESCOPE_{name.upper()}" for name in (*Settings.model_fields, *WorkerSettings.model_fields)}
    assert named == known


def test_operations_name_every_field_of_a_log_line() -> None:
    assert words_of("operations.md", "\n## Logs") == service_logs.ALLOWED | worker_logs.ALLOWED


def test_operations_name_every_event_that_is_logged() -> None:
    sources = [
        path for package in ("service", "workers", "telemetry") for path in (DOCS.parent / package).rglob("*.py")
    ]
    call = re.compile(r"\blog\.(?:info|warning|error)\(\s*\"(\w+)\"")
    logged = {event for path in sources for event in call.findall(path.read_text(encoding="utf-8"))}
    assert words_of("operations.md", "\n### Events") == logged
