"""The runner's side of a long job's state: the one that an earlier attempt left, and those that this one leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle

from saddlescope.contract.reports import ReportWarning
from saddlescope.contract.vocabulary import Caution
from saddlescope.curvature.saved import SavedRun, SavedRunDamaged
from workers.openings import Openings
from workers.protocol import STATE_FILES, SavedLine, Task
from workers.readers.mapped import Unreadable, map_file
from workers.readers.safetensors import read_metadata, read_safetensors
from workers.runner import Tell
from workers.vectors import safetensors_pieces

MAX_BYTES = 2**40


@dataclass(frozen=True)
class Earlier:
    """What is left of earlier attempts; a state that cannot be read is a warning, and the job starts over."""

    saved: SavedRun | None = None
    warnings: tuple[ReportWarning, ...] = ()


def earlier_run(opened: Openings) -> Earlier:
    """The state that was opened."""
    if opened.saved is None:
        return Earlier()
    try:
        source = map_file(opened.saved, MAX_BYTES)
        return Earlier(SavedRun.parse(read_safetensors(source), read_metadata(source)))
    except (SavedRunDamaged, Unreadable):
        detail = "the state that an earlier attempt had saved is damaged; the analysis started over"
        return Earlier(warnings=(ReportWarning(code=Caution.SAVED_RUN_IGNORED, detail=detail),))


def saver(task: Task, opened: Openings, tell: Tell) -> Callable[[SavedRun], None] | None:
    """Writes states into the files for them in turn; None if none may be written.

    A state that is too large, or for which there is no space, is left out: the analysis goes on.
    """
    if task.max_saved_bytes == 0:
        return None
    files = cycle(STATE_FILES)

    def save(run: SavedRun) -> None:
        file = next(files)
        digest = _write(run, file, opened) if run.num_bytes <= task.max_saved_bytes else None
        tell(SavedLine(saved_matvecs=run.matvecs, num_bytes=run.num_bytes, file=digest and file, digest=digest))

    return save


def _write(run: SavedRun, file: str, opened: Openings) -> str | None:
    try:
        return opened.rewrite(file, safetensors_pieces(run.products, run.metadata))
    except OSError:
        return None
