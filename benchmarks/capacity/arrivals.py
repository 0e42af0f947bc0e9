"""When checkpoints come: evenly at random, or all of an hour's within a minute, as a cluster that saves on the hour sends them."""

from __future__ import annotations

from random import Random

HOUR = 3600.0
BURST_SECONDS = 60.0


def poisson(generator: Random, *, rate: float, count: int) -> list[float]:
    """`count` moments of a Poisson process."""
    moment, moments = 0.0, []
    for _ in range(count):
        moment += generator.expovariate(rate)
        moments.append(moment)
    return moments


def on_the_hour(generator: Random, *, rate: float, num_hours: int) -> list[float]:
    """`rate · 3600` moments within the first minute of each hour, ascending."""
    size = round(rate * HOUR)
    return sorted(hour * HOUR + generator.uniform(0, BURST_SECONDS) for hour in range(num_hours) for _ in range(size))
