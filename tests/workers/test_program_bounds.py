"""The lower bound of a program's loss is never wrong, and is 0 for the losses in common use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from program_models import Batch, Case, build, write_archive
from torch import Tensor, nn
from torch.nn import functional

Loss = Callable[[nn.Module, Batch], Tensor]

BOUNDED: dict[str, Loss] = {
    "mse": lambda net, b: functional.mse_loss(net(b["x"]), b["y"]),
    "cross entropy": lambda net, b: functional.cross_entropy(net(b["x"]), b["c"], label_smoothing=0.1),
    "soft targets": lambda net, b: functional.cross_entropy(net(b["x"]), b["p"]),
    "binary": lambda net, b: functional.binary_cross_entropy_with_logits(net(b["x"]), b["p"]),
    "nll": lambda net, b: functional.nll_loss(functional.log_softmax(net(b["x"]), -1), b["c"]),
    "by hand": lambda net, b: ((net(b["x"]) - b["y"]) ** 2).sum() / (2 * b["x"].shape[0]),
    "weighted": lambda net, b: (functional.huber_loss(net(b["x"]), b["y"], reduction="none").mean(1) * b["w"]).mean(),
    "penalty": lambda net, b: (
        functional.l1_loss(net(b["x"]), b["y"]) + 0.1 * sum(p.square().sum() for p in net.parameters())
    ),
    "negative log": lambda net, b: -functional.log_softmax(net(b["x"]), -1).gather(1, b["c"][:, None]).mean(),
}
UNBOUNDED: dict[str, Loss] = {
    "linear": lambda net, b: net(b["x"]).mean(),
    "difference": lambda net, b: functional.mse_loss(net(b["x"]), b["y"]) - functional.l1_loss(net(b["x"]), b["y"]),
    "negative weights": lambda net, b: (net(b["x"]).square().mean(1) * (b["w"] - 2)).mean(),
    "targets outside": lambda net, b: functional.binary_cross_entropy_with_logits(net(b["x"]), b["y"]),
    "energy": lambda net, b: net(b["x"]).square().mean() * net(b["x"]).mean(),
}


def rows(count: int) -> Batch:
    return {
        "x": torch.randn(count, 4), "y": 3 * torch.randn(count, 3), "c": torch.randint(3, (count,)),
        "p": torch.rand(count, 3), "w": torch.rand(count),
    }  # fmt: skip


def bound(loss: Loss, folder: Path) -> float | None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    case = Case(model, loss, rows)
    return build(write_archive(case, folder), model.state_dict(), rows(6)).lower_bound


@pytest.mark.parametrize("name", BOUNDED)
def test_losses_in_common_use_are_bounded_by_zero(name: str, tmp_path: Path) -> None:
    assert bound(BOUNDED[name], tmp_path) == 0.0


@pytest.mark.parametrize("name", UNBOUNDED)
def test_nothing_is_claimed_of_others(name: str, tmp_path: Path) -> None:
    assert bound(UNBOUNDED[name], tmp_path) is None
