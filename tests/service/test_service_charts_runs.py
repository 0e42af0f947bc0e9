"""Pictures of many checkpoints: each mark stands at its numbers, tells its verdict by shape, and leads to its job."""

from __future__ import annotations

import gzip
import itertools
import math
import random
from collections.abc import Sequence

import pytest
from drawings import SVG, assert_legible, nodes, parsed, points, starts
from hypothesis import given
from hypothesis import strategies as st

from saddlescope.contract.vocabulary import Verdict
from service.charts import Bracket, Checkpoint, Series, history_charts, ratio_chart
from service.charts.ratios import MAX_POINTS
from service.svg import Picture, standalone

NUMBERS = st.one_of(st.none(), st.floats(-1e300, 1e300), st.just(math.nan), st.just(math.inf))


def checkpoint(place: int, **changes: object) -> Checkpoint:
    generator = random.Random(place)
    return Checkpoint(
        **{
            "job": f"job_{(0x019A0000000 + 977 * place) << 80 | generator.getrandbits(74):032x}",
            "step": 100 * place,
            "verdict": list(Verdict)[place % 9],
            "is_critical": place % 3 > 0,
            "loss": 2.3 - 0.1 * (place % 20),
            "gradient_norm": 0.1,
            "lambda_min": -0.5,
            "lambda_max": 12.0,
            "index": (place % 10) / 10,
            "minimum_ratio": Bracket(0.5, 0.4, 0.625),
            "inertia": (1.0, 1.0, 2.0),
        }
        | changes
    )  # type: ignore[arg-type]


def marks(picture: Picture, found: Sequence[Checkpoint]) -> list[tuple[float, float]]:
    """Where the mark of each checkpoint stands; what looks alike stands together in the picture."""
    at = {link.get("href"): points(link[-1])[0] for link in nodes(picture, "a")}
    return [at[point.href] for point in found]


def test_a_history_is_drawn_where_its_numbers_are_and_leads_to_its_jobs() -> None:
    losses = [3.0, 2.0, 1.0, 2.5]
    run = Series("a run", [checkpoint(place, loss=loss) for place, loss in enumerate(losses)])
    pictures = history_charts([run])
    assert [picture.title for picture in pictures] == [
        "Loss by training step", "Gradient norm by training step", "λ min by training step", "λ max by training step",
        "Index n₋/n by training step", "Minimum ratio n₊/n by training step",
    ]  # fmt: skip
    links = nodes(pictures[0], "a")
    assert [link.get("href") for link in links] == [f"/jobs/{point.job}" for point in run.checkpoints]
    assert "step 100, loss 2, flat minimum" in (links[1].get("aria-label") or "")
    places = [at for at in starts(pictures[0], "v") if at != (0, 0)]
    steps = [after[0] - before[0] for before, after in itertools.pairwise(places)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.2)
    heights = [(y - places[0][1]) / (places[2][1] - places[0][1]) for _, y in places]
    assert heights == pytest.approx([0, 0.5, 1, 0.25], abs=0.01)
    for picture in pictures:
        assert_legible(picture)


def test_an_unknown_number_is_a_gap() -> None:
    losses = [3.0, 2.0, None, 1.0, math.nan, 0.5]
    (picture, *_) = history_charts([Series("a", [checkpoint(place, loss=loss) for place, loss in enumerate(losses)])])
    lines = [line for line in nodes(picture, "path", "line") if "M" in (line.get("d") or "")]
    assert [len(points(line)) for line in lines] == [2, 1, 1]
    assert len(nodes(picture, "a")) == 4
    assert "2 checkpoints have no such number" in picture.caption


def test_nothing_known_is_nothing_drawn() -> None:
    assert history_charts([]) == ()
    assert history_charts([Series("a", [Checkpoint(job="j", step=1)])]) == ()
    assert history_charts([Series("a", [Checkpoint(job="j", step=None, loss=1.0)])]) == ()
    assert all(ratio_chart([Checkpoint(job="j")], against=against) is None for against in ("ratio", "index", "triple"))


def test_verdicts_differ_by_shape_and_runs_by_stroke() -> None:
    run = Series("a", [checkpoint(place, is_critical=True) for place in range(9)])
    (picture, *_) = history_charts([run, Series("b", [checkpoint(place, loss=1.5) for place in range(9)])])
    drawn = [{(mark.get("d") or "").partition("m")[2] for mark in nodes(picture, "path", kind)} for kind in Verdict]
    assert [len(shapes) for shapes in drawn] == [1] * len(Verdict)
    assert len(set.union(*drawn)) == len(Verdict)
    strokes = {(line.get("class") or "").split()[2] for line in nodes(picture, "path", "line")}
    assert strokes == {"solid", "dashed"}


def test_a_long_history_keeps_its_line_and_says_what_marks_it_left_out() -> None:
    run = Series("long", [checkpoint(place, loss=1.0 + place) for place in range(5000)])
    (picture, *_) = history_charts([run])
    assert len(nodes(picture, "a")) == 160
    assert "4,840 marks are left out" in picture.caption
    assert sum(len(gzip.compress(standalone(each).encode())) for each in history_charts([run])) < 60_000


@pytest.mark.parametrize("against", ["ratio", "index"])
def test_the_landscape_of_a_project_is_drawn_where_its_numbers_are(against: str) -> None:
    shares = [0.0, 0.25, 1.0]
    found = [
        checkpoint(place, loss=1.0 + place, index=share, minimum_ratio=Bracket(share, share, share))
        for place, share in enumerate(shares)
    ]
    picture = ratio_chart(found, against="ratio" if against == "ratio" else "index")
    assert picture is not None
    assert_legible(picture)
    places = marks(picture, found)
    across = [(x - places[0][0]) / (places[2][0] - places[0][0]) for x, _ in places]
    upward = [(y - places[0][1]) / (places[2][1] - places[0][1]) for _, y in places]
    assert across == pytest.approx(shares, abs=0.01)
    assert upward == pytest.approx([0, 0.5, 1], abs=0.01)


