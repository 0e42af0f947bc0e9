"""What a job will do and take, by arithmetic from its size: the same for the dry run and for the run."""

from __future__ import annotations

from dataclasses import dataclass

from saddlescope.contract.limits import MAX_DENSE_PARAMETERS
from saddlescope.contract.vocabulary import Method, Precision

DEFAULT_LANCZOS_MATVECS = 150
MAX_FORCED_DENSE = 20_000
FLOAT64_UP_TO = 100_000
BASIS_BYTES = 4 * 2**30
SAVED_BYTES = 4 * 2**30
WORKING_VECTORS = 12  # of the products and of Lanczos beside its basis


@dataclass(frozen=True)
class Plan:
    """Method, precision and the most Hessian products of the main run; `auto` is resolved."""

    method: Method
    precision: Precision
    max_matvecs: int

    @property
    def itemsize(self) -> int:
        """Bytes of a number in the working precision."""
        return 8 if self.precision is Precision.FLOAT64 else 4


def plan(
    num_parameters: int, *, method: Method, precision: Precision, max_matvecs: int | None, has_float64: bool
) -> Plan:
    """Choose dense up to 5,000 parameters and Lanczos above; float64 wherever it is affordable or the checkpoint has it."""
    n = num_parameters
    if precision is Precision.AUTO:
        precision = Precision.FLOAT64 if has_float64 or n <= FLOAT64_UP_TO else Precision.FLOAT32
    if method is Method.AUTO:
        affordable = n <= MAX_DENSE_PARAMETERS and (max_matvecs is None or n <= max_matvecs)
        method = Method.DENSE if affordable else Method.LANCZOS
    if method is Method.DENSE:
        return Plan(method, precision, n)
    return Plan(method, precision, min(n, max_matvecs or DEFAULT_LANCZOS_MATVECS))


def memory_bytes(chosen: Plan, num_parameters: int) -> int:
    """What a plan takes at most beside the data and the graphs of the products, the products kept for a resumption included.

    The Hessian in float64 with its eigenvectors and the solver's own space, or the Krylov basis.
    """
    n, k = num_parameters, chosen.max_matvecs
    products = k * n * chosen.itemsize
    kept = min(products, SAVED_BYTES) + WORKING_VECTORS * n * chosen.itemsize
    if chosen.method is Method.DENSE:
        return 3 * 8 * n * n + kept
    return min(products, BASIS_BYTES) + kept
