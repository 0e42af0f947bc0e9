"""The numbers of one or two runs over their training steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from service.charts.checkpoints import Checkpoint, Series, gathered, named
from service.charts.frames import Box, Frame, frame
from service.charts.marks import Key, legend, stroke_class, verdict_keys
from service.charts.scales import Scale, finite, for_positive, for_signed, linear
from service.svg import WIDTH, Picture, Point, clipped, path

_HEIGHT = 300.0
_MAX_MARKS = 160
Entry = tuple[Checkpoint, int, float | None]


@dataclass(frozen=True)
class Quantity:
    """A number of a checkpoint and the scale that it is read on."""

    name: str
    of: Callable[[Checkpoint], float | None]
    scale: Callable[[Sequence[float]], Scale]


def _minimum_ratio(checkpoint: Checkpoint) -> float | None:
    return None if checkpoint.minimum_ratio is None else checkpoint.minimum_ratio.estimate


def _shares(values: Sequence[float]) -> Scale:
    return linear([0.0, 1.0, *values], margin=0.04)


QUANTITIES = (
    Quantity("loss", lambda checkpoint: checkpoint.loss, for_positive),
    Quantity("gradient norm", lambda checkpoint: checkpoint.gradient_norm, for_positive),
    Quantity("λ min", lambda checkpoint: checkpoint.lambda_min, for_signed),
    Quantity("λ max", lambda checkpoint: checkpoint.lambda_max, for_signed),
    Quantity("index n₋/n", lambda checkpoint: checkpoint.index, _shares),
    Quantity("minimum ratio n₊/n", _minimum_ratio, _shares),
)


def history_charts(runs: Sequence[Series]) -> tuple[Picture, ...]:
    """One picture of each number that a checkpoint of the runs has at a step; runs are told apart by their lines."""
    pictures = (_picture(quantity, runs) for quantity in QUANTITIES)
    return tuple(picture for picture in pictures if picture is not None)


def _picture(quantity: Quantity, runs: Sequence[Series]) -> Picture | None:
    entries = [_entries(run, quantity) for run in runs]
    known = [entry for run in entries for entry in run if entry[2] is not None]
    if not known:
        return None
    keys = [Key(clipped(run.name, 240), line=stroke_class(place)) for place, run in enumerate(runs) if len(runs) > 1]
    keys += verdict_keys(checkpoint.kind for checkpoint, _, _ in known)
    said, top = legend(keys, left=12, top=0, right=WIDTH - 8)
    scale = quantity.scale(finite(value for _, _, value in known))
    steps = linear([step for run in entries for _, step, _ in run], is_whole=True)
    height = _HEIGHT + top
    drawn = frame(steps, scale, names=("training step", quantity.name), box=Box(top=top + 8, bottom=height))
    lines: list[str] = []
    marks: list[tuple[str, str]] = []
    left_out = 0
    for place, run in enumerate(entries):
        for points in _unbroken(run, drawn):
            lines.append(path(points, class_=stroke_class(place)))
        shown = _thinned([entry for entry in run if entry[2] is not None])
        left_out += sum(entry[2] is not None for entry in run) - len(shown)
        for checkpoint, step, value in shown:
            if value is not None:
                what = named(quantity.name, value)
                marks.append((checkpoint.look, checkpoint.mark(drawn.at(step, value), what)))
    unknown = sum(value is None for run in entries for _, _, value in run)
    return Picture(
        f"{quantity.name[0].upper() if quantity.name[0] != 'λ' else 'λ'}{quantity.name[1:]} by training step",
        (*drawn.elements, said, *lines, *gathered(marks)),
        height=height,
        description=_in_words(quantity, runs, entries),
        caption=_caption(left_out, unknown),
        is_linked=True,
    )


def _entries(run: Series, quantity: Quantity) -> list[Entry]:
    placed = [(checkpoint, checkpoint.step) for checkpoint in run.checkpoints if checkpoint.step is not None]
    entries = []
    for checkpoint, step in sorted(placed, key=lambda pair: (pair[1], pair[0].job)):
        value = quantity.of(checkpoint)
        entries.append((checkpoint, step, value if finite([value]) else None))
    return entries


def _unbroken(run: Sequence[Entry], drawn: Frame) -> Iterator[list[Point]]:
    """The stretches between numbers that are not known."""
    stretch: list[Point] = []
    for _, step, value in run:
        if value is not None:
            stretch.append(drawn.at(step, value))
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def _thinned(entries: Sequence[Entry]) -> Sequence[Entry]:
    """At most so many marks that each can be told from its neighbours; the line goes through all."""
    if len(entries) <= _MAX_MARKS:
        return entries
    return [entries[index * (len(entries) - 1) // (_MAX_MARKS - 1)] for index in range(_MAX_MARKS)]


def _in_words(quantity: Quantity, runs: Sequence[Series], entries: Sequence[Sequence[Entry]]) -> str:
    said = []
    for run, found in zip(runs, entries, strict=True):
        known = [(step, value) for _, step, value in found if value is not None]
        if known:
            first, last = known[0], known[-1]
            said.append(f"{run.name}: {named(quantity.name, first[1])} at step {first[0]:,}, "
                        f"{named(quantity.name, last[1])} at step {last[0]:,}, {len(known)} points.")  # fmt: skip
    return " ".join(said)


def _caption(left_out: int, unknown: int) -> str:
    said = []
    if left_out:
        said.append(f"{left_out:,} marks are left out for room; the line goes through every point.")
    if unknown:
        said.append(
            f"{unknown:,} {'checkpoint has' if unknown == 1 else 'checkpoints have'} no such number: a gap in the line."
        )
    return " ".join(said)
