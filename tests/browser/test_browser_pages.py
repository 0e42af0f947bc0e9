"""Every page, in light and dark and on a phone: nothing keeps anybody out, nothing is cut off, nothing complains.

Pictures of all of them are left where a person can look at them (`build/screenshots`, or SADDLESCOPE_SCREENSHOTS).
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from browsing import DESK, PHONE, SCHEMES, SCREENSHOTS, populate, serious
from e2e_service import Service
from playwright.sync_api import Page

pytestmark = pytest.mark.browser
Open = Callable[..., Page]
PAGES = {
    "jobs": "/",
    "runs": "/?group=run",
    "nothing-found": "/?q=nothing",
    "saddle": "/jobs/{toy-7 0}",
    "minimum": "/jobs/{toy-7 4}",
    "lanczos": "/jobs/{lanczos}",
    "failed": "/jobs/{failed}",
    "run": "/runs/toy-7?with=toy-8",
    "landscape": "/landscape",
    "landscape-triple": "/landscape?against=triple",
    "compare": "/compare?job={toy-7 0}&job={toy-8 1}&job={wide}",
    "submit": "/submit",
    "health": "/health",
    "api": "/docs",
    "problems": "/problems",
}


@pytest.fixture(scope="module")
def jobs(service: Service) -> dict[str, str]:
    return populate(service)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_for_everybody(name: str, jobs: dict[str, str], open_page: Open) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    address = re.sub(r"\{([^}]+)\}", lambda found: jobs[found[1]], PAGES[name])
    page = open_page(size=DESK)
    page.goto(address)
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        # What is no colour is the same in both.
        assert serious(page, only=() if scheme == SCHEMES[0] else ["color-contrast"]) == []
        page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}.png", full_page=True)
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    page.screenshot(path=SCREENSHOTS / f"{name}-phone.png", full_page=True)
