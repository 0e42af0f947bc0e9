"""Pictures on a page, and what they are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saddlescope.contract.vocabulary import Verdict
from service.charts import Bracket, Checkpoint
from service.drawn import DrawnPicture
from store.numbers import ReportNumbers


@dataclass(frozen=True)
class Figure:
    """A picture, its name, and the address where it stands alone."""

    name: str
    picture: DrawnPicture
    url: str | None = None


def figures(name: str, pictures: Sequence[DrawnPicture], url: str | None = None) -> list[Figure]:
    """Those for which there was something to draw."""
    return [Figure(name, picture, url) for picture in pictures]


def checkpoint_of(
    job_id: str, *, verdict: Verdict | None, step: int | None, name: str | None, numbers: ReportNumbers | None
) -> Checkpoint:
    """A job as a point of a picture."""
    if numbers is None:
        return Checkpoint(job=job_id, step=step, verdict=verdict)
    return Checkpoint(
        job=job_id,
        step=step,
        verdict=verdict,
        is_critical=numbers.is_critical,
        loss=numbers.loss,
        gradient_norm=numbers.gradient_norm,
        lambda_min=numbers.lambda_min,
        lambda_max=numbers.lambda_max,
        index=numbers.index,
        minimum_ratio=Bracket(numbers.minimum_ratio, numbers.ratio_low, numbers.ratio_high),
        inertia=(numbers.num_negative, numbers.num_zero, numbers.num_positive),
        name=name or "",
    )
