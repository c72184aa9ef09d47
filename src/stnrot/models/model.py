"""The base class of the models that the tasks `Register` and `Classify` train."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from stnrot.arguments import checked
from stnrot.config_files import read_options
from stnrot.errors import InputError
from stnrot.geometry import rotate
from stnrot.models.angle_loss import angle_loss


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

    @checked
    def loss(
        self, images: Float[Tensor, "B C H W"], labels: Int[Tensor, "B"], *, upright: bool = True
    ) -> Float[Tensor, ""]:
        """Return the loss of a training step of a plain loop, as `task=classify` has it by default.

        Every image is rotated by a random angle, uniform on the circle. The loss is the negative log-likelihood of the
        class. For images that are upright the angle is known: a model that predicts it also gets the negative
        log-likelihood of the angle, with the weight `angle_weight` of `configs/task/classify.yaml`.

        Args:
            images: from the set to train on, with values in [0, 1].
            labels: class of each image.
            upright: whether the images are upright.

        Raises:
            InputError: if an argument does not fit, or the model does not classify single images.
        """
        if self.aligns_to_batch:
            raise InputError("loss: expected a model with a learned reference, got one that aligns pairs")
        dtype = torch.promote_types(images.dtype, torch.float32)
        angle = (2 * torch.rand(len(images), device=images.device, dtype=dtype) - 1) * math.pi
        prediction = self(rotate(images, angle, "bicubic"), None)
        if prediction.log_probability is None:
            raise InputError("loss: expected a model with a classifier")
        classes = prediction.log_probability.shape[1]
        if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
            raise InputError(f"labels: expected numbers from 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
        loss = F.nll_loss(prediction.log_probability, labels.long())
        if upright and self.learns_angle:
            weight = read_options("task/classify")["task"]["angle_weight"]
            loss = loss + weight * angle_loss(prediction.orientation, -angle, 0.0)
        return loss
