"""Patches of textures at any angle, from the pictures that scikit-image ships, with training and test regions apart."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.pair_sets import photograph
from stnrot.geometry import inscribed_disc, sample

NAMES = ("brick", "cell", "coins", "grass", "gravel", "ihc", "moon", "page", "text")  # each is a class
REGIONS = {"train": (0.0, 0.44), "val": (0.44, 0.56), "test": (0.56, 1.0)}  # columns, as shares of the width
SIDE = 32  # pixels of a patch
MARGIN = SIDE / 2 + 2  # from its middle to the border of its region; bicubic sampling reads two pixels further
PLAIN = 0.006  # a patch with a smaller deviation of grey levels shows nothing
CONTRAST = 0.15  # the deviation that every other patch gets
NOISE = 0.12  # standard deviation of the noise that is added then


def patches(split: str, count: int, seed: int) -> tuple[Float[Tensor, "N 1 32 32"], Int[Tensor, "N"]]:
    """Return `count` patches of each texture, at random places and angles of the region of a split, and their classes.

    Each is sampled once, bicubically, in the scale of the picture. Grey levels are shifted and scaled to a mean of 1/2
    and one deviation, because brightness alone would tell many classes. Then noise is added. Everything outside the
    inscribed disc is 0.

    Args:
        split: train, val or test.
        count: of each class.
        seed: of places, angles and noise.
    """
    draw = np.random.default_rng([list(REGIONS).index(split), seed])
    disc = inscribed_disc((SIDE, SIDE))
    found = []
    for name in NAMES:
        picture = torch.from_numpy(np.asarray(photograph(f"{name}.png"), np.float32) / 255)
        kept: list[Tensor] = []
        while len(kept) < count:
            patch = _patch(picture, REGIONS[split], draw)
            inside = patch[disc]
            if inside.std() >= PLAIN:
                noise = torch.from_numpy(draw.normal(scale=NOISE, size=patch.shape).astype(np.float32))
                even = 0.5 + (patch - inside.mean()) * (CONTRAST / inside.std())
                kept.append(((even + noise).clamp(0, 1) * disc)[None])
        found.append(torch.stack(kept))
    return torch.cat(found), torch.arange(len(NAMES)).repeat_interleave(count)


def _patch(
    picture: Float[Tensor, "H W"], region: tuple[float, float], draw: np.random.Generator
) -> Float[Tensor, "32 32"]:
    """Return a patch at a random place and angle of a region."""
    height, width = picture.shape
    left, right = (share * width for share in region)
    x, y = draw.uniform(left + MARGIN, right - MARGIN), draw.uniform(MARGIN, height - MARGIN)
    angle = draw.uniform(-math.pi, math.pi)
    step = torch.arange(SIDE, dtype=torch.float32) - (SIDE - 1) / 2
    down, across = torch.meshgrid(step, step, indexing="ij")
    c, s = math.cos(angle), math.sin(angle)
    points = torch.stack((x + c * across - s * down, y + s * across + c * down), -1)  # from the corner of the picture
    grid = 2 * points / torch.tensor([width, height]) - 1
    return sample(picture[None, None], grid[None], "bicubic")[0, 0]
