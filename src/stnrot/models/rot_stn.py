"""The rotation-only spatial transformer network."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.errors import InputError
from stnrot.geometry import rotate
from stnrot.models.records import Prediction


class RotSTN(nn.Module):
    """Encoder -> angle -> rotation sampler -> classifier: the transform is a rotation by construction.

    Args:
        encoder: takes image and reference, returns an `Orientation`.
        classifier: reads the aligned picture; None aligns only.
        reference: `learned` holds one canonical picture as a parameter, the same for every image, so it
            can carry neither label nor pose; `batch` takes the reference of each pair.
        image_shape: channels, height and width of the learned reference.
    """

    def __init__(
        self, encoder: nn.Module, classifier: nn.Module | None, reference: str, image_shape: Sequence[int]
    ) -> None:
        super().__init__()
        if reference not in ("learned", "batch"):
            raise ValueError(f"reference: expected learned or batch, got {reference!r}")
        self.encoder, self.classifier = encoder, classifier
        self.reference = nn.Parameter(torch.zeros(1, *image_shape)) if reference == "learned" else None
        self.aligns_to_batch = self.reference is None

    def forward(self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "B C H W"] | None) -> Prediction:
        """Line the image up with the reference; classify the mixture over the encoder's hypotheses."""
        if self.reference is not None:
            if reference is not None:
                raise InputError("the data gives a reference with each image: set model.reference=batch")
            reference = self.reference.contiguous().expand(len(image), -1, -1, -1)
        elif reference is None:
            raise InputError(
                "model.reference=batch, but the data gives no reference: set model.reference=learned, "
                "or train on pairs with data=image_pairs"
            )
        orientation = self.encoder(image, reference)
        turned = rotate(image, orientation.angle)
        log_probability = None
        if self.classifier is not None:
            each = self.classifier(turned.flatten(0, 1)).log_softmax(-1).unflatten(0, turned.shape[:2])
            log_probability = (orientation.log_weight[..., None] + each).logsumexp(1)
        return Prediction(orientation, turned[:, 0], reference, log_probability)
