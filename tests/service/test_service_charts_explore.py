"""Explore mode in a real browser, under the policy of the dashboard; and what words really take there."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

import pytest
from playwright.sync_api import Locator, Page, Route, sync_playwright

from saddlescope.contract.reports import Landscape, LandscapePoint, Spectrum
from saddlescope.contract.vocabulary import Verdict
from service.charts import (
    Bracket,
    Checkpoint,
    Series,
    contour_chart,
    history_charts,
    overlay_chart,
    ratio_chart,
    spectrum_chart,
    surface_chart,
)
from service.svg import Picture

pytestmark = pytest.mark.browser
ADDRESS = "http://charts.test"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'"


def pictures() -> list[Picture]:
    axis = (-1.0, -0.5, 0.0, 0.5, 1.0)
    plane = Landscape(
        x_label="escape direction", y_label="highest curvature", x=axis, y=axis, escape=LandscapePoint(x=0.5, y=0.0),
        loss=tuple(tuple(2.3 + y * y - x * x for x in axis) for y in axis),
        quadratic=tuple(tuple(2.3 + y * y - x * x for x in axis) for y in axis),
    )  # fmt: skip
    values = tuple(sorted((-1) ** place * 10.0 ** (place / 20 - 3) for place in range(100)))
    spectrum = Spectrum(exact=True, num_parameters=100, zero_tol=1e-3, spectral_scale=1.0, eigenvalues=values)
    found = [
        Checkpoint(
            job=f"job_{place}", step=place * 100, verdict=verdict, loss=2.0 / (place + 1), gradient_norm=0.1,
            lambda_min=-0.1, lambda_max=1e3, index=0.1 * place, minimum_ratio=Bracket(0.5, 0.4, 0.6), inertia=(1, 2, place),
        )
        for place, verdict in enumerate(Verdict)
    ]  # fmt: skip
    drawn = [
        spectrum_chart(spectrum),
        contour_chart(plane),
        surface_chart(plane),
        *history_charts([Series("one", found), Series("two", found[::2])]),
        ratio_chart(found, against="ratio"),
        ratio_chart(found, against="triple"),
        overlay_chart([("first", spectrum), ("second", spectrum)]),
    ]
    return [picture for picture in drawn if picture is not None]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """All pictures on one page that allows only what the dashboard allows; a complaint of the console is an error."""
    body = "".join(f"<figure>{picture.render()}</figure>" for picture in pictures())
    html = (
        '<!doctype html><html lang="en"><head><title>Pictures</title><link rel="stylesheet" href="/chart.css">'
        f'<script type="module" src="/explore.js"></script></head><body>{body}</body></html>'
    )

    def answer(route: Route) -> None:
        name = route.request.url.removeprefix(ADDRESS + "/")
        headers = {"content-security-policy": POLICY}
        if name in ("chart.css", "explore.js"):
            kind = "text/css" if name.endswith("css") else "text/javascript"
            text = files("service").joinpath("static", name).read_text(encoding="utf-8")
            route.fulfill(body=text, content_type=kind, headers=headers)
        else:
            route.fulfill(body=html, content_type="text/html; charset=utf-8", headers=headers)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 700, "height": 900})
        complaints: list[str] = []
        opened.on("console", lambda message: complaints.append(message.text))
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.route(f"{ADDRESS}/**", answer)
        opened.goto(f"{ADDRESS}/pictures")
        opened.wait_for_selector("svg.explored")
        yield opened
        browser.close()
        assert complaints == []


@pytest.fixture
def chart(page: Page) -> Iterator[Locator]:
    """The spectrum, focused, whole again afterwards."""
    first = page.locator("svg.chart").first
    first.scroll_into_view_if_needed()
    first.focus()
    yield first
    first.press("0")
    first.blur()


def view(chart: Locator) -> list[float]:
    return [float(value) for value in (chart.get_attribute("viewBox") or "").split()]


def test_every_picture_is_explored(page: Page) -> None:
    assert (
        page.locator("svg.chart").count() == page.locator("svg.chart.explored[tabindex='0']").count() == len(pictures())
    )


def test_keys_zoom_pan_and_reset(chart: Locator) -> None:
    home = view(chart)
    chart.press("+")
    near = view(chart)
    assert near[2] < home[2]
    assert near[2] / near[3] == pytest.approx(home[2] / home[3])
    chart.press("Shift+ArrowRight")
    assert view(chart)[0] > near[0]
    for _ in range(40):
        chart.press("Shift+ArrowRight")
    at = view(chart)
    # The view stays inside the picture.
    assert at[0] + at[2] <= home[0] + home[2] + 1e-6
    chart.press("-")
    chart.press("-")
    assert view(chart) == home
    chart.press("+")
    chart.press("Escape")
    assert view(chart) == home


def test_the_wheel_zooms_about_the_pointer_and_a_drag_pans(page: Page, chart: Locator) -> None:
    box = chart.bounding_box()
    assert box is not None
    home = view(chart)
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -100)
    page.wait_for_selector("svg.chart.zoomed")
    near = view(chart)
    assert near[0] + near[2] / 4 == pytest.approx(home[0] + home[2] / 4, abs=1)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4 - 30, box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    assert view(chart)[0] == pytest.approx(near[0] + 30 / box["width"] * near[2], rel=1e-3)


def test_a_wheel_over_a_picture_without_the_focus_scrolls_the_page(page: Page) -> None:
    page.evaluate("scrollTo(0, 0)")
    second = page.locator("svg.chart").nth(1)
    box = second.bounding_box()
    assert box is not None
    before = view(second)
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.wheel(0, 120)
    for _ in range(500):
        if page.evaluate("scrollY") > 0:
            break
        page.wait_for_timeout(10)
    assert page.evaluate("scrollY") > 0
    assert view(second) == before
    page.evaluate("scrollTo(0, 0)")


def test_arrows_go_from_mark_to_mark_and_say_each(page: Page, chart: Locator) -> None:
    tip = page.locator(".chart-tip")
    said = []
    for _ in range(3):
        chart.press("ArrowRight")
        said.append(tip.inner_text())
        assert chart.locator(".visited").count() == 1
    assert len(set(said)) == 3
    chart.press("ArrowLeft")
    assert tip.inner_text() == said[1]
    chart.blur()
    assert tip.is_hidden()


def test_a_pointer_over_a_mark_shows_its_words_once(page: Page) -> None:
    link = page.locator("svg.chart a[href='/jobs/job_3']").first
    link.scroll_into_view_if_needed()
    link.hover()
    assert "step 300" in page.locator(".chart-tip").inner_text()
    # The browser's own tip would come on top of it.
    assert page.locator("svg.chart title").count() == 0
    page.mouse.move(0, 0)


def test_a_mark_that_is_a_link_leads_to_its_job(page: Page) -> None:
    link = page.locator("svg.chart a[href='/jobs/job_3']").first
    link.scroll_into_view_if_needed()
    link.click()
    page.wait_for_url(f"{ADDRESS}/jobs/job_3")
    page.go_back()
    page.wait_for_selector("svg.explored")


def test_words_stand_apart_as_the_browser_draws_them(page: Page) -> None:
    touching = page.evaluate(
        """() => [...document.querySelectorAll('svg.chart')].flatMap(chart => {
          const outside = chart.getBoundingClientRect();
          const words = [...chart.querySelectorAll('text')].map(node => [node.textContent, node.getBoundingClientRect()]);
          const cut = words.filter(([, box]) => box.left < outside.left - 1 || box.right > outside.right + 1);
          const pairs = words.flatMap(([one, a], place) => words.slice(place + 1).filter(([, b]) =>
            a.left + 1 < b.right && b.left + 1 < a.right && a.top + 3 < b.bottom && b.top + 3 < a.bottom)
            .map(([other]) => `${one} | ${other}`));
          return [...cut.map(([one]) => `cut: ${one}`), ...pairs];
        })"""
    )
    assert touching == []


def test_what_a_live_page_puts_in_later_is_explored_too(page: Page) -> None:
    page.evaluate("document.body.append(document.querySelector('svg.chart').parentElement.cloneNode(true))")
    page.evaluate("document.body.lastElementChild.firstElementChild.classList.remove('explored')")
    page.evaluate("document.body.append(document.createElement('p'))")
    page.wait_for_selector("figure:last-of-type svg.explored")
