"""A picture is drawn once for what it is drawn from, and never shown for anything else."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from test_service_access import Act, key
from test_service_pages import submit

from saddlescope.contract.reports import Spectrum
from service.drawn import Drawn
from service.parts import Parts
from service.settings import Auth
from service.svg import Picture
from store.keys import Scope


def drawing(title: str, made: list[str], *, size: int = 100) -> Callable[[], list[Picture | None]]:
    def draw() -> list[Picture | None]:
        made.append(title)
        return [Picture(title, ("<g/>" * (size // 4),), height=10), None]

    return draw


def test_a_picture_is_drawn_once_and_what_cannot_be_drawn_is_not_tried_again() -> None:
    drawn, made = Drawn(), list[str]()
    first = drawn.pictures("spectrum", "a", draw=drawing("one", made))
    again = drawn.pictures("spectrum", "a", draw=drawing("another", made))
    assert [picture.title for picture in first] == ["one"]
    assert again == first
    assert first[0].__html__() == Picture("one", ("<g/>" * 25,), height=10).render()
    for _ in range(2):
        assert drawn.pictures("spectrum", "none", draw=lambda: [made.append("nothing")]) == ()
    assert made == ["one", "nothing"]


def test_no_two_keys_are_taken_for_one() -> None:
    keys = [("ab", "c"), ("a", "bc"), ("abc",), ("ab", "c", ""), ("", "ab", "c"), ("1:a", "b"), ("1", ":a1:b")]
    drawn, made = Drawn(), list[str]()
    for number, parts in enumerate(keys):
        drawn.pictures(*parts, draw=drawing(str(number), made))
    assert made == [str(number) for number in range(len(keys))]


def test_the_pictures_that_were_not_looked_at_for_longest_go_first() -> None:
    drawn, made = Drawn(most_characters=3_000), list[str]()
    for name in ("a", "b", "a", "c", "a"):
        drawn.pictures(name, draw=drawing(name, made, size=800))
        assert drawn.num_characters <= 3_000
    assert made == ["a", "b", "c"]
    drawn.pictures("b", draw=drawing("b", made, size=800))
    assert made == ["a", "b", "c", "b"]
    large = drawn.pictures("large", draw=drawing("large", made, size=5_000))
    assert len(large) == 1
    assert drawn.num_characters == 0  # larger than all that is kept: shown, and not kept


def test_a_page_shows_what_is_there_now(client: TestClient, finish: Act) -> None:
    """The second view of each page shows what the first did; a job that ends in between is on it."""
    first, second = (submit(client, run={"id": "r", "step": step}) for step in (1, 2))
    pages = ("/runs/r", "/landscape", "/landscape?against=triple", f"/compare?job={first}&job={second}")
    finish(first)
    before = [charts(client, page) for page in pages]
    assert [charts(client, page) for page in pages] == before
    assert all(second not in page for page in before)
    finish(second)
    after = [charts(client, page) for page in pages]
    assert all(first in page and second in page for page in after[:3])
    assert "2 " + second[-8:] in after[3]


def test_a_kept_picture_is_that_of_the_answer_and_outlives_its_bytes(
    client: TestClient, finish: Act, parts: Parts
) -> None:
    """A spectrum of other bytes is another picture, whatever else is kept."""
    ours, theirs = submit(client), submit(client)
    finish(ours)
    shown = charts(client, f"/jobs/{ours}")
    assert shown.count('class="chart"') == charts(client, f"/jobs/{ours}").count('class="chart"') > 5
    finish(theirs)
    spectrum = client.get(f"/v1/jobs/{theirs}/spectrum").json() | {"eigenvalues": [-7.25, 2.0]}
    other = parts.blobs.put(Spectrum.model_validate(spectrum).model_dump_json().encode())
    with parts.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE reports SET spectrum_blob = '{other.id}' WHERE job_id = '{theirs}'")
    assert "7.25" in charts(client, f"/jobs/{theirs}")
    assert charts(client, f"/jobs/{ours}") == shown


@pytest.mark.parametrize("page", ["/jobs/{job}", "/compare?job={job}&job={job2}", "/runs/shared", "/landscape"])
def test_no_project_is_shown_what_was_drawn_for_another(
    page: str, with_settings: Callable[..., TestClient], parts: Parts, finish: Act
) -> None:
    http = with_settings(auth=Auth.KEYS)
    mine, yours = key(parts, "ours", Scope.SUBMIT, Scope.READ), key(parts, "theirs", Scope.SUBMIT, Scope.READ)
    jobs = []
    for step in (1, 2):
        http.headers.update(mine)
        jobs.append(submit(http, run={"id": "shared", "step": step}))
        finish(jobs[-1])
    address = page.format(job=jobs[0], job2=jobs[1])
    assert 'class="chart"' in http.get(address, headers=mine).text
    foreign = http.get(address, headers=yours)
    assert 'class="chart"' not in foreign.text
    assert not any(job in foreign.text for job in jobs if job not in address)


def charts(client: TestClient, page: str) -> str:
    """The pictures of a page."""
    answer = client.get(page)
    assert answer.status_code == 200
    return "".join(re.findall(r"<svg.*?</svg>(?=</figure>)", answer.text, re.DOTALL))
