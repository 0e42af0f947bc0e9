"""Sylvester's count against the eigenvalues."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import saddlescope
from saddlescope.curvature.criticality import Criticality
from saddlescope.curvature.errors import NonFiniteLoss
from saddlescope.curvature.evidence import Bounds, Evidence
from saddlescope.curvature.inertia import inertia_by_ldl
from saddlescope.curvature.noise import Smoothness
from saddlescope.curvature.verdict import decide

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


def test_a_minimum_is_claimed_only_where_pivots_and_eigenvalues_agree() -> None:
    report = saddlescope.analyze(
        lambda t: 0.5 * (t["x"] ** 2).sum(), {"x": torch.zeros(3, dtype=torch.float64)}, landscape=False
    )
    assert report.verdict == "local_minimum"
    assert report.evidence.facts["pivots"] == [0, 0, 3]
    bounds, smooth = Bounds(1.0, 1.0, 1.0, 0.0), Smoothness(is_smooth=True, radius=None)
    critical = Criticality(
        is_critical=True,
        gradient_norm=0.0,
        gradient_tol=None,
        rounding_floor=0.0,
        predicted_decrease=0.0,
        reference_decrease=1.0,
        critical_rtol=0.01,
        flat_share=0.0,
        rule="‖g‖ is zero to rounding",
    )
    evidence = Evidence(
        criticality=critical,
        smoothness=smooth,
        lambda_min=bounds,
        lambda_max=bounds,
        zero_tol=1e-12,
        inertia=(0, 0, 3),
        kernel=None,
        kernel_obstacle="",
        probe_decrease=0.0,
        gap_to_bound=None,
        pivots=(0, 0, 3),
    )
    assert decide(evidence).verdict == "local_minimum"
    assert decide(replace(evidence, pivots=(1, 0, 2))).verdict == "undecided"
