"""What `Register` and `Classify` train."""

from torch import nn


class Model(nn.Module):
    """Called with (image, reference), returns a `Prediction`.

    Attributes:
        learns_angle: there is an encoder, whose angle carries a gradient; `orient` returns its hypotheses alone.
        aligns_to_batch: the angle is that to the reference of each pair. To a reference of the model's own it has no
            meaning but by what it was trained on: without known angles only its dispersion can be measured.
    """

    learns_angle = False
    aligns_to_batch = False

    @property
    def localiser(self) -> nn.Module | None:
        """Return the module that predicts the transform, or None if there is none."""
        return None
