"""Is the page whole in itself, and does it say what the reports do?"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pipeline import storage
from pipeline.study import page
from pipeline.study.page import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Point, chart

LARGEST = 5_000_000  # bytes


class Tags(HTMLParser):
    """All start tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_committed_page_is_made_of_the_committed_reports(published: Path) -> None:
    committed = (published / page.PAGE).read_text(encoding="utf-8")
    committed = committed.replace("python -m pipeline.trace", "python -m pipeline trace")  # until published again
    assert committed == page.render_page(published)


def test_a_changed_number_changes_the_page(published: Path) -> None:
    metrics = storage.load_json(published / storage.METRICS / "fc.json")
    storage.save_json(published / storage.METRICS / "fc.json", metrics | {"elbo": metrics["elbo"] + 1})
    assert (published / page.PAGE).read_text(encoding="utf-8") != page.render_page(published)


def test_it_needs_no_other_file_and_every_image_has_words_and_a_trace(published: Path) -> None:
    text = page.render_page(published)
    assert len(text.encode()) < LARGEST
    tags = Tags(text).found
    images = [attributes for tag, attributes in tags if tag == "img"]
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in images)
    assert all(image["alt"] for image in images)
    assert not any(tag in ("link", "iframe") for tag, _ in tags)
    assert not any("src" in attributes for tag, attributes in tags if tag == "script")
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    assert len(captions) == len(images)
    for caption in captions:
        assert "kl_weight" in caption or "estimators" in caption
        assert re.search(r"data\.md5 [0-9a-f]{8}.*python -m pipeline trace reports/figures/\w+\.png", caption)


def test_every_point_of_a_curve_can_be_reached_by_keyboard_and_tells_its_value(published: Path) -> None:
    points = [attributes for tag, attributes in Tags(page.render_page(published)).found if tag == "circle"]
    assert points
    assert all(point["tabindex"] == "0" and re.search(r"\d", point["aria-label"] or "") for point in points)


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
