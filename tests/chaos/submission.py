"""A cluster's script: it submits under a key of its own, waits, and tries again until it has its report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

from saddlescope import Client
from saddlescope.client.errors import ConnectionFailed, ServerError, WaitTimeout
from tests.chaos.questions import question
from tests.chaos.site import Site

NUM_SCRIPTS = 6
GIVE_UP_SECONDS = 600.0
# As a script that is started again finds its job under the same key, so one that has waited for this long asks anew.
SLICE_SECONDS = 20.0


def submit_all(site: Site, *, is_enough: Callable[[int], bool], check: Callable[[], None]) -> int:
    """Ask question after question from some scripts at once until it is enough; gives how many verdicts were right.

    `check` is called now and then while a script waits, and may raise.

    Raises:
        JobFailed, JobCancelled: if a job did not succeed.
        WaitTimeout: if one is stuck.
    """
    numbers = _shared(count())
    with ThreadPoolExecutor(NUM_SCRIPTS) as pool:
        scripts = [pool.submit(_script, site, numbers, is_enough, check) for _ in range(NUM_SCRIPTS)]
        return sum(script.result() for script in scripts)


def _script(site: Site, numbers: Iterator[int], is_enough: Callable[[int], bool], check: Callable[[], None]) -> int:
    num_right = 0
    with site.client() as client:
        for number in numbers:
            if is_enough(number):
                break
            num_right += verdict_of(client, number, check) == question(number).verdict
    return num_right


def verdict_of(client: Client, number: int, check: Callable[[], None]) -> str:
    """What the service says in the end, whatever happens to it meanwhile."""
    give_up = time.monotonic() + GIVE_UP_SECONDS
    while True:
        try:
            job = question(number).submit(client, key=f"question {number}", seed=number)
            return str(job.wait(timeout=SLICE_SECONDS).verdict)
        except (ConnectionFailed, ServerError, WaitTimeout):
            check()
            if time.monotonic() > give_up:
                raise


def _shared(numbers: Iterator[int]) -> Iterator[int]:
    """The same numbers for several threads, each once."""
    lock = threading.Lock()

    def take() -> int:
        with lock:
            return next(numbers)

    return iter(take, None)
