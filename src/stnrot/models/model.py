"""The base class of the models that the tasks `Register` and `Classify` train."""

from torch import nn


class Model(nn.Module):
    """A module that maps (image, reference) to a `Prediction`.

    Attributes:
        learns_angle: whether the model has an encoder whose angle has a gradient. Then `orient` returns the hypotheses
            without a classification.
        aligns_to_batch: whether the angle aligns each image with the reference of its pair. If False, the model aligns
            images with a learned reference, and training determines which angle is upright. If it was trained without
            known angles, only the dispersion of its angles can be measured.
    """

    learns_angle = False
    aligns_to_batch = False

    @property
    def localiser(self) -> nn.Module | None:
        """Return the module that predicts the transform, or None if there is none."""
        return None
