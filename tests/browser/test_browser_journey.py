"""What a person does with the dashboard, done in a browser on the whole service."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable

import pytest
from browsing import PHONE, STEPS
from e2e_service import TOY, Service, long_job
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
Open = Callable[..., Page]
# How far what is seen has moved by itself.
SHIFTS = """
    window.shifted = 0;
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
    }).observe({type: "layout-shift", buffered: true});
"""


def points(service: Service, run: str) -> list[str]:
    """The ids of the jobs of a run of two saddles and more."""
    requests = [
        TOY | {"checkpoint": {"inline": {"w1": w1, "w2": w2}}, "run": {"id": run, "step": step}, "force": True}
        for step, (w1, w2) in enumerate([*STEPS[:2], STEPS[0]])
    ]
    return [str(service.post(request, wait=30)["id"]) for request in requests]


def test_from_a_form_to_the_verdict_and_the_way_out(service: Service, open_page: Open) -> None:
    # The browser notes that a form was refused.
    page = open_page(forgiving="422", permissions=["clipboard-read", "clipboard-write"])
    page.goto("/")
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
    page.get_by_role("button", name="Copy").first.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert f"{service.client.base_url}".rstrip("/") + "/v1/jobs" in page.evaluate("navigator.clipboard.readText()")
    page.get_by_role("link", name="Submit a checkpoint").click()
    page.get_by_role("textbox", name="Expression").fill("(1 - w1*w2")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_contain_text("It was not taken")
    expect(page.get_by_role("textbox", name="Expression")).to_have_value(
        "(1 - w1*w2"
    )  # nothing has to be written twice
    page.get_by_role("textbox", name="Expression").fill("(1 - w1*w2)**2")
    page.get_by_label("Run", exact=True).fill("first")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Saddle")
    with page.expect_download() as download:
        page.get_by_role("link", name="0.safetensors").click()
    job = page.url.rpartition("/")[2]
    told = service.client.get(f"/v1/jobs/{job}/escapes/0.safetensors").content
    assert download.value.path().read_bytes() == told


def test_a_job_is_followed_without_a_reload_and_without_anything_moving(service: Service, open_page: Open) -> None:
    page = open_page()
    page.add_init_script(SHIFTS)
    job = service.post(long_job(2000) | {"force": True})["id"]
    page.goto(f"/jobs/{job}")
    page.evaluate("window.isTheFirst = true")
    expect(page.get_by_role("status").first).to_contain_text("Hessian-vector products")
    progress = page.get_by_role("progressbar")
    before = progress.get_attribute("value")
    expect(page.locator(f'progress[value="{before}"]')).to_have_count(0)
    moved = page.evaluate("document.querySelector('progress') ? window.shifted : 0")
    assert moved < 0.02
    expect(page.get_by_text("So far: λ min").or_(page.get_by_role("heading", name="Evidence"))).to_be_visible()
    expect(page.get_by_role("heading", name="Evidence")).to_be_visible(timeout=90_000)
    assert page.evaluate("window.isTheFirst") is True
    assert service.job(str(job))["status"] == "succeeded"


def test_files_are_dropped_into_a_job(service: Service, open_page: Open) -> None:
    page = open_page(size=PHONE)
    page.goto("/submit")
    header = json.dumps({"w": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}).encode()
    weights = len(header).to_bytes(8, "little") + header + bytes(8)
    page.get_by_label("Or a file").set_input_files(
        {"name": "w.safetensors", "mimeType": "application/octet-stream", "buffer": weights}
    )
    page.get_by_role("textbox", name="Expression").fill("sum(w**2) - sum(w**4)")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Local minimum")


def test_jobs_are_chosen_by_keys_and_compared(service: Service, open_page: Open) -> None:
    saddle, slope, again = points(service, "keys")
    page = open_page()
    page.goto("/?run=keys")
    compare = page.get_by_role("button", name="Compare")
    expect(compare).to_be_disabled()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    for key in ("j", "x", "j", "j", "k", "j", "x"):
        page.keyboard.press(key)
    expect(compare).to_contain_text("2 chosen")
    page.keyboard.press("c")
    expect(page.get_by_role("heading", name="Alignment of the ways out")).to_be_visible()
    assert [page.url.count(job) for job in (saddle, slope, again)] == [1, 0, 1]
    table = page.get_by_role("region", name="Fields")
    expect(table.get_by_role("row", name="step")).to_be_visible()
    expect(table.get_by_role("row", name="loss", exact=True)).to_have_count(0)  # the same point twice
    expect(page.get_by_role("region", name="Alignment").get_by_text("1.000")).to_have_count(4)
    page.get_by_role("link", name="Show all").click()
    expect(table.get_by_role("row", name="gradient norm")).to_be_visible()
    page.goto("/?run=keys")
    page.keyboard.press("/")
    page.keyboard.type("nothing of this name")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No job is like this")).to_be_visible()
    page.goto("/?run=keys")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/jobs/{again}")


def test_a_file_holds_what_the_list_shows(service: Service, open_page: Open) -> None:
    points(service, "export")
    page = open_page()
    page.goto("/?run=export&column=step&column=loss&column=verdict&sort=loss&order=asc")
    shown = page.locator("#rows tbody tr").evaluate_all("rows => rows.map((row) => row.dataset.id)")
    titles = page.locator("#rows thead th").all_inner_texts()
    assert [title.strip("↑↓ ") for title in titles[2:]] == ["Step", "Loss", "Verdict"]
    for name, read in (("CSV", csv.DictReader), ("NDJSON", lambda file: map(json.loads, file))):
        with page.expect_download() as download:
            page.get_by_role("link", name=name, exact=True).click()
        with download.value.path().open(encoding="utf-8") as file:
            rows = list(read(file))
        assert [row["id"] for row in rows] == shown
        assert list(rows[0]) == ["id", "step", "loss", "verdict"]
        assert [float(row["loss"]) for row in rows] == sorted(float(row["loss"]) for row in rows)


def test_a_list_tells_of_new_jobs_and_keeps_the_readers_place(service: Service, open_page: Open) -> None:
    first = points(service, "live")
    page = open_page()
    page.goto("/?run=live")
    rows = page.locator("#rows tbody tr")
    expect(rows).to_have_count(3)
    added = service.post(TOY | {"run": {"id": "live", "step": 3}, "force": True}, wait=30)["id"]
    expect(rows).to_have_count(4)
    expect(rows.first).to_have_attribute("data-id", str(added))
    expect(rows.first.get_by_text("saddle")).to_be_visible()
    page.get_by_role("checkbox", name=f"Choose job {first[0][-8:]}").check()
    service.post(TOY | {"run": {"id": "live", "step": 4}, "force": True}, wait=30)
    newer = page.get_by_role("button", name="Newer jobs")
    expect(newer).to_be_visible()
    expect(rows).to_have_count(4)
    newer.click()
    expect(rows).to_have_count(5)
    expect(page.get_by_role("checkbox", name=f"Choose job {first[0][-8:]}")).to_be_checked()


def test_all_of_it_works_without_scripts(service: Service, open_page: Open) -> None:
    points(service, "plain")
    page = open_page(java_script_enabled=False)
    page.goto("/")
    page.get_by_placeholder("its id").fill("plain")
    page.locator("select[name=verdict]").select_option("saddle")
    page.get_by_role("button", name="Show").click()
    boxes = page.get_by_role("checkbox", name="Choose job")
    expect(boxes).to_have_count(2)
    for box in boxes.all():
        box.check()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("img", name="spectra")).to_have_count(1)
    page.goto("/submit")
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("button", name="Run again").click()
    expect(page.get_by_text("This question was asked before by")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Saddle")  # the page reloads itself
