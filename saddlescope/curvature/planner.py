"""What a job will do and cost: plain arithmetic from its size, one measured gradient and one measured product."""

from __future__ import annotations

import math
from dataclasses import dataclass

from saddlescope.contract.limits import MAX_DENSE_PARAMETERS
from saddlescope.contract.vocabulary import FailureCode, Method, Precision
from saddlescope.curvature.errors import AnalysisError

DEFAULT_LANCZOS_MATVECS = 150
MAX_FORCED_DENSE = 20_000
FLOAT64_UP_TO = 100_000
WORKING_VECTORS = 12  # of the products and of Lanczos beside its basis


class TooLarge(AnalysisError):
    """The asked method does not fit this many parameters."""

    code = FailureCode.RESOURCE_LIMIT


@dataclass(frozen=True)
class Plan:
    """Method, precision and the most Hessian products of the main run; `auto` is resolved."""

    method: Method
    precision: Precision
    max_matvecs: int


def plan(
    num_parameters: int, *, method: Method, precision: Precision, max_matvecs: int | None, has_float64: bool
) -> Plan:
    """Choose dense up to 5,000 parameters and Lanczos above; float64 wherever it is affordable or the checkpoint has it.

    Raises:
        TooLarge: if dense is forced beyond 20,000 parameters.
    """
    n = num_parameters
    if precision is Precision.AUTO:
        precision = Precision.FLOAT64 if has_float64 or n <= FLOAT64_UP_TO else Precision.FLOAT32
    if method is Method.AUTO:
        affordable = n <= MAX_DENSE_PARAMETERS and (max_matvecs is None or n <= max_matvecs)
        method = Method.DENSE if affordable else Method.LANCZOS
    if method is Method.DENSE:
        if n > MAX_FORCED_DENSE:
            raise TooLarge(f"a dense Hessian of {n} parameters takes {8 * n * n / 2**30:.0f} GiB: use method 'lanczos'")
        return Plan(method, precision, n)
    return Plan(method, precision, min(n, max_matvecs or DEFAULT_LANCZOS_MATVECS))


@dataclass(frozen=True)
class Estimate:
    """What a plan will take and buy, before it runs.

    Attributes:
        matvecs: Hessian products of the main run, at most.
        seconds: of these products and the pre-flight; a dense eigendecomposition comes on top.
        memory_bytes: the matrix and its eigenvectors, or the basis, with what the products keep.
        certificate: in words, what will be known at the end.
    """

    matvecs: int
    seconds: float
    memory_bytes: int
    certificate: str


def estimate(
    chosen: Plan,
    num_parameters: int,
    *,
    gradient_seconds: float,
    matvec_seconds: float,
    failure_probability: float,
    kept_bytes: int = 0,
) -> Estimate:
    """Cost and certificate of a plan, from one measured gradient and one measured product over the whole data set."""
    n, k = num_parameters, chosen.max_matvecs
    itemsize = 8 if chosen.precision is Precision.FLOAT64 else 4
    # Three products and six gradients of the pre-flight, a product for each end of the spectrum.
    seconds = (k + 5) * matvec_seconds + 6 * gradient_seconds
    if chosen.method is Method.DENSE:
        certificate = "every eigenvalue to rounding: exact counts of negative, zero and positive ones"
        return Estimate(k, seconds, 3 * 8 * n * n + kept_bytes, certificate)
    if k >= n:
        certificate = "the whole Krylov space: the lowest eigenvalue to rounding"
    else:
        gap = planned_gap(n, k, failure_probability=failure_probability)
        certificate = (
            f"no eigenvalue lies lower than the lowest one found by more than {100 * min(gap, 1.0):.3g} % of the spectrum's "
            f"width, except with probability {failure_probability:.3g}; usually far less"
        )
    return Estimate(k, seconds, (k + WORKING_VECTORS) * itemsize * n + kept_bytes, certificate)


def planned_gap(num_parameters: int, num_matvecs: int, *, failure_probability: float) -> float:
    """ε with λ_min ≥ θ_min − ε(λ_max − λ_min) after k steps but for probability p (Kuczyński and Woźniakowski 1992).

    1.648·√n·exp(−√ε(2k−1)) = p. Loose by 10² to 10⁴: for planning only; `certificate` computes what was really bought.
    """
    logarithm = math.log(1.648 * math.sqrt(num_parameters) / failure_probability)
    return (logarithm / (2 * num_matvecs - 1)) ** 2


def matvecs_for_gap(num_parameters: int, gap: float, *, failure_probability: float) -> int:
    """The fewest products k with `planned_gap` ≤ gap; never more than n."""
    logarithm = math.log(1.648 * math.sqrt(num_parameters) / failure_probability)
    return min(num_parameters, max(1, math.ceil((logarithm / math.sqrt(gap) + 1) / 2)))


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
