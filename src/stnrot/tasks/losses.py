"""The loss on images."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stnrot.geometry import inscribed_disc
from stnrot.geometry.constants import constant


def photometric_loss(aligned: Float[Tensor, "B C H W"], reference: Float[Tensor, "B C H W"]) -> Float[Tensor, ""]:
    """Return the mean squared difference inside the inscribed disc, which stays full under any rotation."""
    height, width = aligned.shape[-2:]
    inside, per_share = _disc(height, width, aligned.device)
    return ((aligned - reference) ** 2 * inside).mean() * per_share


@constant
def _disc(height: int, width: int, device: torch.device) -> tuple[Bool[Tensor, "{height} {width}"], Float[Tensor, ""]]:
    """Return the inscribed disc, and one over its share of the pixels."""
    inside = inscribed_disc((height, width), device)
    return inside, inside.numel() / inside.sum()
