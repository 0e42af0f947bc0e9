"""A real browser on a real service, with jobs of every kind in it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from e2e_service import Service
from playwright.sync_api import Browser, ConsoleMessage, Page, Response, sync_playwright

SCREENSHOTS = Path(os.environ.get("SADDLESCOPE_SCREENSHOTS", "build/screenshots"))
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
SCHEMES = ("light", "dark")
DESK, PHONE = (1280, 900), (390, 844)
# Points of the lecture's saddle, of a valley of minima, and of what is no critical point.
STEPS = ((0.0, 0.0), (0.3, 0.2), (0.6, 0.7), (0.9, 0.8), (1.0, 1.0))


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield browser
        browser.close()


def populate(service: Service) -> dict[str, str]:
    """Ids of jobs by what they are; two runs of several steps."""
    jobs = {}
    for run, scale in (("toy-7", 1.0), ("toy-8", 1.2)):
        for number, (w1, w2) in enumerate(STEPS):
            job = service.post(
                {
                    "checkpoint": {"inline": {"w1": w1 * scale, "w2": w2}},
                    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
                    "run": {"id": run, "step": 100 * number, "name": f"Toy {run[-1]}"},
                    "labels": {"team": "vision"},
                },
                wait=30,
            )
            jobs[f"{run} {number}"] = str(job["id"])
    weights = [0.02 * ((37 * i) % 101 - 50) for i in range(120)]
    wide = {
        "checkpoint": {"inline": {"w": weights, "b": [0.1] * 8}},
        "loss": {"kind": "expression", "expression": "sum((1 - w*w)**2)/120 + sum(b**4)"},
    }
    jobs["wide"] = str(service.post(wide, wait=30)["id"])
    jobs["lanczos"] = str(service.post(wide | {"options": {"method": "lanczos", "max_matvecs": 40}}, wait=30)["id"])
    failing = {"checkpoint": {"inline": {"w": 0.0}}, "loss": {"kind": "expression", "expression": "log(w)"}}
    jobs["failed"] = str(service.post(failing, wait=30)["id"])
    return jobs


class Watch:
    """What a page complained of, but for answers of a status that is expected."""

    def __init__(self, page: Page, forgiven_status: str | None = None) -> None:
        self.errors: list[str] = []
        self._forgiven = f"status of {forgiven_status} "
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("response", self._answered)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and self._forgiven not in message.text:
            self.errors.append(message.text)

    def _answered(self, response: Response) -> None:
        if response.status >= 500:
            self.errors.append(f"{response.status} {response.url}")


def serious(page: Page, *, only: Sequence[str] = ()) -> list[str]:
    """What axe-core finds that keeps somebody out, by all of its rules or by some."""
    # As a bookmarklet would: the page's own policy takes no foreign script.
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8") + "; undefined")
    options = {"resultTypes": ["violations"]} | ({"runOnly": list(only)} if only else {})
    found = page.evaluate("options => axe.run(document, options)", options)
    return [
        f"{rule['id']}: {node['html'][:200]}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
