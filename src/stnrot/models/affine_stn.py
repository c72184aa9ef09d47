"""The general spatial transformer network, with six free parameters."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.geometry import nearest_rotation, warp
from stnrot.geometry.tails import log_softmax
from stnrot.models.checks import check_network
from stnrot.models.model import Model
from stnrot.models.outputs import Orientation, Prediction


class AffineSTN(Model):
    """Warp the image by an affine map that a localisation network predicts, then classify it.

    Source: M. Jaderberg et al., Spatial Transformer Networks, 2015.

    The orientation in the prediction is the rotation nearest to the affine map. It is for measurement only and has no
    gradient: if the network is trained on it, the map keeps the angle and loses its scale (12 % test error on the
    digits instead of 2 %).

    Args:
        localisation: maps images to the six numbers of the affine map.
        classifier: reads the warped images.
    """

    def __init__(self, localisation: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        check_network("localisation", localisation)
        check_network("classifier", classifier)
        self.localisation, self.classifier = localisation, classifier

    @property
    def localiser(self) -> nn.Module:
        """Return the localisation network."""
        return self.localisation

    def forward(self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "B C H W"] | None) -> Prediction:
        """Warp and classify the image. The reference is not used."""
        theta = self.localisation(image).unflatten(-1, (2, 3))
        aligned = warp(image, theta)
        angle = nearest_rotation(theta.detach(), *image.shape[-2:])[:, None]
        orientation = Orientation(angle, torch.zeros_like(angle), None)
        return Prediction(orientation, aligned, None, log_softmax(self.classifier(aligned), 1))
