"""hessian-eigenthings' `lanczos` with steps enough to converge, else at its defaults; then what its documentation offers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from hessian_eigenthings import EigenResult, HessianOperator, deflated_power_iteration, lanczos, supervised_loss

from benchmarks.peers.failing_cases import Subject
from benchmarks.peers.failing_subject import Found, Way


def ways(case_name: str) -> Sequence[Way]:
    match case_name:
        case "ragged":
            best = Way("all rows in one batch", partial(by_lanczos, is_whole=True), is_default=False)
        case "many_steps":
            best = Way("reorthogonalize=True", partial(by_lanczos, reorthogonalize=True), is_default=False)
        case "multiplicity":
            best = Way("deflated_power_iteration(H, k, max_iter=1000)", by_power_iteration, is_default=False)
        case _:
            best = Way("float64, reorthogonalize=True", in_float64, is_default=False)
    return Way("lanczos(H, k, max_iter)", by_lanczos, is_default=True), best


def by_lanczos(subject: Subject, *, is_whole: bool = False, reorthogonalize: bool | None = None) -> Found:
    steps = min(subject.case.num_steps, operator_of(subject).size)
    return _found(
        lanczos(
            operator_of(subject, is_whole=is_whole),
            k=subject.case.num_eigenvalues,
            max_iter=steps,
            reorthogonalize=reorthogonalize,
            seed=0,
        )
    )


def in_float64(subject: Subject) -> Found:
    return by_lanczos(subject.double(), reorthogonalize=True)


def by_power_iteration(subject: Subject) -> Found:
    found = deflated_power_iteration(operator_of(subject), k=subject.case.num_eigenvalues, max_iter=1000, seed=0)
    return _found(found)


def operator_of(subject: Subject, *, is_whole: bool = False) -> HessianOperator:
    batches = subject.whole if is_whole else subject.batches
    return HessianOperator(subject.network, batches, supervised_loss(subject.criterion))


def _found(result: EigenResult) -> Found:
    return Found(result.eigenvalues.tolist(), is_sure=bool(result.converged.all()))
