"""The matches of benchmarks/matchers.py lie in the image as it was passed, in all three ways."""

import numpy as np
import pytest

from harness import pair_sets

matchers = pytest.importorskip("matchers")


@pytest.mark.parametrize("kind", ["SIFT", "ORB"])
def test_upright_features_match_at_any_angle_after_align(kind: str) -> None:
    images, references, angles, shifts, _ = pair_sets.shifted_pairs("photographs 128", "shifted", 1, None)
    assert 120 < np.degrees(angles[0]) % 360 < 150
    found = {name: way(images[0], references[0], kind, upright=True) for name, way in matchers.WAYS.items()}
    right = {name: matchers.score(each, angles[0], shifts[0], 128)[1] for name, each in found.items()}
    assert right["as it is"] < 5
    assert right["aligned"] > 20


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_points_of_a_quarter_turn_are_mapped_back(turns: int) -> None:
    image = np.asarray(pair_sets.photograph("camera.png").resize((128, 128)))
    found = matchers.quarter_turns(image, np.ascontiguousarray(np.rot90(image, turns)), "SIFT", upright=True)
    matches, right, homography = matchers.score(found, turns * np.pi / 2, np.zeros(2), 128)
    assert right == matches > 50
    assert homography
