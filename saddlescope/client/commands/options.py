"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, TypeAlias

import typer

from saddlescope.client.errors import SaddlescopeError
from saddlescope.client.session import Client
from saddlescope.contract.vocabulary import JobStatus, Verdict

COMPLETION_SECONDS = 1.0
NUM_COMPLETED = 50


def complete_job(incomplete: str) -> Iterator[tuple[str, str]]:
    """The newest jobs, for the shell's Tab key; none where the service does not answer at once."""
    try:
        with Client(timeout=COMPLETION_SECONDS, retries=0) as client:
            for job in client.jobs(limit=NUM_COMPLETED):
                if job.id.startswith(incomplete):
                    run = "" if job.info.run is None else f" {job.info.run.id} {job.info.run.step or ''}"
                    yield job.id, f"{job.verdict or job.status}{run}"
    except (SaddlescopeError, ValueError):
        return


Url: TypeAlias = Annotated[
    str | None, typer.Option("--url", envvar="SADDLESCOPE_URL", help="Address of the service.", show_default=False)
]
ApiKey: TypeAlias = Annotated[
    str | None, typer.Option("--api-key", envvar="SADDLESCOPE_API_KEY", help="Key of the project.", show_default=False)
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the JSON of the HTTP contract.")]
JobId: TypeAlias = Annotated[str, typer.Argument(metavar="JOB", autocompletion=complete_job)]
FailOn: TypeAlias = Annotated[
    list[Verdict] | None, typer.Option("--fail-on", help="Exit with 3 on this verdict; may be repeated.")
]
Timeout: TypeAlias = Annotated[float | None, typer.Option(help="Seconds to wait; without it, as long as it takes.")]
Status: TypeAlias = Annotated[JobStatus | None, typer.Option(help="Only jobs in this state.")]
OfVerdict: TypeAlias = Annotated[Verdict | None, typer.Option("--verdict", help="Only jobs with this verdict.")]
Run: TypeAlias = Annotated[str | None, typer.Option(help="The training run.")]
Label: TypeAlias = Annotated[list[str] | None, typer.Option(metavar="K=V", help="May be repeated.")]
