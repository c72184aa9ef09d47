"""The oracle is torchvision: what it has rotated, with the image, has to come back."""

import math

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from stnrot.errors import InputError
from stnrot.geometry.points import box_corners, oriented_corners, rotate_points
from stnrot.models.turn_back import turn_back

HEIGHT, WIDTH = 60, 80
BOXES = torch.tensor([[20.0, 10, 40, 30], [30, 25, 50, 45]])


@pytest.mark.parametrize("angle_deg", [0.0, 90.0, 180.0, 37.0])
def test_detections_come_back(angle_deg: float) -> None:
    pytest.importorskip("torchvision", "0.24")  # it has key points
    options = {"canvas_size": (HEIGHT, WIDTH)}
    points = torch.rand(2, 4, 3) * 60
    places = tv_tensors.KeyPoints(points[..., :2].contiguous(), **options)
    masks = torch.zeros(2, 1, HEIGHT, WIDTH)
    masks[0, :, 20:30, 30:45] = 1
    corners = tv_tensors.KeyPoints(box_corners(BOXES), **options)
    found = {
        "keypoints": torch.cat((F.rotate(places, angle_deg).as_subclass(torch.Tensor), points[..., 2:]), -1),
        "masks": F.rotate(masks, angle_deg),
        "scores": torch.rand(2),
    }
    (back,) = turn_back([found], torch.tensor([math.radians(angle_deg)]), HEIGHT, WIDTH)
    torch.testing.assert_close(back["keypoints"], points, atol=1e-3, rtol=0)
    assert back["scores"] is found["scores"]
    wrong = (back["masks"] - masks).abs().mean()
    assert wrong < (1e-5 if angle_deg % 90 == 0 else 0.01)

    # the boxes of the rotated image, in the frame of the image
    (back,) = turn_back([{"boxes": BOXES}], torch.tensor([math.radians(angle_deg)]), HEIGHT, WIDTH)
    expected = F.rotate(corners, -angle_deg).as_subclass(torch.Tensor)
    torch.testing.assert_close(oriented_corners(back["oriented_boxes"]), expected, atol=1e-3, rtol=0)
    around = torch.cat((expected.amin(1), expected.amax(1)), 1)
    torch.testing.assert_close(back["boxes"], around, atol=1e-3, rtol=0)

    # oriented boxes that the network returns, here those of the image, rotated; in a tuple
    centres = F.rotate(corners, angle_deg).as_subclass(torch.Tensor).mean(1)
    sides, turns = BOXES[:, 2:] - BOXES[:, :2], torch.full((2, 1), math.radians(angle_deg))
    rotated = {"boxes": BOXES, "oriented_boxes": torch.cat((centres, sides, turns), 1)}
    (back,) = turn_back((rotated,), turns[0], HEIGHT, WIDTH)
    torch.testing.assert_close(oriented_corners(back["oriented_boxes"]), box_corners(BOXES), atol=1e-3, rtol=0)
    torch.testing.assert_close(back["boxes"], around, atol=1e-3, rtol=0)


def test_a_map_whose_pixels_are_not_square_turns_about_the_middle_of_the_image() -> None:
    """A spot in a map of 30 x 20 pixels, over an image of 60 x 80."""
    row, column = torch.meshgrid(torch.arange(30.0) * 2 + 0.5, torch.arange(20.0) * 4 + 1.5, indexing="ij")
    spot = torch.exp(-((row - 25) ** 2 + (column - 50) ** 2) / 50)[None, None]
    angle = torch.tensor([0.6])
    back = turn_back(spot, angle, HEIGHT, WIDTH)
    found = torch.stack([(back * each).sum() / back.sum() for each in (column, row)])
    expected = rotate_points(torch.tensor([50.0, 25.0]), -0.6, HEIGHT, WIDTH, "centre")
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)


def test_labels_stay_labels_and_structures_stay() -> None:
    labels = torch.randint(20, (2, 1, 12, 12))
    angle = torch.tensor([math.pi / 2, -math.pi / 2])
    turned = torch.stack([torch.rot90(labels[0], 1, (1, 2)), torch.rot90(labels[1], -1, (1, 2))])
    output = {"out": turned, "pyramid": [turned > 9, (turned.float(), None)], "logits": torch.rand(2, 7)}
    back = turn_back(output, angle, 12, 12)
    assert torch.equal(back["out"], labels)
    assert torch.equal(back["pyramid"][0], labels > 9)
    torch.testing.assert_close(back["pyramid"][1][0], labels.float(), atol=1e-3, rtol=0)
    assert back["pyramid"][1][1] is None
    assert back["logits"] is output["logits"]


def test_empty_detections_come_back_empty() -> None:
    found = {"boxes": torch.zeros(0, 4), "keypoints": torch.zeros(0, 5, 3), "masks": torch.zeros(0, 1, 12, 12)}
    (back,) = turn_back([found], torch.tensor([0.3]), 12, 12)
    assert all(back[name].shape == value.shape for name, value in found.items())


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (torch.rand(2, 5, 8), r"maps \[B, C, h, w\], logits \[B, n\] or detections, got"),
        ({"tokens": torch.rand(2, 5, 8)}, "maps"),
        (torch.rand(2, 1, 3, 3).to(torch.complex64), "maps .*, got torch.complex64"),
        ("text", "tensors, or dictionaries"),
        (torch.rand(3, 1, 4, 4), "one entry for each of 2 images, got torch.float32 of shape"),
        ([{}], "one entry for each of 2 images, got list of 1"),
        ([{"boxes": torch.rand(4, 5)}] * 2, r"boxes as a tensor \[N, 4\]"),
        ([{"boxes": torch.rand(4, 4), "keypoints": torch.rand(3, 7, 3)}] * 2, "keypoints as a tensor .* with N = 4"),
        ([{"oriented_boxes": torch.rand(4, 4)}] * 2, r"oriented_boxes as a tensor \[N, 5\]"),
        ({"boxes": torch.rand(2, 4)}, "boxes in a list of one dictionary for each image, got boxes of all images"),
        ([{"masks": torch.rand(4, 12, 12) > 0.5}] * 2, r"masks as a tensor \[N, 1, height, width\] of numbers"),
    ],
)
def test_what_cannot_be_turned_back_is_refused(output: object, message: str) -> None:
    with pytest.raises(InputError, match=f"output: expected {message}"):
        turn_back(output, torch.zeros(2), 12, 12)
