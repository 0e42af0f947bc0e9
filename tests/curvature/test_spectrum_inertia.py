"""Sylvester's count against the eigenvalues."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlescope.curvature.errors import NonFiniteLoss
from saddlescope.curvature.inertia import inertia_by_ldl

values = st.one_of(st.sampled_from([-3.0, -1.0, 0.0, 1.0, 1.0 + 1e-8, 2.0]), st.floats(0.01, 4), st.floats(-4, -0.01))


@given(spectrum=st.lists(values, min_size=1, max_size=60), seed=st.integers(0, 2**31), is_scaled=st.booleans())
@settings(max_examples=150, deadline=None)
def test_the_count_of_pivots_is_the_count_of_eigenvalues(spectrum: list[float], seed: int, is_scaled: bool) -> None:
    scale = 1e-8 if is_scaled else 1.0
    diagonal = scale * torch.tensor(spectrum, dtype=torch.float64)
    random = torch.randn(len(spectrum), len(spectrum), generator=torch.Generator().manual_seed(seed)).double()
    rotation = torch.linalg.qr(random).Q
    hessian = (rotation * diagonal) @ rotation.T
    tau = 1e-9 * scale
    expected = tuple(int(side.sum()) for side in (diagonal < -tau, diagonal.abs() <= tau, diagonal > tau))
    assert inertia_by_ldl((hessian + hessian.T) / 2, tau) == expected


def test_it_agrees_with_eigh_on_a_hessian_full_of_zeros() -> None:
    # Two-layer tanh network at zero weights: ±‖c‖ per hidden unit, all else zero; its 2×2 pivots are what is tested.
    hidden, inputs = 30, 10
    c = torch.linspace(-1, 1, inputs, dtype=torch.float64)
    hessian = torch.zeros(hidden * (inputs + 1), hidden * (inputs + 1), dtype=torch.float64)
    for unit in range(hidden):
        rows = slice(unit * inputs, (unit + 1) * inputs)
        hessian[rows, hidden * inputs + unit] = hessian[hidden * inputs + unit, rows] = c
    eigenvalues = torch.linalg.eigvalsh(hessian)
    assert inertia_by_ldl(hessian, 1e-10) == (30, 270, 30)
    assert ((eigenvalues < -1e-10).sum(), (eigenvalues > 1e-10).sum()) == (30, 30)


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        inertia_by_ldl(torch.eye(2).double(), 0.0)
    with pytest.raises(NonFiniteLoss):
        inertia_by_ldl(torch.full((2, 2), torch.nan).double(), 1e-9)
