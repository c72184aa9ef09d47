"""The small convolutional regressor under the CNN encoder and the general STN's localisation net."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ConvRegressor(nn.Module):
    """Regress a few numbers from a picture of any size, starting at given ones.

    Convolutions to 64, 128, 128 and 1 channels, each with batch norm and ELU, average pooling between
    them; the last map, pooled to 7 x 7, goes through a small fully connected head. The head's last layer
    starts at zero weights, so that every picture gets `start` at first.
    """

    def __init__(self, channels: int, start: tuple[float, ...]) -> None:
        super().__init__()
        widths = (channels, 64, 128, 128, 1)
        layers: list[nn.Module] = []
        for i, (wide_in, wide_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            layers += [nn.Conv2d(wide_in, wide_out, 3, padding=1, bias=False), nn.BatchNorm2d(wide_out), nn.ELU()]
            layers += [nn.AvgPool2d(2, ceil_mode=True)] if i < 2 else []
        self.stack = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(7), nn.Flatten())
        last = nn.Linear(32, len(start))
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(torch.tensor(start))
        self.head = nn.Sequential(nn.Linear(49, 32), nn.ELU(), last)

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B outputs"]:
        """Return the numbers, in float32 also under autocast."""
        return self.head(self.stack(image)).float()
