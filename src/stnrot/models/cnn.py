"""The baseline without a spatial transformer."""

from jaxtyping import Float
from torch import Tensor, nn

from stnrot.geometry.tails import log_softmax
from stnrot.models.checks import check_network
from stnrot.models.model import Model
from stnrot.models.outputs import Prediction


class CNN(Model):
    """Classify the image without alignment.

    Args:
        classifier: maps images to logits.
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        check_network("classifier", classifier)
        self.classifier = classifier

    def forward(self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "B C H W"] | None) -> Prediction:
        """Predict the class. The reference is not used."""
        return Prediction(None, None, None, log_softmax(self.classifier(image), 1))
