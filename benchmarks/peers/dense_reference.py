"""torch.func.hessian of the loss as a function of flat θ, and torch.linalg.eigh of it: what one writes by hand."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.peers.models import Subject
from benchmarks.peers.subject import Answer, Setting


def prepare(subject: Subject) -> Callable[[int, Setting], Answer]:
    inputs, targets = subject.batches[0]
    named = dict(subject.network.named_parameters())
    theta = torch.cat([parameter.detach().reshape(-1) for parameter in named.values()])
    sizes = [parameter.numel() for parameter in named.values()]

    def loss(flat: Tensor) -> Tensor:
        pieces = flat.split(sizes)
        tensors = {name: piece.view_as(q) for (name, q), piece in zip(named.items(), pieces, strict=True)}
        return nn.functional.cross_entropy(torch.func.functional_call(subject.network, tensors, (inputs,)), targets)

    loss(theta)

    def solve(seed: int, setting: Setting) -> Answer:
        del seed, setting
        hessian = torch.func.hessian(loss)(theta)
        eigenvalues, _ = torch.linalg.eigh((hessian + hessian.T) / 2)
        return Answer({"eigenvalues": eigenvalues}, theta.numel())

    return solve
