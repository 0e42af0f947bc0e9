"""Shares of the spectrum: the Beta law at any n, its coverage with one and with several probes, and proven counts."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from saddlescope.curvature.beta_law import regularized_beta
from saddlescope.curvature.escape import Direction
from saddlescope.curvature.lanczos import LanczosCycle, sphere_vector, tridiagonalize
from saddlescope.curvature.probing import at_least, at_most, probe_shares, proven_counts
from saddlescope.curvature.quadrature import Share, pooled, probe_norm, share_interval, spectral_shares

special = pytest.importorskip("scipy.special")  # the slow truth comes with scikit-learn
CPU = torch.device("cpu")


def allowed(trials: int, probability: float) -> float:
    return probability * trials + 3.5 * math.sqrt(trials * probability * (1 - probability))


@pytest.mark.parametrize(
    ("x", "a", "b"),
    [
        (1e-9, 0.5, 5e8),
        (3e-9, 2.5, 5e8),
        (1e-6, 500.0, 5e8),
        (0.3, 1.5e8, 3.5e8),
        (0.29999, 1.5e8, 3.5e8),
        (0.5, 0.5, 1e9),
        (1e-12, 0.5, 5e8),
        (0.999, 2e6, 2e3),
    ],
)
def test_the_beta_law_holds_to_a_billion_parameters(x: float, a: float, b: float) -> None:
    assert regularized_beta(x, a, b) == pytest.approx(special.betainc(a, b, x), rel=1e-6, abs=1e-12)
    assert regularized_beta(1 - x, b, a) == pytest.approx(special.betainc(b, a, 1 - x), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("size", [2, 3, 40, 10**6])
def test_the_probe_norm_is_chi_squared(size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    draws = sorted(probe_norm(size, generator=generator) for _ in range(3000))
    distances = [abs(special.gammainc(size / 2, x / 2) - (i + 0.5) / 3000) for i, x in enumerate(draws)]
    assert max(distances) <= 1.95 / math.sqrt(3000)  # Kolmogorov-Smirnov at 0.1 %


@pytest.mark.parametrize("num_probes", [1, 2, 5])
@pytest.mark.parametrize(("size", "count"), [(50, 0), (50, 1), (50, 20), (50, 49), (50, 50), (1000, 1), (1000, 600)])
def test_pooled_intervals_cover_at_their_level(num_probes: int, size: int, count: int) -> None:
    generator, failures, trials, level = torch.Generator().manual_seed(1), 0, 300, 0.2
    for _ in range(trials):
        probes = torch.randn(num_probes, size, generator=generator, dtype=torch.float64)
        masses = [(unit @ unit).item() for unit in (probes / probes.norm(dim=1, keepdim=True))[:, :count]]
        norms = [probe_norm(size, generator=generator) for _ in range(num_probes)]
        mass = pooled([(m - 1e-14, m + 1e-14) for m in masses], norms)
        share = share_interval(mass, size=size, failure_probability=level, num_probes=num_probes)
        failures += not share.low <= count / size <= share.high
    assert failures <= allowed(trials, level)


def test_probes_narrow_the_interval_and_never_widen_a_sure_one() -> None:
    narrow = share_interval((0.01, 0.01), size=1000, failure_probability=1e-3, num_probes=8)
    assert narrow.width < 0.5 * share_interval((0.01, 0.01), size=1000, failure_probability=1e-3).width
    assert share_interval((0.0, 0.0), size=10**9, failure_probability=1e-3).high == 0.0
    assert share_interval((0.0, 1.0), size=10**9, failure_probability=1e-3) == Share(0.5, 0.0, 1.0)
    billion = share_interval((0.25, 0.25), size=10**9, failure_probability=1e-3)
    assert billion.low < 0.25 < billion.high
    assert billion.width < 3e-4


def cycle_of(spectrum: Tensor, steps: int, generator: torch.Generator) -> LanczosCycle:
    return tridiagonalize(lambda v: spectrum * v, uniform(spectrum.numel(), generator), num_matvecs=steps)


def uniform(size: int, generator: torch.Generator) -> Tensor:
    return sphere_vector(size, generator=generator, dtype=torch.float64, device=CPU)


@pytest.mark.parametrize("parts", [(3, 0, 297), (90, 120, 90), (0, 299, 1), (300, 0, 0)])
def test_the_three_shares_hold_together_at_their_level(parts: tuple[int, int, int]) -> None:
    negative, zero, positive = parts
    spectrum = torch.cat(
        [torch.linspace(-2, -0.5, negative), torch.zeros(zero), torch.linspace(1, 5, positive)]
    ).double()
    generator, failures, trials, level = torch.Generator().manual_seed(2), 0, 150, 0.1
    for _ in range(trials):
        cycle = cycle_of(spectrum, 14, generator)
        shares, _ = probe_shares(
            lambda v: spectrum * v,
            partial(uniform, 300),
            cycle,
            size=300,
            zero_tol=1e-9,
            failure_probability=level,
            num_affordable=3,
            max_probes=3,
            generator=generator,
        )
        found = (shares.negative, shares.zero, shares.positive)
        failures += not all(
            s.low <= count / 300 + 1e-12 and count / 300 <= s.high + 1e-12
            for s, count in zip(found, parts, strict=True)
        )
        assert all(share.low <= share.estimate <= share.high for share in found)
        counts = proven_counts(cycle, [], 1e-9, error=1e-13)
        assert counts[0] <= negative
        assert counts[1] <= positive
    assert failures <= allowed(trials, level)


def test_further_probes_are_run_only_where_they_help() -> None:
    generator = torch.Generator().manual_seed(3)
    few = torch.cat([torch.tensor([-3.0, -2.0]), torch.linspace(1, 2, 998)]).double()
    wide = torch.linspace(-1, 1, 1000, dtype=torch.float64)
    used = {}
    for name, spectrum, steps in (("few", few, 20), ("wide", wide, 6)):
        products = 0

        def matvec(v: Tensor, spectrum: Tensor = spectrum) -> Tensor:
            nonlocal products
            products += 1
            return spectrum * v

        options = {"zero_tol": 1e-9, "failure_probability": 1e-3, "max_probes": 8, "generator": generator}
        cycle = cycle_of(spectrum, steps, generator)
        shares, used[name] = probe_shares(matvec, partial(uniform, 1000), cycle, size=1000, num_affordable=6, **options)
        assert products == (used[name] - 1) * steps
        assert (
            shares.negative.width
            <= spectral_shares([cycle], [1.0], size=1000, zero_tol=1e-9, failure_probability=1e-3).negative.width + 0.02
        )
    assert used == {"few": 6, "wide": 1}


def test_measured_directions_prove_a_count_only_beyond_their_residuals() -> None:
    cycle = cycle_of(torch.linspace(1, 2, 50).double(), 5, torch.Generator().manual_seed(0))
    vector = torch.zeros(50)
    firm = [Direction(vector, -1.0, 0.1), Direction(vector, -0.5, 0.1)]
    loose = [Direction(vector, -1.0, 0.4), Direction(vector, -0.5, 0.4)]
    assert proven_counts(cycle, firm, 1e-3, error=1e-3)[0] == 2
    assert proven_counts(cycle, loose, 1e-3, error=1e-3)[0] == 1
    assert at_least(Share(0.1, 0.0, 0.2), 0.15) == Share(0.15, 0.15, 0.2)
    assert at_most(Share(0.5, 0.0, 1.0), 0.4) == Share(0.4, 0.0, 0.4)
