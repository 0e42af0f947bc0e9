"""`submit` and `send`: questions on their way to the service."""

# ruff: noqa: PLR0917  typer passes options by name
from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from saddlescope.client.arguments import parse_content, parse_loss, parse_options, parse_pairs
from saddlescope.client.commands.exits import USAGE, exit_codes
from saddlescope.client.commands.jobs import finish, print_job
from saddlescope.client.commands.options import ApiKey, AsJson, FailOn, Label, Run, Timeout, Url
from saddlescope.client.requests import RequestValues
from saddlescope.client.session import Client
from saddlescope.client.spool import Delivery, Waiting


def submit(
    checkpoint: Annotated[str, typer.Option(help='A file, or numbers by name like \'{"w1": 0, "w2": 0}\'.')],
    loss: Annotated[str, typer.Option(help="A .json or .pt2 file, or an expression.")],
    data: Annotated[str | None, typer.Option(help="A file, or nested lists by name.")] = None,
    run: Run = None,
    step: Annotated[int | None, typer.Option(help="The step of the run.")] = None,
    label: Label = None,
    option: Annotated[list[str] | None, typer.Option(metavar="K=V", help="An option; may be repeated.")] = None,
    force: Annotated[bool, typer.Option(help="Analyse again although the answer is known.")] = False,
    cancel_after: Annotated[str | None, typer.Option(help="A deadline: 90s, 10m or 2h.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the report.")] = False,
    spool: Annotated[
        Path | None, typer.Option(file_okay=False, help="Write to this folder; `send` sends it later.")
    ] = None,
    timeout: Timeout = None,
    fail_on: FailOn = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Submit a checkpoint, a loss and its data."""
    if spool is not None and (wait or fail_on):
        raise typer.BadParameter("what is written to a folder has no answer to wait for", param_hint="--spool")
    if step is not None and run is None:
        raise typer.BadParameter("a step belongs to a run: give --run too", param_hint="--step")
    with exit_codes(as_json), Client(url, api_key, spool=spool) as client:
        content = parse_content(checkpoint, "--checkpoint")
        parsed_loss = parse_loss(loss)
        parsed_data = None if data is None else parse_content(data, "--data")
        options = parse_options(parse_pairs(option, "--option")).model_dump(mode="json", exclude_unset=True)
        fields = RequestValues(
            run=run, step=step, labels=parse_pairs(label, "--label"), force=force, cancel_after=cancel_after
        )
        if spool is not None:
            _print_waiting(client.keep(content, parsed_loss, parsed_data, **fields, **options), as_json)
            return
        job = client.submit(content, parsed_loss, parsed_data, **fields, **options)
        if wait:
            finish(job, timeout, fail_on, as_json)
        else:
            print_job(job, as_json)


def send(
    spool: Annotated[Path, typer.Argument(metavar="SPOOL", exists=True, file_okay=False, help="The folder.")],
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Send what was written to a folder while the service could not be reached; each becomes one job."""
    num_refused = 0
    with exit_codes(as_json), Client(url, api_key, spool=spool) as client:
        for delivery in client.send_spooled():
            num_refused += delivery.job is None
            _print_delivery(delivery, as_json)
    if num_refused:
        raise typer.Exit(USAGE)


def _print_waiting(waiting: Waiting, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"object": "spooled", "folder": str(waiting.folder), "key": waiting.key}))
    else:
        typer.echo(f"{waiting.folder}: waits; `saddlescope send {waiting.folder.parent.parent}` sends it")


def _print_delivery(delivery: Delivery, as_json: bool) -> None:
    if delivery.job is not None:
        print_job(delivery.job, as_json)
    elif as_json and delivery.refusal is not None:
        typer.echo(delivery.refusal.problem.model_dump_json())
    else:
        typer.echo(f"{delivery.waiting.folder.name}: refused, {delivery.refusal}", err=True)
