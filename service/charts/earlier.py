"""Two pictures under the names that pages of the first dashboard call."""

from __future__ import annotations

from collections.abc import Sequence

from saddlescope.contract.reports import Landscape
from service.charts.checkpoints import Checkpoint, Series
from service.charts.contours import contour_chart
from service.charts.histories import history_charts
from service.svg import Picture


def landscape_chart(landscape: Landscape) -> Picture:
    return contour_chart(landscape) or Picture("Nothing is known on this plane", (), height=40)


def history_chart(steps: Sequence[float], values: Sequence[float], *, name: str) -> Picture | None:
    if len(steps) < 2:
        return None
    points = [Checkpoint(job="", step=int(step), loss=value) for step, value in zip(steps, values, strict=True)]
    return history_charts([Series(name, points)])[0]
