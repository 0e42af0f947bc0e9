"""Lanczos, its certificate and its quadrature as theorems on operators with a prescribed spectrum."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import saddlescope
from saddlescope.curvature.certificate import lambda_max_bound, lambda_min_bound, mass_quantile
from saddlescope.curvature.lanczos import LanczosCycle, sphere_vector, tridiagonal, tridiagonalize
from saddlescope.curvature.quadrature import mass_below, regularized_beta, share_interval

CPU = torch.device("cpu")


def cycle_of(spectrum: Tensor, steps: int, seed: int) -> LanczosCycle:
    generator = torch.Generator().manual_seed(seed)
    start = sphere_vector(spectrum.numel(), generator=generator, dtype=torch.float64, device=CPU)
    return tridiagonalize(lambda v: spectrum * v, start, num_matvecs=steps)


spectra = st.lists(
    st.one_of(st.sampled_from([-1.0, 0.0, 1e-8, 1.0, 1.0 + 1e-8]), st.floats(-5, 5)), min_size=2, max_size=60
).map(lambda values: torch.tensor(values, dtype=torch.float64))


@given(spectrum=spectra, seed=st.integers(0, 2**31), share=st.floats(0.1, 1.0))
@settings(max_examples=150, deadline=None)
def test_the_lanczos_relation_holds_and_the_basis_is_orthonormal(spectrum: Tensor, seed: int, share: float) -> None:
    n = spectrum.numel()
    cycle = cycle_of(spectrum, max(1, int(share * n)), seed)
    scale = max(spectrum.abs().max().item(), 1e-300)
    Q, T = cycle.basis.T, tridiagonal(cycle.alpha, cycle.beta[:-1])
    residual = spectrum[:, None] * Q - Q @ T
    assert residual[:, :-1].norm() <= 1e-12 * scale * math.sqrt(n)
    assert residual[:, -1].norm().item() == pytest.approx(cycle.beta[-1].item(), abs=1e-12 * scale)
    assert (cycle.basis @ Q - torch.eye(cycle.num_steps)).abs().max() <= 1e-10


@given(spectrum=spectra, seed=st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_every_ritz_value_has_an_eigenvalue_within_its_residual_norm(spectrum: Tensor, seed: int) -> None:
    ritz = cycle_of(spectrum, max(1, spectrum.numel() // 2), seed).ritz()
    gaps = (ritz.values[:, None] - spectrum[None, :]).abs().min(dim=1).values
    assert (gaps <= ritz.residual_norms + 1e-12 * (1 + spectrum.abs().max())).all()
    assert ritz.weights.sum().item() == pytest.approx(1.0)


def test_an_exhausted_krylov_space_stops_early() -> None:
    cycle = cycle_of(torch.tensor([1.0, 1.0, 1.0, -2.0, -2.0], dtype=torch.float64), 5, seed=0)
    assert cycle.is_exhausted
    assert cycle.num_steps == 2
    assert cycle.ritz().values.tolist() == pytest.approx([-2.0, 1.0])


@pytest.mark.parametrize("probability", [0.3, 0.05])
@pytest.mark.parametrize(("size", "steps"), [(400, 12), (2, 1), (3, 2), (50, 6)])
def test_the_certificate_fails_no_more_often_than_it_says(probability: float, size: int, steps: int) -> None:
    spectrum = torch.cat([torch.tensor([-0.3]), torch.linspace(0.5, 10, size - 1)]).double()
    trials, low_failures, high_failures = 600, 0, 0
    for seed in range(trials):
        cycle = cycle_of(spectrum, steps, seed)
        bounds = {"size": size, "failure_probability": probability, "product_error": 1e-15}
        low_failures += lambda_min_bound(cycle, **bounds) > -0.3
        high_failures += lambda_max_bound(cycle, **bounds) < 10.0 if size > 2 else 0
    allowed = probability * trials + 3.5 * math.sqrt(trials * probability * (1 - probability))
    assert low_failures <= allowed
    assert high_failures <= allowed


def test_the_certificate_is_tight() -> None:
    spectrum = torch.linspace(-1, 10, 2000, dtype=torch.float64)
    gaps = []
    for seed in range(20):
        cycle = cycle_of(spectrum, 60, seed)
        bound = lambda_min_bound(cycle, size=2000, failure_probability=1e-3, product_error=1e-15)
        gaps.append(cycle.ritz().values[0].item() - bound)
    assert max(gaps) < 0.1  # one percent of the spread


@pytest.mark.parametrize("size", [2, 3, 10, 1000])
def test_the_mass_quantile_is_below_the_empirical_one(size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(20_000, size, generator=generator, dtype=torch.float64)
    masses = vectors[:, 0] ** 2 / (vectors**2).sum(1)
    for probability in (0.02, 0.1):
        share = (masses < mass_quantile(size, probability)).double().mean().item()
        assert probability * 0.85 <= share <= probability + 3.5 * math.sqrt(probability / 20_000)


@given(spectrum=spectra, seed=st.integers(0, 2**31), point=st.floats(-5, 5))
@settings(max_examples=200, deadline=None)
def test_the_radau_rule_brackets_the_probes_mass(spectrum: Tensor, seed: int, point: float) -> None:
    n = spectrum.numel()
    generator = torch.Generator().manual_seed(seed)
    start = sphere_vector(n, generator=generator, dtype=torch.float64, device=CPU)
    low, high = mass_below(tridiagonalize(lambda v: spectrum * v, start, num_matvecs=max(1, n // 3)), point)
    scale = spectrum.abs().max().item()
    assert low <= start[spectrum < point + 1e-9 * scale].square().sum().item() + 1e-9
    assert high >= start[spectrum < point - 1e-9 * scale].square().sum().item() - 1e-9


def test_the_share_interval_covers_the_truth() -> None:
    spectrum, failures = torch.linspace(-1, 3, 1000, dtype=torch.float64), 0
    for seed in range(200):
        share = share_interval(mass_below(cycle_of(spectrum, 40, seed), 0.0), size=1000, failure_probability=0.1)
        failures += not share.low <= 0.25 <= share.high
    assert failures <= 0.1 * 200 + 3 * math.sqrt(200 * 0.09)


def test_regularized_beta_against_closed_forms_and_symmetry() -> None:
    for x in (0.0, 0.01, 0.3, 0.77, 1.0):
        assert regularized_beta(x, 1.0, 1.0) == pytest.approx(x)
        assert regularized_beta(x, 0.5, 0.5) == pytest.approx(2 / math.pi * math.asin(math.sqrt(x)))
        assert regularized_beta(x, 3.0, 1.0) == pytest.approx(x**3)
        assert regularized_beta(x, 7.5, 20.0) == pytest.approx(1 - regularized_beta(1 - x, 20.0, 7.5))
    assert regularized_beta(0.3, 3e5, 7e5) == pytest.approx(0.5, abs=1e-3)


def reflected(spectrum: Tensor):
    normal = torch.randn(spectrum.numel(), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    normal = normal / normal.norm()

    def loss(t: dict[str, Tensor]) -> Tensor:
        y = t["x"] - 2 * normal * torch.dot(normal, t["x"])
        return 0.5 * (spectrum * y * y).sum()

    return loss


@pytest.mark.parametrize(
    ("spectrum", "verdicts"),
    [
        (torch.cat([torch.tensor([-0.1]), torch.linspace(0.5, 10, 9_999)]), {"saddle"}),
        (torch.linspace(1, 10, 10_000), {"local_minimum"}),
        (torch.linspace(-10, -1, 10_000), {"local_maximum"}),
        (torch.cat([torch.zeros(100), torch.linspace(1, 10, 9_900)]), {"undecided"}),
    ],
    ids=["one negative", "positive", "negative", "kernel"],
)
def test_matrix_free_verdicts_are_right_or_undecided(spectrum: Tensor, verdicts: set[str]) -> None:
    n = spectrum.numel()
    report = saddlescope.analyze(
        reflected(spectrum.double()), {"x": torch.zeros(n, dtype=torch.float64)}, landscape=False, max_matvecs=120
    )
    assert report.verdict in verdicts, report.summary
    assert report.lambda_min.low <= spectrum.min().item() + 1e-9
    assert report.lambda_max.high >= spectrum.max().item() - 1e-9
    assert not report.inertia.exact
    share = (spectrum > 1e-9).double().mean().item()
    assert report.minimum_ratio.low <= share <= report.minimum_ratio.high
    if "saddle" in verdicts:
        assert report.lambda_min.estimate == pytest.approx(-0.1, abs=1e-2)
        assert report.escapes[0].verified


def test_dense_and_lanczos_agree_on_a_network() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=generator, dtype=torch.float64)
    theta = {
        "W": torch.randn(8, 4, generator=generator, dtype=torch.float64) * 0.1,
        "v": torch.randn(8, generator=generator, dtype=torch.float64) * 0.1,
    }

    def loss(t: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        return ((torch.tanh(batch["x"] @ t["W"].T) @ t["v"] - batch["x"][:, 0] * batch["x"][:, 1]) ** 2).mean()

    dense = saddlescope.analyze(loss, theta, {"x": x}, landscape=False)
    free = saddlescope.analyze(loss, theta, {"x": x}, landscape=False, method="lanczos", max_matvecs=40)
    assert dense.verdict == free.verdict
    assert free.lambda_min.estimate == pytest.approx(dense.lambda_min.estimate, abs=1e-6)
    assert free.lambda_max.estimate == pytest.approx(dense.lambda_max.estimate, rel=1e-6)
    assert free.minimum_ratio.low <= dense.minimum_ratio.estimate <= free.minimum_ratio.high


def test_the_same_seed_reproduces_the_report() -> None:
    loss, theta = reflected(torch.linspace(-1, 3, 6000).double()), {"x": torch.zeros(6000, dtype=torch.float64)}
    first, second = (saddlescope.analyze(loss, theta, landscape=False, seed=7) for _ in range(2))
    other = saddlescope.analyze(loss, theta, landscape=False, seed=8)
    assert first.spectrum == second.spectrum
    assert first.lambda_min == second.lambda_min
    assert first.lambda_min != other.lambda_min
