"""The rotation-only spatial transformer network."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from stnrot.errors import InputError, check_number
from stnrot.geometry import Deform, rotate
from stnrot.geometry.deform import NUMBERS
from stnrot.models.model import Model
from stnrot.models.outputs import Orientation, Prediction

NEGLIGIBLE = math.log(1e-2)  # a hypothesis of less weight is not looked at
# For each new batch size convolutions are planned anew, which costs more than to read a few pictures twice: the number
# read beyond the batch is rounded up to a multiple of ROUND or, if that is more, of a PARTS-th of the batch.
ROUND, PARTS = 8, 32


class RotSTN(Model):
    r"""Encoder -> angles -> rotation sampler -> classifier: the transform is a rotation by construction.

    The class probability is a mixture over the encoder's K hypotheses, in which the classifier has a say in
    which of them is upright. With the encoder's weights v_k and the classifier's logits l_kc of the picture
    turned by angle_k,

        p(class c, hypothesis k | image) = v_k exp(l_kc) / sum_{k', c'} v_k' exp(l_k'c'),

    and `p(c) = sum_k p(c, k) = sum_k w_k softmax(l_k)_c` with the weights `w_k = sum_c p(c, k)`, which are those of
    the orientation returned. With K = 1 it is the plain rotation STN of M. Jaderberg et al., Spatial Transformer
    Networks, 2015, whose probability is the softmax of the logits.

    Args:
        encoder: takes image, reference and K, returns an `Orientation`.
        classifier: reads the aligned pictures; None aligns only.
        hypotheses: K, how many angles the encoder is to offer.
        augment: deforms what the classifier sees in training, in one sampling with the alignment: the encoder
            needs no deformed pictures, and a picture sampled once more would be another kind of picture.
        reference: `features` holds what the encoder would make of one canonical picture as a parameter, the same for
            every image, so it can carry neither label nor pose; `learned` holds the picture itself; `batch` takes
            the reference of each pair.
        image_shape: channels, height and width of the learned reference.
    """

    learns_angle = True

    def __init__(
        self,
        encoder: nn.Module,
        classifier: nn.Module | None,
        hypotheses: int,
        augment: Deform | None,
        reference: str,
        image_shape: Sequence[int],
    ) -> None:
        super().__init__()
        check_number("model.hypotheses", hypotheses, 1)
        if reference not in ("features", "learned", "batch"):
            raise InputError(f"model.reference: expected features, learned or batch, got {reference!r}")
        if reference == "features" and not hasattr(encoder, "feature_shape"):
            raise InputError("model.reference=features: this encoder takes pictures, set model.reference=learned")
        self.encoder, self.classifier = encoder, classifier
        self.hypotheses, self.augment = hypotheses, augment
        shape: Any = encoder.feature_shape if reference == "features" else image_shape
        self.reference = None if reference == "batch" else nn.Parameter(0.1 * torch.randn(1, *shape))
        self.aligns_to_batch = self.reference is None

    @property
    def localiser(self) -> nn.Module:
        """Return the encoder."""
        return self.encoder

    def orient(
        self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "B C H W"] | None
    ) -> tuple[Orientation, Float[Tensor, "B C H W"] | None]:
        """Return the encoder's hypotheses and the picture, if it is one, that they line the image up with."""
        if self.reference is not None:
            if reference is not None:
                raise InputError("the data gives a reference with each image: set model.reference=batch")
            held: Tensor = self.reference
            if held.ndim == 4 and held.shape[1:] != image.shape[1:]:
                had, came = list(held.shape[1:]), list(image.shape[1:])
                raise InputError(f"model.image_shape={had}: expected that of the pictures, {came}")
            orientation = self.encoder(image, held, self.hypotheses)
            return orientation, held.expand_as(image) if held.ndim == 4 else None
        if reference is None:
            raise InputError(
                "model.reference=batch, but the data gives no reference: set model.reference=learned, "
                "or train on pairs with data=image_pairs"
            )
        return self.encoder(image, reference, self.hypotheses), reference

    def forward(self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "B C H W"] | None) -> Prediction:
        """Line the image up with the reference; classify the mixture over the encoder's hypotheses."""
        orientation, shown = self.orient(image, reference)
        if self.classifier is None:
            return Prediction(orientation, rotate(image, orientation.angle[:, 0]), shown, None)

        kept = orientation.log_weight > NEGLIGIBLE
        kept[:, 0] = True
        row, hypothesis = kept.nonzero(as_tuple=True)
        multiple = max(ROUND, len(image) // PARTS)
        spare = -(len(row) - len(image)) % multiple  # pictures that batch norm, in training, counts twice
        read, angle = (torch.cat((x, x[:spare])) for x in (row, orientation.angle[row, hypothesis]))
        logits = self.classifier(self._turn(image[read], angle))[: len(row)]

        joint = _joint_log_probability(orientation.log_weight, logits, (row, hypothesis))
        log_weight, order = joint.logsumexp(2).sort(descending=True, stable=True)
        angle = orientation.angle.gather(1, order)
        orientation = Orientation(angle, log_weight, orientation.log_posterior)
        return Prediction(orientation, rotate(image, angle[:, 0]), shown, joint.logsumexp(1))

    def _turn(self, image: Float[Tensor, "N C H W"], angle: Float[Tensor, "N"]) -> Float[Tensor, "N C H W"]:
        if not self.training or self.augment is None:
            return rotate(image, angle)
        numbers = torch.randn(len(image), NUMBERS, device=image.device, dtype=torch.float32)
        return self.augment(image, angle, numbers)


def _joint_log_probability(
    log_weight: Float[Tensor, "B K"],
    logits: Float[Tensor, "N classes"],
    kept: tuple[Int[Tensor, "N"], Int[Tensor, "N"]],
) -> Float[Tensor, "B K classes"]:
    """Return log p(hypothesis, class | image), of zero for all hypotheses but the N kept (image, hypothesis)."""
    nothing = torch.finfo(log_weight.dtype).min
    joint = log_weight.new_full((*log_weight.shape, logits.shape[1]), nothing)
    joint = joint.index_put(kept, log_weight[kept][:, None] + logits)
    return joint.flatten(1).log_softmax(-1).view_as(joint)
