"""A figure of test pictures behind the encoder: some that it turns upright, and some that it does not."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from harness.photograph_methods import WRONG_DEG
from harness.photograph_parts import Part
from harness.photograph_scores import TestPictures
from stnrot import Upright
from stnrot.callbacks.image_grid import Cell, draw_grid
from stnrot.geometry import angular_distance
from stnrot.models.confidence import confidence
from stnrot.models.upright import UPRIGHT_WITHIN

SHOWN, RIGHT_DEG = 8, 5  # pictures of each kind; degrees


@torch.inference_mode()
def draw_pictures(encoder: Part, pictures: TestPictures, path: Path) -> None:
    """Draw pictures within 5 degrees of the upright, then pictures more than 45 degrees off with a red frame.

    The pictures are evenly spaced among all of their kind. Below each are its error and the confidence.
    """
    model = Upright(nn.Identity(), encoder.module).eval()
    good: list[Cell] = []
    bad: list[Cell] = []
    for batch in pictures.batches():
        turned = batch.views[0]
        aligned, orientation = model.align(turned.image)
        off = angular_distance(orientation.angle[:, 0], turned.angle).rad2deg()
        sure = confidence(orientation, UPRIGHT_WITHIN)[:, 0]
        for before, after, error, certain in zip(turned.image, aligned, off.tolist(), sure.tolist(), strict=True):
            if RIGHT_DEG < error <= WRONG_DEG:
                continue
            wrong = error > WRONG_DEG
            caption = (f"{error:.0f} degrees off", f"confidence {certain:.2f}")
            (bad if wrong else good).append(Cell((_array(before), _array(after)), caption, wrong))
    cells = [kind[k * len(kind) // SHOWN] for kind in (good, bad) if kind for k in range(min(SHOWN, len(kind)))]
    if cells:
        Image.fromarray(draw_grid(cells, titles=("input", "aligned"))).save(path)


def _array(image: Tensor) -> np.ndarray:
    return image.clamp(0, 1).cpu().numpy()
