"""The small convolutional regressor under the CNN encoder and the general STN's localisation net."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ConvRegressor(nn.Module):
    """Regress a few numbers from a picture of any size, starting at given ones.

    Convolutions to 64, 128, 128 and 1 channels with batch norm and ELU between them; the first two are
    averaged over 2 x 2 pixels before their ELU, where that costs a quarter. The last map, averaged to
    7 x 7, goes through a small fully connected head, whose last layer starts at zero weights: every
    picture gets `start` at first. (Batch norm and ELU on the one-channel map as well made the angle
    half as precise.)
    """

    def __init__(self, channels: int, start: Sequence[float]) -> None:
        super().__init__()
        widths = (channels, 64, 128, 128)
        layers: list[nn.Module] = []
        for i, (wide_in, wide_out) in enumerate(pairwise(widths)):
            layers += [nn.Conv2d(wide_in, wide_out, 3, padding=1, bias=False)]
            layers += [nn.AvgPool2d(2, ceil_mode=True)] if i < 2 else []
            layers += [nn.BatchNorm2d(wide_out), nn.ELU()]
        last_map = nn.Conv2d(widths[-1], 1, 3, padding=1)
        self.stack = nn.Sequential(*layers, last_map, nn.AdaptiveAvgPool2d(7), nn.Flatten())
        last = nn.Linear(64, len(start))
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(torch.tensor(start))
        self.head = nn.Sequential(nn.Linear(49, 64), nn.ELU(), last)

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B outputs"]:
        """Return the numbers, in float32 at least, also under autocast."""
        out = self.head(self.stack(image))
        return out.to(torch.promote_types(out.dtype, torch.float32))
