"""Saddlescope's whole answer without escapes: pre-flight, dense Hessian, all eigenpairs, criticality, verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

import saddlescope
from benchmarks.peers.models import Subject
from benchmarks.peers.subject import Answer, Setting


def prepare(subject: Subject) -> Callable[[int, Setting], Answer]:
    inputs, targets = subject.batches[0]
    parameters = {name: parameter.detach() for name, parameter in subject.network.named_parameters()}

    def loss(tensors: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        logits = torch.func.functional_call(subject.network, dict(tensors), (batch["inputs"],))
        return nn.functional.cross_entropy(logits, batch["targets"])

    loss(parameters, {"inputs": inputs, "targets": targets})

    def solve(seed: int, setting: Setting) -> Answer:
        assert not setting
        report = saddlescope.analyze(
            loss,
            parameters,
            {"inputs": inputs, "targets": targets},
            method="dense",
            dtype="float64",
            num_escape_vectors=0,
            landscape=False,
            density=False,
            seed=seed,
        )
        inertia = report.inertia
        findings = {
            "inertia": torch.tensor([inertia.negative, inertia.zero, inertia.positive]),
            "ends": torch.tensor([report.lambda_min.estimate, report.lambda_max.estimate], dtype=torch.float64),
            "zero_tol": torch.tensor(inertia.zero_tol, dtype=torch.float64),
        }
        return Answer(findings, report.numerics.num_matvecs)

    return solve
