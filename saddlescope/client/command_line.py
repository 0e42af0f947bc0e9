"""The command `saddlescope`: a thin layer over the client, with exit codes that scripts can act on."""

# ruff: noqa: PLR0917  typer passes options by name
from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from rich.console import Console

from saddlescope.client import rendering
from saddlescope.client.arguments import parse_content, parse_loss, parse_options, parse_pairs
from saddlescope.client.checkpoints import apply_to_file
from saddlescope.client.doctor import examine
from saddlescope.client.errors import (
    ApiError,
    ConnectionFailed,
    JobCancelled,
    JobFailed,
    RateLimited,
    ServerError,
    UnreadableAnswer,
    WaitTimeout,
)
from saddlescope.client.job import Job
from saddlescope.client.session import Client
from saddlescope.contract.vocabulary import JobStatus, Verdict
from saddlescope.examination import exit_status, print_findings

JOB_UNSUCCESSFUL, USAGE, GATE, UNREACHABLE = 1, 2, 3, 4

HELP = """Is training stuck at a minimum or a saddle, and what is the way out?

Exit codes: 0 fine; 1 the job failed, was cancelled or is not done; 2 the command or the request is wrong; 3 the verdict
is one that --fail-on names; 4 the service cannot be reached or failed."""

app = typer.Typer(name="saddlescope", help=HELP, no_args_is_help=True, add_completion=False)

