"""Laws of outages and losses on one deployment of real processes; `python -m tests.chaos` asks the same for longer."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.chaos.clocks import skewed_worker_changes_nothing
from tests.chaos.lost_workers import killed_run_resumes, poison_is_given_up, zombie_wakes
from tests.chaos.outages import broker_forgets, broker_is_away, database_is_away
from tests.chaos.site import Site, open_site

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]  # a busy machine starts a worker in a minute
SHORT_LEASE_SECONDS = 5.0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with open_site(folder, database="postgresql", lease_seconds=SHORT_LEASE_SECONDS) as site:
        yield site


def test_submissions_are_accepted_and_run_while_the_broker_is_down(site: Site) -> None:
    broker_is_away(site, seconds=2)


def test_a_run_goes_on_while_the_database_is_down_and_is_not_repeated(site: Site) -> None:
    database_is_away(site, seconds=3)


def test_a_broker_that_forgets_a_full_queue_loses_no_job(site: Site) -> None:
    broker_forgets(site, num_jobs=10)


def test_a_killed_run_resumes_where_it_was_saved_and_reports_the_same(site: Site) -> None:
    killed_run_resumes(site)


def test_a_poison_job_stops_after_three_attempts_with_its_evidence(site: Site) -> None:
    poison_is_given_up(site)


def test_a_zombie_changes_nothing_when_it_wakes_and_works_on(site: Site) -> None:
    zombie_wakes(site)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="the shifted clock is compiled by gcc")
def test_a_worker_whose_clock_is_an_hour_ahead_changes_nothing(site: Site) -> None:
    skewed_worker_changes_nothing(site, num_jobs=3)
