"""Progress bars of a job and of an upload, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from saddlescope.client.transport import Body
from saddlescope.contract.jobs import Job
from saddlescope.contract.numerals import number


def is_terminal() -> bool:
    """Whether somebody may be watching standard error, where the bar is drawn."""
    return sys.stderr.isatty()


@contextmanager
def shown(enabled: bool) -> Iterator[Callable[[Job], None]]:
    """Yield what is to be called with each new state of the job; it does nothing unless `enabled`."""
    if not enabled:
        yield lambda job: None
        return
    from rich.console import Console  # noqa: PLC0415  a batch job draws nothing
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[numbers]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("queued", total=1.0, numbers="")

        def show(job: Job) -> None:
            stage = job.progress.stage.value if job.progress is not None else job.status.value
            fraction = job.progress.fraction if job.progress is not None else 0.0
            bar.update(task, description=stage, completed=1.0 if job.done else fraction, numbers=numbers(job))

        yield show


@contextmanager
def sending(enabled: bool, body: Body) -> Iterator[Body]:
    """Yield a body that shows how much of it has been read; an upload that resumes goes back to where it resumes."""
    if not enabled:
        yield body
        return
    from rich.console import Console  # noqa: PLC0415  a batch job draws nothing
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn  # noqa: PLC0415

    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress("sending", *columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sending", total=body.size)

        def chunks(offset: int = 0) -> Iterator[bytes]:
            bar.update(task, completed=offset)
            for chunk in body.chunks(offset):
                yield chunk
                bar.advance(task, len(chunk))

        yield replace(body, chunks=chunks)


def numbers(job: Job) -> str:
    """What is known already, in a few words."""
    words = []
    if job.progress is not None and job.progress.matvecs:
        words.append(f"{job.progress.matvecs} products")
    if job.partial is not None and job.partial.lambda_min is not None:
        words.append(f"λ min {number(job.partial.lambda_min)}")
    if job.progress is not None and job.progress.eta_seconds is not None:
        words.append(f"about {job.progress.eta_seconds:.0f} s left")
    return ", ".join(words)
