"""Broken preconditions of an analysis. Mathematical outcomes are data, not errors."""

from saddlescope.contract.vocabulary import FailureCode


class AnalysisError(Exception):
    """The question cannot be asked of this objective.

    AnalysisError
    ├── NonFiniteLoss
    ├── NonDeterministicLoss
    ├── NotDifferentiable
    ├── NotAdditive
    ├── NotScalar
    └── OutOfMemory
    """

    code: FailureCode = FailureCode.INTERNAL

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class NonFiniteLoss(AnalysisError):
    """L, its gradient or a product is NaN or infinite at θ."""

    code = FailureCode.NON_FINITE_LOSS


class NonDeterministicLoss(AnalysisError):
    """Two evaluations at the same θ differ."""

    code = FailureCode.NON_DETERMINISTIC_LOSS


class NotDifferentiable(AnalysisError):
    """Autograd has no first or second derivative of L."""

    code = FailureCode.NOT_DIFFERENTIABLE


class NotAdditive(AnalysisError):
    """L depends on how its rows are grouped, and they are in several groups."""

    code = FailureCode.LOSS_INVALID


class NotScalar(AnalysisError):
    """The loss of a batch is not one real number."""

    code = FailureCode.LOSS_INVALID


class OutOfMemory(AnalysisError):
    """The plan does not fit, even at the smallest batch."""

    code = FailureCode.OUT_OF_MEMORY
