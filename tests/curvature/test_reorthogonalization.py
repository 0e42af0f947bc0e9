"""The basis stays orthonormal although few of its vectors are made so, and what is estimated is what is there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from saddlescope.curvature.basis import WholeBasis
from saddlescope.curvature.lanczos import sphere_vector, tridiagonalize
from saddlescope.curvature.orthogonal import accurate_dot, accurate_norm, blocked_dot, orthogonalize_pair
from saddlescope.curvature.reorthogonalization import DISTRUST, LIMIT, Overlaps

STEPS = 80
SPECTRA = {
    "one negative": torch.cat([torch.tensor([-0.1]), torch.linspace(0.5, 10, 3000)]),
    "far apart": torch.cat([torch.tensor([-5.0, -1.0, 20.0, 1000.0]), torch.linspace(0.5, 10, 3000)]),
    "eight decades": torch.logspace(-8, 0, 2000),
    "clusters": torch.cat(
        [torch.ones(500), torch.full((500,), 1 + 1e-6), torch.linspace(-1, 0, 100), torch.zeros(900)]
    ),
}


def start_of(spectrum: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return sphere_vector(spectrum.numel(), generator=generator, dtype=spectrum.dtype, device=torch.device("cpu"))


def largest_overlap(basis: Tensor) -> float:
    gram = basis.double() @ basis.double().T
    return (gram - gram.diagonal().diag()).abs().max().item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SPECTRA)
def test_the_basis_is_orthonormal_to_a_small_multiple_of_the_precision(name: str, dtype: torch.dtype) -> None:
    spectrum = SPECTRA[name].to(dtype)
    cycle = tridiagonalize(lambda v: spectrum * v, start_of(spectrum), num_matvecs=STEPS)
    epsilon = torch.finfo(dtype).eps
    assert largest_overlap(cycle.basis) <= 4 * LIMIT * epsilon
    assert cycle.basis.double().norm(dim=1) == pytest.approx(torch.ones(cycle.num_steps).double(), abs=16 * epsilon)


def walk(matvec: Callable[[Tensor], Tensor], start: Tensor) -> tuple[int, int, list[tuple[float, float]]]:
    """Lanczos with nothing but the estimates: steps, vectors made orthogonal, and (estimate, truth) of every step."""
    rows, alpha, beta = [start / accurate_norm(start)], list[float](), list[float]()
    overlaps, made, pairs = Overlaps(start.dtype), 0, list[tuple[float, float]]()
    for step in range(STEPS):
        vector = matvec(rows[-1]).clone()
        vector -= beta[-1] * rows[-2] if step else 0.0
        alpha.append(accurate_dot(vector, rows[-1]))
        vector -= alpha[-1] * rows[-1]
        norm = accurate_norm(vector)
        known = torch.stack(rows)
        measured = (known.double() @ vector.double()).abs().max().item() / norm
        if overlaps.advance(alpha, beta, norm):
            before = known[:-1].double()
            rows[-1] -= (before.T @ (before @ rows[-1].double())).to(vector)
            before = torch.stack(rows).double()
            vector -= (before.T @ (before @ vector.double())).to(vector)
            overlaps.orthogonalized(measured)
            made += 1
        else:
            pairs.append((overlaps.largest, measured))
        beta.append(accurate_norm(vector))
        rows.append(vector / beta[-1])
    return STEPS, made, pairs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["one negative", "eight decades"])
def test_most_vectors_are_left_alone_and_their_overlaps_are_foreseen(name: str, dtype: torch.dtype) -> None:
    spectrum = SPECTRA[name].to(dtype)
    steps, made, pairs = walk(lambda v: spectrum * v, start_of(spectrum))
    assert made <= steps // 4
    assert all(truth <= 4 * estimate for estimate, truth in pairs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_known", [0, 1, 7])
def test_a_pair_is_orthogonal_to_all_before_it_and_to_each_other(num_known: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    epsilon = torch.finfo(dtype).eps
    rows = torch.linalg.qr(torch.randn(9000, num_known + 1, generator=generator, dtype=torch.float64)).Q.T
    drawn = torch.randn(9000, generator=generator, dtype=torch.float64)
    oblique = drawn - rows.T @ (rows @ drawn) + 40 * epsilon * rows.sum(0)
    older = rows[-1] + 40 * epsilon * rows[:-1].sum(0)
    stored = torch.stack([*rows[:-1], older, oblique]).to(dtype)
    made = orthogonalize_pair(stored[-1], WholeBasis(stored), len(stored) - 2)
    assert made.norm == pytest.approx(stored[-1].double().norm().item(), rel=16 * epsilon)
    stored[-1] /= made.norm
    assert largest_overlap(stored) <= 4 * epsilon
    assert (stored[:-1].double() - rows).abs().max() <= 100 * epsilon


def test_a_second_vector_that_lies_among_the_others_leaves_rounding_alone() -> None:
    rows = torch.linalg.qr(torch.randn(500, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)).Q.T
    stored = torch.cat([rows, (rows.sum(0) + 1e-9 * torch.linspace(-1, 1, 500))[None]])
    made = orthogonalize_pair(stored[-1], WholeBasis(stored), len(stored) - 2)
    assert 1e-9 < made.norm < 3e-8
    assert (rows @ stored[-1] / made.norm).abs().max() <= 1e-14
    assert made.overlap == pytest.approx(6**-0.5, rel=1e-6)


def test_where_products_are_worse_than_rounding_estimates_are_not_believed() -> None:
    spectrum = SPECTRA["one negative"].double()
    skew = torch.randn(spectrum.numel(), generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 1e-9

    def crooked(v: Tensor) -> Tensor:
        return spectrum * v + skew * v.roll(1)

    _, made, _ = walk(crooked, start_of(spectrum))
    assert made > STEPS // 2
    cycle = tridiagonalize(crooked, start_of(spectrum), num_matvecs=STEPS)
    assert largest_overlap(cycle.basis) <= 1e-9


def test_a_measured_overlap_beyond_trust_makes_every_later_vector_due() -> None:
    overlaps = Overlaps(torch.float64)
    assert not overlaps.advance([1.0], [], 1.0)
    overlaps.orthogonalized(2 * DISTRUST * LIMIT * torch.finfo(torch.float64).eps)
    assert overlaps.advance([1.0, 1.0], [1.0], 1.0)
    overlaps.orthogonalized(0.0)
    assert overlaps.advance([1.0, 1.0, 1.0], [1.0, 1.0], 1.0)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12, 1e25])
@pytest.mark.parametrize("size", [1, 100, 2**13, 50_001])
def test_a_blocked_inner_product_is_accurate_at_every_scale(size: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(size)
    epsilon = torch.finfo(torch.float32).eps
    x, y = (torch.randn(size, generator=generator) * scale for _ in range(2))
    for first, second in ((x, y), (x, x), (torch.full_like(x, 0.1 * scale), torch.full_like(x, scale))):
        exact = first.double() * second.double()
        assert abs(blocked_dot(first, second) - exact.sum().item()) <= 16 * epsilon * exact.abs().sum().item()


def test_an_inner_product_that_is_not_finite_says_so() -> None:
    vector = torch.ones(3)
    vector[1] = torch.nan
    assert blocked_dot(vector, torch.ones(3)) != blocked_dot(vector, torch.ones(3))
