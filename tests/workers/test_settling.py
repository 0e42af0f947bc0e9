"""When a lapsed lease may be believed: rounds of moments of the database's clock against the rule in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from workers.settling import Settling

START = datetime(2026, 1, 2, tzinfo=UTC)


def settled(*seconds: float, lease: float = 60) -> list[bool]:
    settling = Settling(lease)
    return [settling.saw(START + timedelta(seconds=second)) for second in seconds]


def test_a_new_worker_believes_in_no_dead_one_for_a_whole_lease() -> None:
    assert settled(0, 15, 30, 45, 60, 75, 90) == [False] * 5 + [True] * 2


def test_an_outage_of_the_database_starts_the_wait_anew() -> None:
    assert settled(0, 30, 61, 200, 215, 230, 245, 260, 275) == [False] * 8 + [True]


def test_a_clock_that_is_set_forward_or_back_starts_the_wait_anew() -> None:
    assert settled(0, 30, 60, 61, 3661, 3680) == [False, False, False, True, False, False]
    assert settled(0, 30, 60, 61, -3539, -3520) == [False, False, False, True, False, False]
