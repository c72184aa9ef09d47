"""The losses on angles and pictures."""

from jaxtyping import Float
from torch import Tensor

from stnrot.geometry import inscribed_disc


def angle_loss(predicted: Float[Tensor, "B"], true: Float[Tensor, "B"]) -> Float[Tensor, ""]:
    """Return the mean of `1 - cos(error)`: smooth on the circle, half the squared error near zero."""
    return (1 - (predicted - true).cos()).mean()


def photometric_loss(aligned: Float[Tensor, "B C H W"], reference: Float[Tensor, "B C H W"]) -> Float[Tensor, ""]:
    """Return the mean squared difference inside the inscribed disc, which no rotation empties."""
    inside = inscribed_disc(aligned.shape[-2:], aligned.device)
    return ((aligned - reference) ** 2 * inside).mean() * (inside.numel() / inside.sum())
