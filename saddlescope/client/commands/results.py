"""`spectrum`, `escape`, `diff` and `export`: what finished jobs left."""

# ruff: noqa: PLR0917  typer passes options by name
from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from saddlescope.client import rendering
from saddlescope.client.arguments import parse_pairs
from saddlescope.client.checkpoints import apply_to_file
from saddlescope.client.commands.exits import exit_codes
from saddlescope.client.commands.options import (
    ApiKey,
    AsJson,
    JobId,
    Label,
    OfVerdict,
    Run,
    Status,
    Url,
    complete_job,
)
from saddlescope.client.comparison import compare
from saddlescope.client.session import Client
from saddlescope.contract.numerals import number


def spectrum(
    job: JobId,
    rows: Annotated[int, typer.Option(min=2, help="How many values to print.")] = 20,
    output: Annotated[Path | None, typer.Option(help="Write to a .json, .csv, .npz or .svg file instead.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show or save the eigenvalues or Ritz values."""
    with exit_codes(as_json), Client(url, api_key) as client:
        if output is not None:
            if output.suffix not in (".json", ".csv", ".npz", ".svg"):
                raise typer.BadParameter("the file's name ends with .json, .csv, .npz or .svg", param_hint="--output")
            client.save(job, f"spectrum{output.suffix}", output)
            _print_file(output, as_json)
            return
        found = client.job(job).spectrum()
        if as_json:
            typer.echo(found.model_dump_json())
        else:
            Console().print(rendering.spectrum_table(found, rows=rows))


def escape(
    job: JobId,
    index: Annotated[int, typer.Argument(min=0, help="Which escape.")] = 0,
    output: Annotated[Path | None, typer.Option(help="The file to write.")] = None,
    apply: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Write this checkpoint moved by step·u.")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Save an escape direction u, or a checkpoint moved along it."""
    with exit_codes(as_json), Client(url, api_key) as client:
        report = client.job(job).report()
        if index >= len(report.escapes):
            raise typer.BadParameter(
                f"the report has {len(report.escapes)} escapes, counted from 0", param_hint="INDEX"
            )
        way = report.escapes[index]
        if apply is not None:
            target = output or apply.with_name(f"{apply.stem}-escaped{apply.suffix}")
            apply_to_file(way, apply, target)
        else:
            target = output or Path(f"{job}-escape-{index}.safetensors")
            target.write_bytes(client.escape_vector(job, index))
        if as_json:
            answer = json.loads(way.escape.model_dump_json()) | {"file": str(target)}
            typer.echo(json.dumps(answer))
        else:
            what = "moved checkpoint" if apply is not None else "direction"
            typer.echo(
                f"{target}: {what}; loss {number(way.loss_before, 6)} -> {number(way.loss_after, 6)} at step {number(way.step, 6)}"
            )


def diff(before: JobId, after: JobId, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Compare the reports of two jobs."""
    with exit_codes(as_json), Client(url, api_key) as client:
        found = compare(client.job(before).report().report, client.job(after).report().report)
        if as_json:
            typer.echo(found.model_dump_json())
        else:
            Console().print(rendering.comparison_table(found))


def export(
    output: Annotated[Path, typer.Option(help="Of a job a .zip file; of a list a .csv or .ndjson file.")],
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", autocompletion=complete_job)] = None,
    status: Status = None,
    verdict: OfVerdict = None,
    run: Run = None,
    label: Label = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Save one archive to recheck a job elsewhere, or without a job, the list of jobs."""
    expected = (".zip",) if job is not None else (".csv", ".ndjson")
    if output.suffix not in expected:
        raise typer.BadParameter(f"the file's name ends with {' or '.join(expected)}", param_hint="--output")
    labels = parse_pairs(label, "--label")
    if job is not None and (status or verdict or run or labels):
        raise typer.BadParameter("a job is not filtered; leave JOB out to export a list", param_hint="JOB")
    with exit_codes(as_json), Client(url, api_key) as client:
        if job is not None:
            client.save(job, "bundle", output)
        else:
            client.export_jobs(output, status=status, verdict=verdict, run=run, labels=labels)
        _print_file(output, as_json)


def _print_file(path: Path, as_json: bool) -> None:
    size = path.stat().st_size
    typer.echo(
        json.dumps({"object": "file", "file": str(path), "bytes": size}) if as_json else f"{path}: {size:,} bytes"
    )
