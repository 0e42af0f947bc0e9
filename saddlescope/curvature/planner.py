"""What a job will do and cost, from its size alone: plain arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from saddlescope.contract.limits import MAX_DENSE_PARAMETERS
from saddlescope.contract.vocabulary import FailureCode, Method, Precision
from saddlescope.curvature.errors import AnalysisError

DEFAULT_LANCZOS_MATVECS = 150
MAX_FORCED_DENSE = 20_000
BASIS_BYTES = 4 * 2**30
FLOAT64_UP_TO = 100_000


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
    itemsize = 8 if precision is Precision.FLOAT64 else 4
    fits = max(8, BASIS_BYTES // (itemsize * n))
    return Plan(method, precision, min(n, max_matvecs or DEFAULT_LANCZOS_MATVECS, fits))
