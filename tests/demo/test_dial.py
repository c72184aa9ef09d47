"""The dial: where its needle and its outline point, read from the SVG."""

import math
from xml.etree import ElementTree

import pytest
import torch

from stnrot.demo.dial import HUB, RADIUS, dial


def tip(line: ElementTree.Element) -> tuple[float, float]:
    return float(line.attrib["x2"]), float(line.attrib["y2"])


@pytest.mark.parametrize(
    ("degrees", "place"), [(0, (0, -RADIUS)), (90, (RADIUS, 0)), (180, (0, RADIUS)), (-90, (-RADIUS, 0))]
)
def test_the_needle_points_clockwise_from_up(degrees: float, place: tuple[float, float]) -> None:
    drawing = ElementTree.fromstring(dial(math.radians(degrees), None))
    needle = drawing.findall("./g[@stroke='#d55e00']/line")
    assert [tip(each) for each in needle] == [pytest.approx(place, abs=0.06)]
    assert f"points {degrees:.1f} degrees clockwise" in drawing.attrib["aria-label"].replace("-180.0", "180.0")


@pytest.mark.parametrize("bins", [64, 720])
def test_the_outline_reaches_the_rim_at_the_most_probable_angle(bins: int) -> None:
    log_posterior = (30 * torch.cos(torch.arange(bins) * 2 * math.pi / bins - math.radians(45))).log_softmax(0)
    outline = ElementTree.fromstring(dial(0.0, log_posterior)).find("polygon")
    assert outline is not None
    points = torch.tensor([[float(part) for part in pair.split(",")] for pair in outline.attrib["points"].split()])
    reach = points.norm(dim=1)
    x, y = points[reach.argmax()].tolist()
    assert math.degrees(math.atan2(x, -y)) == pytest.approx(45, abs=0.6)
    assert reach.max().item() == pytest.approx(RADIUS, abs=0.1)
    assert reach.min().item() == pytest.approx(HUB, abs=0.1)


def test_the_dashed_line_is_the_turn_of_the_slider() -> None:
    drawing = ElementTree.fromstring(dial(0.0, None, math.radians(90)))
    (line,) = drawing.findall(".//g[@stroke-dasharray]/line")
    assert tip(line) == pytest.approx((RADIUS, 0), abs=0.06)
