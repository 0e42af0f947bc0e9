"""Above the size of a dense Hessian: what orders three and four can still say, where H has next to no range."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import saddlescope
from saddlescope.curvature.errors import NotDifferentiable
from saddlescope.curvature.low_rank import find_range

Tensors = dict[str, Tensor]
CPU = torch.device("cpu")
MINIMA = {"local_minimum", "flat_minimum"}


@pytest.mark.parametrize(
    "values",
    [[], [2.0], [1.0, 1.0, 1.0], [-3.0, 1e-6, 1.0, 1.0], [0.5 + 0.1 * k for k in range(20)], [1.0] * 12],
    ids=lambda values: str(len(values)),
)
def test_the_range_is_found_copies_included(values: list[float]) -> None:
    size, rank = 400, len(values)
    generator = torch.Generator().manual_seed(rank)
    basis = torch.linalg.qr(torch.randn(size, max(rank, 1), generator=generator, dtype=torch.float64)).Q[:, :rank]
    diagonal = torch.tensor(values, dtype=torch.float64)

    def matvec(vector: Tensor) -> Tensor:
        return basis @ (diagonal * (basis.T @ vector))

    found = find_range(matvec, size, zero_tol=1e-13, generator=generator, dtype=torch.float64, device=CPU)
    assert found is not None
    assert sorted(found.values.tolist()) == pytest.approx(sorted(values), rel=1e-8)
    assert found.vectors.T @ found.vectors == pytest.approx(torch.eye(rank).numpy(), abs=1e-12)
    assert (basis - found.vectors @ (found.vectors.T @ basis)).norm() < 1e-8
    negative = sum(value < 0 for value in values)
    assert found.counts(size) == (negative, size - rank, rank - negative)


@pytest.mark.parametrize("rank", [70, 400])
def test_a_range_that_is_too_large_is_none(rank: int) -> None:
    size, generator = 400, torch.Generator().manual_seed(0)
    diagonal = torch.cat([torch.linspace(1, 2, rank), torch.zeros(size - rank)]).double()
    found = find_range(
        lambda v: diagonal * v, size, zero_tol=1e-13, generator=generator, dtype=torch.float64, device=CPU
    )
    assert found is None
    ones = torch.cat([torch.ones(rank), torch.zeros(size - rank)]).double()
    assert (
        find_range(lambda v: ones * v, size, zero_tol=1e-13, generator=generator, dtype=torch.float64, device=CPU)
        is None
    )


def three_layers(hidden: int, inputs: int) -> tuple[object, Tensors, Tensors]:
    x = torch.randn(16, inputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.sin(2 * x[:, 0])
    y = y - y.mean()

    def loss(t: Tensors, batch: Tensors) -> Tensor:
        first = torch.tanh(batch["x"] @ t["W1"].T + t["b1"])
        second = torch.tanh(first @ t["W2"].T + t["b2"])
        return 0.5 * ((second @ t["v"] + t["c"] - batch["y"]) ** 2).mean()

    shapes = {"W1": (hidden, inputs), "b1": (hidden,), "W2": (hidden, hidden), "b2": (hidden,), "v": (hidden,), "c": ()}
    return loss, {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}, {"x": x, "y": y}


def test_a_deep_network_at_zero_weights_is_a_saddle_of_order_three_with_a_way_out() -> None:
    loss, zeros, data = three_layers(60, 30)
    report = saddlescope.analyze(loss, zeros, data, landscape=False)
    assert report.num_parameters > 5000
    assert (report.numerics.method, report.verdict, report.evidence.order) == ("lanczos", "saddle", 3)
    assert report.escapes[0].verified
    assert report.escapes[0].loss_after < report.loss


@pytest.mark.parametrize("size", [50, 2_000, 6_000, 100_000])
def test_a_long_chain_at_zero_is_a_plateau_that_says_what_was_tried(size: int) -> None:
    report = saddlescope.analyze(
        lambda t: (1 - t["w"].prod()) ** 2, {"w": torch.zeros(size, dtype=torch.float64)}, landscape=False
    )
    assert report.verdict == "plateau"
    assert f"4 directions of a kernel of dimension {size}" in report.evidence.statement


@pytest.mark.parametrize("size", [40, 1000, 6000])
@pytest.mark.parametrize(
    ("loss", "verdicts"),
    [
        (lambda w: (1 - w[0] * w[1] * w[2]) ** 2 + 0 * w.sum(), {"saddle"}),
        (lambda w: (w[:-1] * w[1:]).square().sum() - (w[:3] ** 4).sum(), {"saddle", "plateau", "undecided"}),
        (lambda w: -(w**4).sum(), {"undecided"}),  # a maximum that no few starts can establish
        (lambda w: (w**4).sum(), {"undecided"}),
        (lambda w: w[0] ** 2 - (w[1:] ** 4).sum(), {"saddle"}),
        (lambda w: w[0] ** 2 + (w[1:] ** 3).sum(), {"saddle"}),
        (lambda w: (w[0] - w[1:].square().sum()) * (w[0] - 2 * w[1:].square().sum()), {"saddle"}),
    ],
    ids=["cubic", "hidden", "down", "up", "mixed", "cubes", "Peano"],
)
def test_where_the_second_order_is_silent_no_minimum_is_claimed(loss: object, verdicts: set[str], size: int) -> None:
    report = saddlescope.analyze(lambda t: loss(t["w"]), {"w": torch.zeros(size, dtype=torch.float64)}, landscape=False)
    assert report.verdict in verdicts, report.summary
    assert report.verdict not in MINIMA


@pytest.mark.parametrize("num_convex", [0, 3])
@pytest.mark.parametrize("dimension", [4, 12, 13, 24, 40, 200])
@pytest.mark.parametrize("depth", [4.2, 4.5])
@pytest.mark.parametrize("seed", range(3))
def test_a_descent_in_a_narrow_cone_of_a_kernel_is_found_or_not_excluded(
    num_convex: int, dimension: int, depth: float, seed: int
) -> None:
    """Σz⁴ − c·z₁z₂z₃z₄ falls along (1, 1, 1, 1) for c > 4, in a cone the narrower the nearer c is to 4."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(dimension, dimension, generator=generator, dtype=torch.float64)).Q

    def loss(t: Tensors) -> Tensor:
        z = turn @ t["w"][:dimension]
        return t["w"][dimension:].square().sum() + (z**4).sum() - depth * z[:4].prod()

    origin = {"w": torch.zeros(dimension + num_convex, dtype=torch.float64)}
    report = saddlescope.analyze(loss, origin, landscape=False, seed=seed)
    assert report.verdict in ({"saddle"} if dimension <= 12 else {"saddle", "undecided"}), report.summary


def test_a_loss_that_never_changes_is_still_refused() -> None:
    with pytest.raises(NotDifferentiable, match="does not depend"):
        saddlescope.analyze(lambda t: 1 + 0 * t["w"].sum(), {"w": torch.zeros(6000, dtype=torch.float64)})


def test_single_precision_is_told_what_stands_in_the_way() -> None:
    loss, zeros, data = three_layers(60, 30)
    report = saddlescope.analyze(loss, zeros, data, landscape=False, dtype="float32")
    assert report.verdict == "undecided"
    assert "float64" in report.evidence.statement
