"""Exit codes that scripts can act on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

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

JOB_UNSUCCESSFUL, USAGE, GATE, UNREACHABLE = 1, 2, 3, 4


@contextmanager
def exit_codes(as_json: bool) -> Iterator[None]:
    """Ends the process with the code of what went wrong inside, and says it on standard error."""
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
