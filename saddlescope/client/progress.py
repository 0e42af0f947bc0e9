"""A progress bar of a job, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from saddlescope.contract.jobs import Job


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


def numbers(job: Job) -> str:
    """What is known already, in a few words."""
    words = []
    if job.progress is not None and job.progress.matvecs:
        words.append(f"{job.progress.matvecs} products")
    if job.partial is not None and job.partial.lambda_min is not None:
        words.append(f"λ min {job.partial.lambda_min:.4g}")
    if job.progress is not None and job.progress.eta_seconds is not None:
        words.append(f"about {job.progress.eta_seconds:.0f} s left")
    return ", ".join(words)
