"""curvlinops' Hessian under SciPy's `eigsh`, as its examples have it; then in float64 with a larger Krylov space."""

from __future__ import annotations

from collections.abc import Sequence

from curvlinops import HessianLinearOperator
from scipy.sparse.linalg import eigsh

from benchmarks.peers.failing_cases import Subject
from benchmarks.peers.failing_subject import Found, Way

LARGER_BASIS = 50


def ways(_: str) -> Sequence[Way]:
    return (
        Way("eigsh(H.to_scipy(), k)", by_default, is_default=True),
        Way(f"float64, ncv={LARGER_BASIS}", in_float64, is_default=False),
    )


def by_default(subject: Subject) -> Found:
    return Found(eigsh(operator_of(subject).to_scipy(), k=subject.case.num_eigenvalues, return_eigenvectors=False))


def in_float64(subject: Subject) -> Found:
    plain = operator_of(subject.double()).to_scipy()
    basis = min(LARGER_BASIS, plain.shape[0])
    return Found(eigsh(plain, k=subject.case.num_eigenvalues, ncv=basis, return_eigenvectors=False))


def operator_of(subject: Subject) -> HessianLinearOperator:
    parameters = [parameter for parameter in subject.network.parameters() if parameter.requires_grad]
    return HessianLinearOperator(subject.network, subject.criterion, parameters, subject.batches)
