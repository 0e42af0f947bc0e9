"""The command `saddlescope`: a thin layer over the client, with exit codes that scripts can act on."""

from __future__ import annotations

import typer

from saddlescope.client.commands import jobs, results, submitting
from saddlescope.client.commands.exits import exit_codes
from saddlescope.client.commands.options import ApiKey, AsJson, Url
from saddlescope.client.doctor import examine
from saddlescope.examination import exit_status, print_findings

HELP = """Is training stuck at a minimum or a saddle, and what is the way out?

Exit codes: 0 fine; 1 the job failed, was cancelled or is not done; 2 the command or the request is wrong; 3 the verdict
is one that --fail-on names; 4 the service cannot be reached or failed."""


app = typer.Typer(name="saddlescope", help=HELP, no_args_is_help=True)

for command in (
    submitting.submit,
    submitting.send,
    jobs.watch,
    jobs.show,
    jobs.ls,
    results.spectrum,
    results.escape,
    results.diff,
    results.export,
    jobs.cancel,
    jobs.retry,
):
    app.command()(command)


@app.command()
def doctor(url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Examine the way from here to a finished job; exit with 1 if anything is wrong."""
    with exit_codes(as_json):
        findings = list(examine(url, api_key))
    print_findings(findings, as_json=as_json)
    raise typer.Exit(exit_status(findings))
