"""The loss along a way out, measured, beside what the quadratic model promises."""

from __future__ import annotations

from collections.abc import Sequence

from saddlescope.contract.numerals import number
from saddlescope.contract.reports import Escape
from service.charts.frames import Box, frame
from service.charts.marks import Key, legend
from service.charts.scales import linear
from service.svg import WIDTH, Picture, element, path

_HEIGHT = 344.0
# The search for the step looks far away; the picture shows the neighbourhood of what it found.
_SHOWN_STEPS = 2.5
_DIAMOND = "m0-6 6 6-6 6-6-6z"
_KEYS = (
    Key("loss, measured", line="line loss"),
    Key("quadratic model", line="line model"),
    Key("θ", example='<circle r="5" class="here"/>'),
    Key("chosen step", example=f'<path d="{_DIAMOND}" class="there"/>'),
)


def escape_chart(escape: Escape) -> Picture | None:
    """Loss against step; None without a curve of at least two points."""
    samples = _near(escape)
    if len(samples) < 2:
        return None
    key, top = legend(_KEYS, left=72, top=2, right=WIDTH - 8)
    x = linear([0.0, escape.step, *(step for step, _, _ in samples)])
    # The model falls without end; the true loss sets the range.
    y = linear([escape.loss_before, escape.loss_after, *(loss for _, loss, _ in samples)])
    drawn = frame(x, y, names=("step along u", "loss"), box=Box(top=top + 6, bottom=_HEIGHT))
    measured = [drawn.at(step, loss) for step, loss, _ in samples]
    modelled = [drawn.at(step, model) for step, _, model in samples]
    dots = [
        element("circle", cx=at[0], cy=at[1], r=2.5, tip=f"step {number(step)}: loss {number(loss)}, model {number(model)}")
        for at, (step, loss, model) in zip(measured, samples, strict=True)
    ]  # fmt: skip
    here, there = drawn.at(0.0, escape.loss_before), drawn.at(escape.step, escape.loss_after)
    tips = (
        f"θ: loss {number(escape.loss_before)}",
        f"chosen step {number(escape.step)}: loss {number(escape.loss_after)}",
    )
    marks = [
        element("circle", cx=here[0], cy=here[1], r=5, class_="here", tip=tips[0]),
        element("path", d=f"M{there[0]:.1f} {there[1]:.1f}{_DIAMOND}", class_="there", tip=tips[1]),
    ]
    curves = [path(modelled, class_="line model"), path(measured, class_="line loss")]
    told = "verified on the whole data" if escape.verified else "not verified: do not apply it"
    words = (
        f"Curvature {number(escape.curvature)}, step {number(escape.step)}: loss from {number(escape.loss_before)} to "
        f"{number(escape.loss_after)}, {told}. The model promised a decrease of {number(escape.predicted_decrease)}; "
        f"measured: {number(escape.decrease)}."
    )
    return Picture(
        f"Loss along escape direction {escape.index}: {number(escape.loss_before)} to {number(escape.loss_after)}",
        (*drawn.elements, key, drawn.cut(curves), f'<g class="dot">{"".join(dots)}</g>', *marks),
        height=_HEIGHT,
        description=words,
        caption=words,
    )


def _near(escape: Escape) -> Sequence[tuple[float, float, float]]:
    """(step, loss, model) in ascending order, around the chosen step where there are enough."""
    curve = escape.curve
    every = sorted(zip(curve.step, curve.loss, curve.quadratic, strict=False))
    near = [point for point in every if abs(point[0]) <= _SHOWN_STEPS * abs(escape.step)]
    return near if len(near) >= 3 else every
