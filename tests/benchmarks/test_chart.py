"""A chart says in words what it shows, has every point at its place, and stays inside its edges."""

from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Line, Panel, Point, draw

SVG = "{http://www.w3.org/2000/svg}"
INGEST = Panel("One event ingested", "µs", [Line("mean", [Point(10_000, 16.0), Point(10_000_000, 20.0)])])
COST = Panel("Cost <live>", "ms", [Line("p50", [Point(100, 1.0)]), Line("p99", [Point(100, 4.0)])])


def drawn(*panels: Panel) -> ElementTree.Element:
    return ElementTree.fromstring(draw("Growth & cost", panels))


def test_it_is_read_aloud_with_every_figure_and_its_unit() -> None:
    chart = drawn(INGEST, COST)
    assert chart.get("role") == "img"
    named = {element.get("id"): element.text for element in chart if element.get("id")}
    assert [named[each] for each in (chart.get("aria-labelledby") or "").split()] == [
        "Growth & cost",
        "One event ingested, mean: 16 µs at 10 k, 20 µs at 10 M. Cost <live>, p50: 1 ms at 100; p99: 4 ms at 100.",
    ]


def test_its_axes_have_units_and_its_colours_follow_the_page() -> None:
    texts = [each.text for each in drawn(INGEST).iter(f"{SVG}text")]
    assert texts.count("events stored") == texts.count("µs") == 1
    assert [each for each in texts if each and each.endswith((" k", " M"))] == ["10 k", "100 k", "1 M", "10 M"]
    assert "mean 20 µs" in texts
    assert "prefers-color-scheme: dark" in draw("t", [INGEST])


@given(st.lists(st.tuples(st.integers(1, 10**9), st.floats(0.001, 10**6)), min_size=1, max_size=8))
def test_every_point_stays_inside_and_more_is_further_up_and_right(points: list[tuple[int, float]]) -> None:
    line = Line("p50", [Point(*each) for each in points])
    at = [
        (float(each.get("cx") or 0), float(each.get("cy") or 0))
        for each in drawn(Panel("t", "ms", [line])).iter(f"{SVG}circle")
    ]
    assert all(LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT - BOTTOM for x, y in at)
    for (one, (x, y)), (other, (x2, y2)) in pairwise(zip(points, at, strict=True)):
        assert (one[0] <= other[0]) <= (x <= x2)
        assert (one[1] <= other[1]) <= (y >= y2)


@pytest.mark.parametrize("value", [0.0, 1e-9, 1e9])
def test_any_amount_has_an_axis(value: float) -> None:
    assert len(list(drawn(Panel("t", "ms", [Line("p50", [Point(1, value)])])).iter(f"{SVG}line"))) >= 2
