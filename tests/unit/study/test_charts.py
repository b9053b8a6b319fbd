"""Are the points of a chart where their values are, and do they tell them?"""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from pipeline.study.page import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Point, chart


def circles(svg: str) -> list[tuple[float, float, str]]:
    found = [node for node in ElementTree.fromstring(svg).iter() if node.tag == "circle"]
    return [(float(node.attrib["cx"]), float(node.attrib["cy"]), node.attrib["aria-label"]) for node in found]


def test_points_lie_by_their_values_and_tell_them() -> None:
    curve = [Point(0, 1, "first: 1"), Point(1, 3, "second: 3"), Point(2, 2, "third & last: 2")]
    first, second, third = circles(chart("title", "x", {"curve": curve}))
    assert [point[2] for point in (first, second, third)] == ["first: 1", "second: 3", "third & last: 2"]
    assert (first[0], third[0]) == (LEFT, WIDTH - RIGHT)
    assert second[0] == pytest.approx((first[0] + third[0]) / 2)
    assert TOP < second[1] < third[1] < first[1] < HEIGHT - BOTTOM


def test_a_logarithmic_axis_has_decades_evenly_apart() -> None:
    axis = Axis("", 1, 100, 0, 200, logarithmic=True)
    assert axis.place(10) == pytest.approx(100)
    assert [label for _, label in axis.ticks()] == ["1", "10", "100"]


def test_a_single_point_and_equal_values_are_drawn() -> None:
    assert len(circles(chart("title", "x", {"curve": [Point(1, 5, "only")]}))) == 1
    assert len(circles(chart("title", "x", {"curve": [Point(1, 5, "a"), Point(2, 5, "b")]}))) == 2


def test_text_is_escaped() -> None:
    assert not re.search(r"<b>", chart("<b>", "<b>", {"<b>": [Point(1, 1, "<b>")]}))
