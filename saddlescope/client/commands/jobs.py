"""`watch`, `show`, `ls`, `cancel` and `retry`: jobs and their state."""

# ruff: noqa: PLR0917  typer passes options by name
from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from saddlescope.client import rendering
from saddlescope.client.arguments import parse_pairs
from saddlescope.client.commands.exits import GATE, JOB_UNSUCCESSFUL, exit_codes
from saddlescope.client.commands.options import (
    ApiKey,
    AsJson,
    FailOn,
    JobId,
    Label,
    OfVerdict,
    Run,
    Status,
    Timeout,
    Url,
)
from saddlescope.client.job import Job
from saddlescope.client.session import Client
from saddlescope.contract.vocabulary import JobStatus, Verdict


def watch(
    job: JobId,
    timeout: Timeout = None,
    fail_on: FailOn = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Wait for a job with a progress bar, then show its report."""
    with exit_codes(as_json), Client(url, api_key) as client:
        finish(client.job(job), timeout, fail_on, as_json)


def show(job: JobId, fail_on: FailOn = None, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show a job: its report when it is done."""
    with exit_codes(as_json), Client(url, api_key) as client:
        handle = client.job(job)
        if handle.status is JobStatus.SUCCEEDED:
            show_report(handle, fail_on, as_json)
            return
        print_job(handle, as_json)
        if fail_on or handle.done:
            raise typer.Exit(JOB_UNSUCCESSFUL)


def ls(
    status: Status = None,
    verdict: OfVerdict = None,
    run: Run = None,
    label: Label = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """List jobs from the newest."""
    with exit_codes(as_json), Client(url, api_key) as client:
        found = client.jobs(status=status, verdict=verdict, run=run, labels=parse_pairs(label, "--label"), limit=limit)
        jobs = [job.info for job in found]
        if as_json:
            typer.echo(json.dumps([json.loads(job.model_dump_json()) for job in jobs], ensure_ascii=False))
        else:
            Console().print(rendering.job_table(jobs))


def cancel(job: JobId, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Cancel a job."""
    with exit_codes(as_json), Client(url, api_key) as client:
        print_job(client.job(job).cancel(), as_json)


def retry(job: JobId, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Submit the same request as a new job."""
    with exit_codes(as_json), Client(url, api_key) as client:
        print_job(client.job(job).retry(), as_json)


def finish(job: Job, timeout: float | None, fail_on: Sequence[Verdict] | None, as_json: bool) -> None:
    """Wait with a progress bar, then show the report."""
    if not as_json:
        typer.echo(job.id, err=True)
    job.wait(timeout, progress=False if as_json else None)
    show_report(job, fail_on, as_json)


def show_report(job: Job, fail_on: Sequence[Verdict] | None, as_json: bool) -> None:
    """Raises: typer.Exit with the gate's code on a verdict that it names."""
    report = job.report()
    if as_json:
        typer.echo(report.to_json())
    else:
        Console().print(rendering.report_panel(report.report))
    if report.verdict in (fail_on or ()):
        raise typer.Exit(GATE)


def print_job(job: Job, as_json: bool) -> None:
    """The state of a job in one line."""
    if as_json:
        typer.echo(job.info.model_dump_json())
    else:
        Console(soft_wrap=True).print(rendering.job_line(job.info))
