"""Saddlescope's answer at its defaults, which are dense at these sizes; then what it says of them without a dense Hessian.

Without one the values are Ritz values of one Krylov space, each with its residual norm: sure where that is small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

import saddlescope
from benchmarks.peers.failing_cases import Subject
from benchmarks.peers.failing_subject import Found, Way
from benchmarks.peers.question import RESIDUAL_RTOL


def ways(_: str) -> Sequence[Way]:
    return (
        Way("analyze(loss, params, data)", by_default, is_default=True),
        Way('method="lanczos"', partial(by_default, method="lanczos"), is_default=False),
    )


def by_default(subject: Subject, **options: object) -> Found:
    criterion = subject.criterion

    def loss(tensors: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        value: Tensor = criterion(
            torch.func.functional_call(subject.network, dict(tensors), (batch["inputs"],)), batch["targets"]
        )
        return value

    parameters = {name: parameter.detach() for name, parameter in subject.network.named_parameters()}
    data = {"inputs": subject.inputs, "targets": subject.targets}
    rows = None if subject.case.batch_sizes is None else subject.case.batch_sizes[0]
    spectrum = saddlescope.analyze(loss, parameters, data, batch_size=rows, **options).spectrum
    if spectrum.eigenvalues is not None:
        return Found(sorted(spectrum.eigenvalues, key=abs)[-subject.case.num_eigenvalues :])
    leading = sorted(spectrum.ritz, key=lambda pair: abs(pair.value))[-subject.case.num_eigenvalues :]
    worst = max(pair.residual_norm for pair in leading)
    return Found([pair.value for pair in leading], is_sure=worst <= RESIDUAL_RTOL * spectrum.spectral_scale)
