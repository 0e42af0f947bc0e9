"""What a plan takes, and how long the rest of a run does."""

from __future__ import annotations

import pytest

from saddlescope.contract.planning import memory_bytes, plan
from saddlescope.contract.vocabulary import Method, Precision
from saddlescope.curvature.planner import EtaClock, TooLarge, feasible

AUTO = {"method": Method.AUTO, "precision": Precision.AUTO}


def test_a_plan_is_dense_where_that_is_affordable_and_double_where_it_is_cheap_or_given() -> None:
    small = plan(100, **AUTO, max_matvecs=None, has_float64=False)
    assert (small.method, small.precision, small.max_matvecs) == (Method.DENSE, Precision.FLOAT64, 100)
    assert plan(100, **AUTO, max_matvecs=50, has_float64=False).method is Method.LANCZOS
    large = plan(10**6, **AUTO, max_matvecs=None, has_float64=False)
    assert (large.method, large.precision, large.max_matvecs) == (Method.LANCZOS, Precision.FLOAT32, 150)
    assert plan(10**6, **AUTO, max_matvecs=60, has_float64=True).precision is Precision.FLOAT64


def test_memory_counts_matrix_or_basis_and_the_products_kept() -> None:
    n = 10**6
    chosen = plan(n, **AUTO, max_matvecs=60, has_float64=False)
    assert 2 * 60 * 4 * n < memory_bytes(chosen, n) < 2 * 70 * 4 * n
    dense = plan(1000, **AUTO, max_matvecs=None, has_float64=True)
    assert 4 * 8 * 1000**2 <= memory_bytes(dense, 1000) < 4.1 * 8 * 1000**2
    vast = plan(10**9, **AUTO, max_matvecs=None, has_float64=False)
    assert memory_bytes(vast, 10**9) < 8 * 2**30 + 13 * 4 * 10**9


def test_a_forced_dense_hessian_has_its_limit() -> None:
    chosen = plan(20_001, method=Method.DENSE, precision=Precision.AUTO, max_matvecs=None, has_float64=True)
    with pytest.raises(TooLarge, match="lanczos"):
        feasible(chosen, 20_001)
    assert feasible(chosen, 20_000) is chosen


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
