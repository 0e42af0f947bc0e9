"""The plan of a run that can be made, and how long the rest of it takes."""

from __future__ import annotations

from saddlescope.contract.planning import MAX_FORCED_DENSE, Plan
from saddlescope.contract.vocabulary import FailureCode, Method
from saddlescope.curvature.errors import AnalysisError


class TooLarge(AnalysisError):
    """The asked method does not fit this many parameters."""

    code = FailureCode.RESOURCE_LIMIT


def feasible(chosen: Plan, num_parameters: int) -> Plan:
    """The plan itself.

    Raises:
        TooLarge: if dense is forced beyond 20,000 parameters.
    """
    n = num_parameters
    if chosen.method is Method.DENSE and n > MAX_FORCED_DENSE:
        raise TooLarge(f"a dense Hessian of {n} parameters takes {8 * n * n / 2**30:.0f} GiB: use method 'lanczos'")
    return chosen


def basis_rows(vector_bytes: int, *, bytes_per_device: int, num_devices: int = 1) -> int:
    """How many vectors are multiplied before a restart: a device keeps its part of each, and of the one that follows."""
    return max(2, num_devices * bytes_per_device // vector_bytes - 1)


class EtaClock:
    """Seconds left, from the exponentially smoothed time of a product and the products that remain.

    Says None until a product has been timed. Give it every count; time in which no product ended belongs to the next one.
    """

    def __init__(self, *, smoothing: float = 0.2) -> None:
        self.smoothing = smoothing
        self.seconds_per_matvec: float | None = None
        self._last: tuple[int, float] | None = None

    def tick(self, num_matvecs: int, now: float) -> None:
        """`num_matvecs` are done at the monotonic time `now` in seconds."""
        if self._last is None:
            self._last = (num_matvecs, now)
            return
        done = num_matvecs - self._last[0]
        if done <= 0:
            return
        latest = (now - self._last[1]) / done
        # As if each of the `done` products had been seen by itself.
        weight = 1 - (1 - self.smoothing) ** done
        before = latest if self.seconds_per_matvec is None else self.seconds_per_matvec
        self.seconds_per_matvec = before + weight * (latest - before)
        self._last = (num_matvecs, now)

    def remaining_seconds(self, remaining_matvecs: int) -> float | None:
        return None if self.seconds_per_matvec is None else max(0, remaining_matvecs) * self.seconds_per_matvec
