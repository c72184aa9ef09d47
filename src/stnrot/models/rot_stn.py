"""The rotation-only spatial transformer network."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from stnrot.errors import InputError, check_choice, check_number
from stnrot.geometry import Deform, rotate
from stnrot.geometry.photo import PhotoAugment
from stnrot.geometry.planar import Mode
from stnrot.geometry.tails import log_softmax, logsumexp
from stnrot.models.checks import check_network
from stnrot.models.mixture import joint_log_probability
from stnrot.models.model import Model
from stnrot.models.outputs import Orientation, Prediction, RotatedPrediction
from stnrot.models.reference import learned_reference

NEGLIGIBLE = math.log(1e-2)  # hypotheses of less weight are not classified
# Convolutions are planned anew for each new batch size, which costs more than classifying a few images twice. So the
# number of rotated images beyond the batch is rounded up, to a multiple of ROUND or of batch / PARTS if that is more.
ROUND, PARTS = 8, 32


class RotSTN(Model):
    r"""Predict angles, rotate the image by each of them, and classify it. The transform is always a rotation.

    The encoder returns K hypotheses of the angle. The class probability is a mixture over them. The classifier also
    influences the weight of each hypothesis: an upright image gives it larger logits. Let v_k be the weights of the
    encoder, and l_kc the logits of the classifier for the image rotated by angle_k. Then

        p(class c, hypothesis k | image) = v_k exp(l_kc) / sum_{k', c'} v_k' exp(l_k'c'),

    and `p(c) = sum_k p(c, k) = sum_k w_k softmax(l_k)_c` with the weights `w_k = sum_c p(c, k)`. The orientation in the
    prediction has the weights w_k. With K = 1 this is the plain rotation STN, whose probability is the softmax of the
    logits (M. Jaderberg et al., Spatial Transformer Networks, 2015).

    Args:
        encoder: maps image, reference and K to an `Orientation`.
        classifier: reads the aligned images; None aligns without a classification.
        hypotheses: K, the number of angles that the encoder returns.
        augment: deforms or otherwise changes the images of the classifier in training, in the same sampling as the
            alignment. The encoder does not need such images, and sampling an image a second time would blur it once
            more. None for no change.
        reference: `features` learns the features of a canonical image, as the encoder computes them, as a parameter.
            It is the same for every image, so it contains neither label nor pose. `learned` learns the canonical image
            itself. `batch` uses the reference of each pair.
        image_shape: channels, height and width of the learned image.
        interpolation: of the aligned images, which the classifier reads: bilinear, bicubic or lanczos.

    Raises:
        InputError: if an argument is not valid, or later if the data do not match `reference`.

    >>> from stnrot.models.classifiers.conv import ConvClassifier
    >>> from stnrot.models.encoders.cnn import CNNEncoder
    >>> model = RotSTN(CNNEncoder(1, "vector"), ConvClassifier(1, 10, 8), 1, None, "learned", (1, 28, 28))
    >>> prediction = model(torch.rand(2, 1, 28, 28), None)
    >>> prediction.orientation.angle.shape, prediction.log_probability.shape
    (torch.Size([2, 1]), torch.Size([2, 10]))
    """

    learns_angle = True
    exports_every_hypothesis = True  # whether an exported graph has fixed shapes, see `_read_all`

    def __init__(
        self,
        encoder: nn.Module,
        classifier: nn.Module | None,
        hypotheses: int,
        augment: Deform | PhotoAugment | None,
        reference: str,
        image_shape: Sequence[int],
        interpolation: Mode = "bilinear",  # runs of before the option have this one
    ) -> None:
        super().__init__()
        check_network("encoder", encoder)
        if classifier is not None:
            check_network("classifier", classifier)
        check_number("hypotheses", hypotheses, 1)
        check_choice("interpolation", interpolation, "bilinear", "bicubic", "lanczos")
        if reference not in ("features", "learned", "batch"):
            raise InputError(f"reference: expected features, learned or batch, got {reference!r}")
        if reference == "features" and not hasattr(encoder, "feature_shape"):
            raise InputError("reference=features: this encoder needs an image as the reference, set reference=learned")
        self.encoder, self.classifier = encoder, classifier
        self.hypotheses, self.augment, self.interpolation = hypotheses, augment, interpolation
        shape: Any = encoder.feature_shape if reference == "features" else image_shape
        self.reference = None if reference == "batch" else learned_reference(shape)
        self.aligns_to_batch = self.reference is None

    @property
    def localiser(self) -> nn.Module:
        """Return the encoder."""
        return self.encoder

    def orient(
        self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "B C H W"] | None
    ) -> tuple[Orientation, Float[Tensor, "B C H W"] | None]:
        """Return the hypotheses of the encoder, and the reference. It is None if the reference is not an image."""
        if self.reference is not None:
            if reference is not None:
                raise InputError("the data have a reference for each image: set model.reference=batch")
            learned: Tensor = self.reference
            if learned.ndim == image.ndim == 4 and learned.shape[1:] != image.shape[1:]:
                shape, expected = list(learned.shape[1:]), list(image.shape[1:])
                raise InputError(f"model.image_shape={shape}: expected the shape of the images, {expected}")
            orientation = self.encoder(image, learned, self.hypotheses)
            return orientation, learned.expand_as(image) if learned.ndim == 4 else None
        if reference is None:
            raise InputError(
                "model.reference=batch, but the data have no references: set model.reference=learned, "
                "or train on pairs with data=image_pairs"
            )
        return self.encoder(image, reference, self.hypotheses), reference

    def forward(self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "B C H W"] | None) -> Prediction:
        """Align the image with the reference, and classify it by the mixture over the hypotheses."""
        orientation, shown = self.orient(image, reference)
        if self.classifier is None:
            return RotatedPrediction(image, orientation, shown, None, interpolation=self.interpolation)

        classified = orientation.log_weight > NEGLIGIBLE
        classified[:, 0] = True
        exporting = torch.compiler.is_exporting()
        read = self._read_all if exporting and self.exports_every_hypothesis else self._read_likely
        joint = read(image, orientation, classified)
        total = logsumexp(joint, 2)  # ONNX's order is always stable, and torch exports no other
        log_weight, order = total.sort(descending=True) if exporting else total.sort(descending=True, stable=True)
        orientation = Orientation(orientation.angle.gather(1, order), log_weight, orientation.log_posterior)
        return RotatedPrediction(image, orientation, shown, logsumexp(joint, 1), interpolation=self.interpolation)

    def _read_likely(
        self, image: Float[Tensor, "B C H W"], orientation: Orientation, classified: Bool[Tensor, "B K"]
    ) -> Float[Tensor, "B K classes"]:
        """Classify the chosen hypotheses alone; return log p(hypothesis, class | image)."""
        assert self.classifier is not None
        row, hypothesis = classified.nonzero(as_tuple=True)
        angle = orientation.angle[row, hypothesis]
        if torch.compiler.is_exporting():
            torch._check(row.shape[0] >= 2)  # else the graph would be for one image alone; ONNX has no such check
            logits = self.classifier(self._rotate(image[row], angle))
        else:
            multiple = max(ROUND, len(image) // PARTS)
            spare = -(len(row) - len(image)) % multiple  # images that batch norm counts twice, in training
            padded_row, angle = (torch.cat((x, x[:spare])) for x in (row, angle))
            logits = self.classifier(self._rotate(image[padded_row], angle))[: len(row)]
        return joint_log_probability(orientation.log_weight, logits, (row, hypothesis))

    def _read_all(
        self, image: Float[Tensor, "B C H W"], orientation: Orientation, classified: Bool[Tensor, "B K"]
    ) -> Float[Tensor, "B K classes"]:
        """Return the same as `_read_likely`, computed in fixed shapes, for an exported graph: K images for each."""
        assert self.classifier is not None
        count = orientation.angle.shape[1]
        turned = self._rotate(image.repeat_interleave(count, 0), orientation.angle.flatten())
        logits = self.classifier(turned).unflatten(0, (-1, count))
        joint = orientation.log_weight[..., None] + logits
        least = torch.finfo(joint.dtype).min
        return log_softmax(joint.masked_fill(~classified[..., None], least).flatten(1), 1).view_as(joint)

    def _rotate(self, image: Float[Tensor, "N C H W"], angle: Float[Tensor, "N"]) -> Float[Tensor, "N C H W"]:
        """Rotate the images; in training, also augment them."""
        if not self.training or self.augment is None:
            return rotate(image, angle, self.interpolation)
        numbers = torch.randn(len(image), self.augment.count, device=image.device, dtype=torch.float32)
        return self.augment(image, angle, numbers, self.interpolation)
