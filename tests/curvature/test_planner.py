"""What a plan is said to cost and buy."""

from __future__ import annotations

import math

import pytest

from saddlescope.contract.vocabulary import Method, Precision
from saddlescope.curvature.planner import EtaClock, estimate, matvecs_for_gap, plan, planned_gap


def test_the_planned_gap_solves_the_bound_of_kuczynski_and_wozniakowski() -> None:
    n, k, p = 10**6, 100, 1e-3
    gap = planned_gap(n, k, failure_probability=p)
    assert 1.648 * math.sqrt(n) * math.exp(-math.sqrt(gap) * (2 * k - 1)) == pytest.approx(p)
    needed = matvecs_for_gap(n, gap, failure_probability=p)
    assert needed in (k, k + 1)
    assert planned_gap(n, matvecs_for_gap(n, 1e-4, failure_probability=p), failure_probability=p) <= 1e-4
    assert matvecs_for_gap(10, 1e-12, failure_probability=p) == 10


def test_an_estimate_counts_products_seconds_and_the_basis() -> None:
    chosen = plan(10**6, method=Method.AUTO, precision=Precision.FLOAT32, max_matvecs=60, has_float64=False)
    found = estimate(chosen, 10**6, gradient_seconds=1.0, matvec_seconds=2.0, failure_probability=1e-3, kept_bytes=7)
    assert found.matvecs == 60
    assert found.seconds == 65 * 2.0 + 6 * 1.0
    assert 60 * 4 * 10**6 < found.memory_bytes < 80 * 4 * 10**6
    assert "except with probability 0.001" in found.certificate
    dense = plan(100, method=Method.AUTO, precision=Precision.AUTO, max_matvecs=None, has_float64=True)
    exact = estimate(dense, 100, gradient_seconds=1.0, matvec_seconds=1.0, failure_probability=1e-3)
    assert exact.matvecs == 100
    assert "every eigenvalue" in exact.certificate


def test_the_clock_says_nothing_before_a_product_and_follows_a_change_of_pace() -> None:
    clock = EtaClock(smoothing=0.5)
    assert clock.remaining_seconds(10) is None
    clock.tick(0, 100.0)
    assert clock.remaining_seconds(10) is None
    clock.tick(4, 104.0)
    assert clock.remaining_seconds(10) == pytest.approx(10.0)
    clock.tick(4, 105.0)  # nothing ended: this second belongs to the next product
    clock.tick(5, 107.0)
    assert clock.seconds_per_matvec == pytest.approx(2.0)
    for done in range(6, 40):
        clock.tick(done, 107.0 + 5.0 * (done - 5))
    assert clock.remaining_seconds(2) == pytest.approx(10.0, rel=1e-6)
    assert clock.remaining_seconds(-1) == 0.0
