"""The picture is well-formed, needs nothing from elsewhere, and puts its points where they belong."""

from __future__ import annotations

import re
from math import inf
from xml.etree import ElementTree as ET

import pytest

from inference.cli.svg_plot import HEIGHT, TICKS_MAX, WIDTH, Curve, latency_plot, page, round_step

SVG = "{http://www.w3.org/2000/svg}"
CURVES = [Curve("p50", ((100.0, 1.0), (200.0, 2.0), (400.0, 40.0))), Curve("p99", ((100.0, 5.0), (400.0, inf)))]


def drawn(goal_ms: float = 50.0, capacity: float = 200.0) -> ET.Element:
    return ET.fromstring(latency_plot("a <model> & more", CURVES, goal_ms, capacity))


def test_each_finite_point_is_drawn_inside_the_picture() -> None:
    dots = drawn().findall(f"{SVG}circle")
    assert len(dots) == 4
    assert all(0 < float(dot.attrib["cx"]) < WIDTH and 0 < float(dot.attrib["cy"]) < HEIGHT for dot in dots)


def test_more_latency_is_higher_and_more_load_is_further_right() -> None:
    first, second, third = [(float(d.attrib["cx"]), float(d.attrib["cy"])) for d in drawn().findall(f"{SVG}circle")[:3]]
    assert first[0] < second[0] < third[0]
    assert first[1] > second[1] > third[1]


def test_goal_and_capacity_are_named() -> None:
    texts = [text.text for text in drawn().findall(f"{SVG}text")]
    assert "goal 50 ms" in texts
    assert "200 requests/s" in texts
    assert "a <model> & more" in texts


def test_nothing_measured_is_still_a_picture() -> None:
    assert ET.fromstring(latency_plot("t", [Curve("p50", ((10.0, inf),))], 50.0, 0.0)) is not None


def test_a_page_is_self_contained() -> None:
    text = page("t", latency_plot("t", CURVES, 50.0, 200.0), "rate <p99>")
    assert "rate &lt;p99&gt;" in text
    assert re.findall(r"(?:src|href)=", text) == []


@pytest.mark.parametrize(
    ("right", "step"), [(1.0, 0.2), (6.0, 1.0), (10.0, 2.0), (2400.0, 500.0), (31_000.0, 10_000.0)]
)
def test_steps_are_round(right: float, step: float) -> None:
    assert round_step(right) == pytest.approx(step)
    assert right / round_step(right) <= TICKS_MAX