def test_an_interval_is_as_wide_as_its_bounds() -> None:
    found = [checkpoint(0, minimum_ratio=Bracket(0.5, 0.25, 1.0)), checkpoint(1, minimum_ratio=Bracket(0, 0, 0))]
    picture = ratio_chart(found, against="ratio")
    assert picture is not None
    (bar,) = nodes(picture, "path", "bar")
    (start, _), end = starts(picture, "bar")[0], float((bar.get("d") or "").partition("H")[2])
    half, nothing = (x for x, _ in marks(picture, found))
    assert (start - nothing) / (half - nothing) == pytest.approx(0.5, abs=0.01)
    assert (end - nothing) / (half - nothing) == pytest.approx(2, abs=0.01)


def test_what_is_not_critical_is_hollow() -> None:
    picture = ratio_chart([checkpoint(2, is_critical=False), checkpoint(2, is_critical=True)], against="index")
    assert picture is not None
    hollow, full = (len(nodes(picture, "path", class_)) for class_ in ("hollow", "cloud"))
    # One in the picture and one in the legend; both marks are in clouds.
    assert (hollow, full) == (2, 2)
    unsaid = Checkpoint(job="j", verdict=Verdict.NOT_CRITICAL)
    assert unsaid.is_hollow


def test_what_is_not_critical_is_hollow_also_where_others_are_shaded_by_their_loss() -> None:
    points = [checkpoint(2, is_critical=is_critical, loss=1.0) for is_critical in (False, True, True)]
    picture = ratio_chart(points, against="triple")
    assert picture is not None
    assert len(nodes(picture, "path", "shaded")) == 2
    assert {mark.get("class") for mark in nodes(picture, "g", "hollow")} == {"cloud v saddle hollow"}


def test_where_many_losses_are_equal_a_bound_between_shades_is_said_once() -> None:
    points = [checkpoint(2, is_critical=True, loss=loss) for loss in (0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0)]
    picture = ratio_chart(points, against="triple")
    assert picture is not None
    assert "shades part at 0, 1." in picture.render()


def test_a_crowd_keeps_its_links_and_its_bars_are_one_path() -> None:
    points = [checkpoint(2, job=f"job_{place}", is_critical=True) for place in range(600)]
    picture = ratio_chart(points, against="ratio")
    assert picture is not None
    assert [link.get("href") for link in nodes(picture, "a")] == [point.href for point in points]
    (bars,) = nodes(picture, "path", "bar")
    assert (bars.get("d") or "").count("M") == 600


def test_the_triple_lies_in_its_triangle() -> None:
    inertias = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0), (20.0, 30.0, 50.0)]
    found = [checkpoint(place, inertia=one) for place, one in enumerate(inertias)]
    picture = ratio_chart(found, against="triple")
    assert picture is not None
    assert_legible(picture)
    corners = points(nodes(picture, "path", "axis-line")[0])[:3]
    places = marks(picture, found)
    assert places[:3] == [pytest.approx(corner, abs=0.2) for corner in corners]
    middle = tuple(sum(corner[axis] for corner in corners) / 3 for axis in (0, 1))
    assert places[3] == pytest.approx(middle, abs=0.2)
    weighed = tuple(0.2 * corners[0][axis] + 0.3 * corners[1][axis] + 0.5 * corners[2][axis] for axis in (0, 1))
    assert places[4] == pytest.approx(weighed, abs=0.2)


def test_two_thousand_checkpoints_are_drawn_and_the_rest_is_counted() -> None:
    generator = random.Random(0)
    found = [
        checkpoint(place, loss=generator.random(), minimum_ratio=Bracket(*sorted(generator.random() for _ in range(3))))
        for place in range(2_600)
    ]
    for against in ("ratio", "index", "triple"):
        picture = ratio_chart(found, against=against)  # type: ignore[arg-type]
        assert picture is not None
        assert len(nodes(picture, "a")) == MAX_POINTS
        assert "600 more are not drawn" in picture.caption
        assert len(gzip.compress(picture.render().encode())) < 90_000


def test_hostile_names_are_words_and_hostile_jobs_are_paths() -> None:
    hostile = '"><script>&'
    found = [checkpoint(place, name=hostile, job=f'{hostile}/../"') for place in range(2)]
    for picture in (
        *history_charts([Series(hostile, found), Series(hostile, found)]),
        ratio_chart(found, against="ratio"),
    ):
        assert picture is not None
        assert SVG + "script" not in {node.tag for node in parsed(picture).iter()}
        for link in nodes(picture, "a"):
            assert (link.get("href") or "").startswith("/jobs/%22%3E")
            assert (link.get("href") or "").count("/") == 2


@given(st.lists(st.tuples(NUMBERS, NUMBERS, st.one_of(st.none(), st.integers(0, 10**12))), max_size=8))
def test_any_history_and_any_project_can_be_drawn(rows: list[tuple[float | None, float | None, int | None]]) -> None:
    found = [
        Checkpoint(job=f"j{place}", step=step, loss=loss, lambda_min=value, index=0.5, minimum_ratio=Bracket(0.1, 0, 1))
        for place, (loss, value, step) in enumerate(rows)
    ]
    pictures = [
        *history_charts([Series("a", found)]),
        ratio_chart(found, against="ratio"),
        ratio_chart(found, against="index"),
    ]
    for picture in pictures:
        if picture is not None:
            text = standalone(picture)
            assert "nan" not in text
            assert "inf" not in text.replace("interval", "")
            assert_legible(picture)
