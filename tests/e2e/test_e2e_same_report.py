"""The service and the local library give the same report for the same question."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from e2e_service import running_service
from torch import Tensor, nn
from torch.nn import functional

import saddlescope
from saddlescope import Client

LOSS = {
    "kind": "network",
    "layers": [
        {"type": "linear", "in_features": 3, "out_features": 4},
        {"type": "tanh"},
        {"type": "linear", "in_features": 4, "out_features": 2},
    ],
    "criterion": {"type": "cross_entropy"},
}


def test_the_service_and_the_library_report_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    data = {"inputs": torch.randn(20, 3, dtype=torch.float64), "targets": torch.randint(0, 2, (20,))}

    def loss(tensors: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        return functional.cross_entropy(
            torch.func.functional_call(net, dict(tensors), (batch["inputs"],)), batch["targets"]
        )

    local = saddlescope.analyze(loss, net.state_dict(), data, lower_bound=0.0, seed=3)
    with running_service(tmp_path) as service, Client(str(service.client.base_url)) as client:
        remote = client.submit(net.state_dict(), LOSS, data, seed=3).wait(timeout=60)
        assert (remote.verdict, remote.inertia.negative) == (local.verdict, local.inertia.negative)
        assert remote.advice.action == local.advice.action
        assert remote.loss == pytest.approx(local.loss, rel=1e-13)
        assert remote.spectrum.eigenvalues == pytest.approx(local.spectrum.eigenvalues, abs=1e-13)
        assert [e.loss_after for e in remote.escapes] == pytest.approx([e.loss_after for e in local.escapes], rel=1e-6)
        assert remote.criticality.predicted_decrease == pytest.approx(local.criticality.predicted_decrease, rel=1e-9)
