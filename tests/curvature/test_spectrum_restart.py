"""Thick restarts, deflation and two-pass Lanczos against the prescribed spectrum of a rotated diagonal operator."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saddlescope.curvature.extremes import EndsGoal, Extremes, find_extremes, measured_direction
from saddlescope.curvature.lanczos import sphere_vector, tridiagonalize
from saddlescope.curvature.restart import KrylovSpace, Pairs, outermost, run
from saddlescope.curvature.two_pass import outermost_vectors

CPU = torch.device("cpu")
Matvec = Callable[[Tensor], Tensor]


def rotated(spectrum: Tensor) -> Matvec:
    normal = sphere_vector(
        spectrum.numel(), generator=torch.Generator().manual_seed(99), dtype=spectrum.dtype, device=CPU
    )

    def reflect(v: Tensor) -> Tensor:
        return v - 2 * torch.dot(normal, v) * normal

    return lambda v: reflect(spectrum * reflect(v))


def random_start(size: int, seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    return sphere_vector(size, generator=generator, dtype=dtype, device=CPU), generator


def search(spectrum: Tensor, *, rows: int, budget: int, wanted: int, seed: int = 0, tau: float = 1e-12) -> Extremes:
    start, generator = random_start(spectrum.numel(), seed, spectrum.dtype)
    matvec = rotated(spectrum)
    goal = EndsGoal(tolerance_of=lambda scale: tau * scale, num_directions=wanted)
    counted = 0

    def counting(v: Tensor) -> Tensor:
        nonlocal counted
        counted += 1
        return matvec(v)

    def met(cycle) -> bool:
        ritz = cycle.ritz()
        return cycle.num_steps >= 20 and goal.is_met(ritz.values, ritz.residual_norms)

    cycle = tridiagonalize(counting, start, num_matvecs=min(rows, spectrum.numel()), should_stop=met)
    steps = cycle.num_steps
    extremes = find_extremes(
        counting,
        cycle,
        goal,
        is_settled=met(cycle),
        max_matvecs=budget - steps,
        generator=generator,
        on_progress=lambda *_: None,
    )
    assert counted == steps + extremes.num_matvecs + len(extremes.lowest) + 1
    assert steps + extremes.num_matvecs <= budget
    return extremes


spectra = st.lists(
    st.one_of(st.sampled_from([-1.0, -1e-6, 0.0, 1e-8, 1.0, 1.0 + 1e-8]), st.floats(-5, 5)), min_size=8, max_size=60
).map(lambda values: torch.tensor(values, dtype=torch.float64))


@given(spectrum=spectra, seed=st.integers(0, 2**31), rows=st.integers(6, 12))
@settings(max_examples=80, deadline=None)
def test_the_krylov_relation_survives_restarts_and_deflation(spectrum: Tensor, seed: int, rows: int) -> None:
    n, matvec = spectrum.numel(), rotated(spectrum)
    start, generator = random_start(n, seed)
    cycle = tridiagonalize(matvec, start, num_matvecs=min(rows, n - 2))
    space = KrylovSpace(cycle)
    scale = spectrum.abs().max().item() + 1e-300

    def never(_: Pairs) -> bool:
        return False

    def check(pairs: Pairs) -> None:
        for index in range(pairs.values.numel()):
            found = measured_direction(matvec, space.vector(pairs.coefficients[:, index]))
            assert found.residual_norm <= pairs.residual_norms[index].item() + 1e-11 * scale
            if not space.is_exhausted and pairs.residual_norms[index] <= 1e-6 * scale:
                assert found.curvature == pytest.approx(pairs.values[index].item(), abs=1e-11 * scale)
        gram = torch.stack([space.vector(row) for row in torch.eye(space.size, dtype=torch.float64)])
        assert (gram @ gram.T - torch.eye(space.size)).abs().max() <= 1e-12

    run(space, matvec, max_matvecs=17, lowest=2, should_stop=never)
    check(space.ritz())
    pairs, count = space.ritz(), min(2, space.size)
    space.deflate(pairs, torch.arange(count), sphere_vector(n, generator=generator, dtype=torch.float64, device=CPU))
    run(space, matvec, max_matvecs=9, lowest=2, should_stop=never, first=count)
    # What was locked before it had converged is coupled to the rest; the bounds say by how much.
    check(space.locked(count))
    check(space.ritz())
    assert space.num_matvecs <= 26


@pytest.mark.parametrize("rows", [12, 20, 40])
@pytest.mark.parametrize("gap", [1.0, 1e-2])
def test_restarts_find_in_a_small_basis_what_needs_a_long_cycle(rows: int, gap: float) -> None:
    spectrum = torch.cat([torch.tensor([-gap]), torch.linspace(0, 10, 1999)]).double()
    found = search(spectrum, rows=rows, budget=1500, wanted=3)
    assert found.is_settled
    assert found.lowest[0].curvature == pytest.approx(-gap, rel=0.02)
    assert found.lowest[0].residual_norm <= min(1e-2, 0.11 * gap)
    assert found.highest.curvature == pytest.approx(10.0, abs=1e-2)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "lowest",
    [[-5.0, -5.0, -5.0, -1.0], [-5.0, -5.0 + 1e-8, -2.0, -2.0], [-1.0, -1.0], [-3.0]],
    ids=["triple", "cluster", "double", "single"],
)
def test_copies_of_a_negative_eigenvalue_are_found_and_none_is_invented(lowest: list[float], seed: int) -> None:
    spectrum = torch.cat([torch.tensor(lowest), torch.linspace(0.5, 10, 600)]).double()
    found = search(spectrum, rows=200, budget=600, wanted=4, seed=seed)
    assert [direction.curvature for direction in found.lowest] == pytest.approx(lowest, abs=1e-3)
    vectors = torch.stack([direction.vector for direction in found.lowest])
    assert (vectors @ vectors.T - torch.eye(len(lowest))).abs().max() <= 1e-10


def test_an_exhausted_space_still_yields_the_copies() -> None:
    spectrum = torch.tensor([-2.0] * 3 + [1.0] * 40 + [4.0] * 7, dtype=torch.float64)
    found = search(spectrum, rows=30, budget=50, wanted=4)
    assert len(found.lowest) >= 2
    assert all(direction.curvature == pytest.approx(-2.0) for direction in found.lowest)
    assert len(found.lowest) <= 3


@pytest.mark.parametrize("sign", [1, -1])
def test_an_eigenvalue_a_millionth_of_the_norm_has_its_sign_or_is_left_open(sign: int) -> None:
    spectrum = torch.cat([torch.tensor([sign * 1e-6]), torch.linspace(0.05, 1, 1499)]).double()
    found = search(spectrum, rows=60, budget=800, wanted=2)
    assert found.is_settled
    assert found.lowest[0].curvature == pytest.approx(sign * 1e-6, rel=0.1)


def test_without_convergence_nothing_is_called_settled() -> None:
    found = search(torch.linspace(-1, 1, 3000, dtype=torch.float64), rows=24, budget=40, wanted=8)
    assert not found.is_settled
    assert -1 <= found.lowest[0].curvature < 0 < found.highest.curvature <= 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_two_passes_prove_negative_curvature_in_five_vectors(dtype: torch.dtype) -> None:
    spectrum = torch.cat([torch.tensor([-0.5]), torch.linspace(0, 10, 3000)]).to(dtype)
    start, _ = random_start(3001, 0, dtype)
    counted = 0

    def matvec(v: Tensor) -> Tensor:
        nonlocal counted
        counted += 1
        return rotated(spectrum)(v)

    low, high = outermost_vectors(matvec, start, num_matvecs=240)  # long enough to lose orthogonality
    assert counted <= 240
    assert measured_direction(rotated(spectrum), low).curvature == pytest.approx(-0.5, abs=1e-4)
    assert measured_direction(rotated(spectrum), high).curvature == pytest.approx(10.0, abs=1e-4)
    found = search(spectrum, rows=4, budget=200, wanted=4, tau=1e-5)
    assert found.lowest[0].curvature == pytest.approx(-0.5, abs=1e-2)


def test_a_tiny_basis_makes_do_with_an_invariant_space() -> None:
    low, high = outermost_vectors(lambda v: 3 * v, torch.ones(5, dtype=torch.float64), num_matvecs=2)
    assert low == pytest.approx(high)
    assert low.norm().item() == pytest.approx(1.0)


@given(num_pairs=st.integers(3, 200), lowest=st.integers(1, 50))
def test_a_restart_keeps_both_ends_and_makes_room(num_pairs: int, lowest: int) -> None:
    kept = outermost(num_pairs, lowest=lowest).tolist()
    assert kept == sorted(set(kept))
    assert kept[0] == 0
    assert kept[-1] == num_pairs - 1
    assert len(kept) < num_pairs
    assert len(kept) <= max(2, math.ceil(0.63 * num_pairs))
