"""The runner's side of a long job's state: the one that an earlier attempt left, and those that this one leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from saddlescope.contract.reports import ReportWarning
from saddlescope.contract.vocabulary import Caution
from saddlescope.curvature.saved import SavedRun, SavedRunDamaged
from workers.protocol import OUTPUT_FOLDER, STATE_FILE, SavedLine, Task
from workers.runner import Tell


@dataclass(frozen=True)
class Earlier:
    """What is left of earlier attempts; a state that cannot be read is a warning, and the job starts over."""

    saved: SavedRun | None = None
    warnings: tuple[ReportWarning, ...] = ()


def earlier_run(task: Task) -> Earlier:
    """The state that the task names."""
    if task.saved is None:
        return Earlier()
    try:
        return Earlier(SavedRun.read(Path(task.saved)))
    except (SavedRunDamaged, FileNotFoundError):
        detail = "the state that an earlier attempt had saved is damaged or gone; the analysis started over"
        return Earlier(warnings=(ReportWarning(code=Caution.SAVED_RUN_IGNORED, detail=detail),))


def saver(task: Task, tell: Tell) -> Callable[[SavedRun], None] | None:
    """Writes states into the output folder, each whole and in the place of the one before; None if none may be written.

    A state that is too large, or for which there is no space, is left out: the analysis goes on.
    """
    if task.max_saved_bytes == 0:
        return None
    path = Path(task.folder) / OUTPUT_FOLDER / STATE_FILE
    part = path.with_suffix(".part")

    def save(run: SavedRun) -> None:
        is_written = run.num_bytes <= task.max_saved_bytes and _write(run, part)
        if is_written:
            part.replace(path)
        tell(SavedLine(saved_matvecs=run.matvecs, num_bytes=run.num_bytes, is_written=is_written))

    return save


def _write(run: SavedRun, part: Path) -> bool:
    try:
        run.write(part)
    except (SafetensorError, OSError):
        part.unlink(missing_ok=True)
        return False
    return True