Url: TypeAlias = Annotated[
    str | None, typer.Option("--url", envvar="SADDLESCOPE_URL", help="Address of the service.", show_default=False)
]
ApiKey: TypeAlias = Annotated[
    str | None, typer.Option("--api-key", envvar="SADDLESCOPE_API_KEY", help="Key of the project.", show_default=False)
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the JSON of the HTTP contract.")]
JobId: TypeAlias = Annotated[str, typer.Argument(metavar="JOB")]
FailOn: TypeAlias = Annotated[
    list[Verdict] | None, typer.Option("--fail-on", help="Exit with 3 on this verdict; may be repeated.")
]
Timeout: TypeAlias = Annotated[float | None, typer.Option(help="Seconds to wait; without it, as long as it takes.")]


@app.command()
def submit(
    checkpoint: Annotated[str, typer.Option(help='A file, or numbers by name like \'{"w1": 0, "w2": 0}\'.')],
    loss: Annotated[str, typer.Option(help="A .json or .pt2 file, or an expression.")],
    data: Annotated[str | None, typer.Option(help="A file, or nested lists by name.")] = None,
    run: Annotated[str | None, typer.Option(help="The training run.")] = None,
    step: Annotated[int | None, typer.Option(help="The step of the run.")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="K=V", help="May be repeated.")] = None,
    option: Annotated[list[str] | None, typer.Option(metavar="K=V", help="An option; may be repeated.")] = None,
    force: Annotated[bool, typer.Option(help="Analyse again although the answer is known.")] = False,
    cancel_after: Annotated[str | None, typer.Option(help="A deadline: 90s, 10m or 2h.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the report.")] = False,
    timeout: Timeout = None,
    fail_on: FailOn = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Submit a checkpoint, a loss and its data."""
    with _exit_codes(as_json), Client(url, api_key) as client:
        job = client.submit(
            parse_content(checkpoint, "--checkpoint"),
            parse_loss(loss),
            None if data is None else parse_content(data, "--data"),
            run=run,
            step=step,
            labels=parse_pairs(label, "--label"),
            force=force,
            cancel_after=cancel_after,
            **parse_options(parse_pairs(option, "--option")).model_dump(mode="json", exclude_unset=True),
        )
        if wait:
            _finish(job, timeout, fail_on, as_json)
        else:
            _print_job(job, as_json)


@app.command()
def watch(
    job: JobId,
    timeout: Timeout = None,
    fail_on: FailOn = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Wait for a job with a progress bar, then show its report."""
    with _exit_codes(as_json), Client(url, api_key) as client:
        _finish(client.job(job), timeout, fail_on, as_json)


@app.command()
def show(job: JobId, fail_on: FailOn = None, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show a job: its report when it is done."""
    with _exit_codes(as_json), Client(url, api_key) as client:
        handle = client.job(job)
        if handle.status is JobStatus.SUCCEEDED:
            _show_report(handle, fail_on, as_json)
            return
        _print_job(handle, as_json)
        if fail_on or handle.done:
            raise typer.Exit(JOB_UNSUCCESSFUL)


@app.command()
def ls(
    status: Annotated[JobStatus | None, typer.Option()] = None,
    verdict: Annotated[Verdict | None, typer.Option()] = None,
    run: Annotated[str | None, typer.Option()] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="K=V")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """List jobs from the newest."""
    with _exit_codes(as_json), Client(url, api_key) as client:
        found = client.jobs(status=status, verdict=verdict, run=run, labels=parse_pairs(label, "--label"), limit=limit)
        jobs = [job.info for job in found]
        if as_json:
            typer.echo(json.dumps([json.loads(job.model_dump_json()) for job in jobs], ensure_ascii=False))
        else:
            Console().print(rendering.job_table(jobs))


@app.command()
def spectrum(
    job: JobId,
    rows: Annotated[int, typer.Option(min=2, help="How many values to print.")] = 20,
    output: Annotated[Path | None, typer.Option(help="Write to a .json, .csv, .npz or .svg file instead.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show or save the eigenvalues or Ritz values."""
    with _exit_codes(as_json), Client(url, api_key) as client:
        if output is not None:
            if output.suffix not in (".json", ".csv", ".npz", ".svg"):
                raise typer.BadParameter("the file's name ends with .json, .csv, .npz or .svg", param_hint="--output")
            client.save(job, f"spectrum{output.suffix}", output)
            return
        found = client.job(job).spectrum()
        if as_json:
            typer.echo(found.model_dump_json())
        else:
            Console().print(rendering.spectrum_table(found, rows=rows))


@app.command()
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
    with _exit_codes(as_json), Client(url, api_key) as client:
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
            typer.echo(f"{target}: {what}; loss {way.loss_before:.6g} -> {way.loss_after:.6g} at step {way.step:.6g}")


@app.command()
def cancel(job: JobId, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Cancel a job."""
    with _exit_codes(as_json), Client(url, api_key) as client:
        _print_job(client.job(job).cancel(), as_json)


@app.command()
def retry(job: JobId, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Submit the same request as a new job."""
    with _exit_codes(as_json), Client(url, api_key) as client:
        _print_job(client.job(job).retry(), as_json)


@app.command()
def doctor(url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Examine the way from here to a finished job; exit with 1 if anything is wrong."""
    with _exit_codes(as_json):
        findings = list(examine(url, api_key))
    print_findings(findings, as_json=as_json)
    raise typer.Exit(exit_status(findings))


def _finish(job: Job, timeout: float | None, fail_on: Sequence[Verdict] | None, as_json: bool) -> None:
    if not as_json:
        typer.echo(job.id, err=True)
    job.wait(timeout, progress=False if as_json else None)
    _show_report(job, fail_on, as_json)


def _show_report(job: Job, fail_on: Sequence[Verdict] | None, as_json: bool) -> None:
    report = job.report()
    if as_json:
        typer.echo(report.to_json())
    else:
        Console().print(rendering.report_panel(report.report))
    if report.verdict in (fail_on or ()):
        raise typer.Exit(GATE)


def _print_job(job: Job, as_json: bool) -> None:
    if as_json:
        typer.echo(job.info.model_dump_json())
    else:
        Console(soft_wrap=True).print(rendering.job_line(job.info))


@contextmanager
def _exit_codes(as_json: bool) -> Iterator[None]:
    try:
        yield
    except (ConnectionFailed, RateLimited, ServerError, UnreadableAnswer) as failure:
        _fail(failure, UNREACHABLE, as_json)
    except (JobFailed, JobCancelled, WaitTimeout) as failure:
        _fail(failure, JOB_UNSUCCESSFUL, as_json)
    except (ApiError, OSError, ValueError) as failure:
        _fail(failure, USAGE, as_json)


def _fail(failure: Exception, code: int, as_json: bool) -> None:
    if as_json and isinstance(failure, ApiError):
        typer.echo(failure.problem.model_dump_json(), err=True)
    else:
        typer.echo(f"saddlescope: {failure}", err=True)
    sys.exit(code)
