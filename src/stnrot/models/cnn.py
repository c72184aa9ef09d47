"""The baseline without a transformer."""

from jaxtyping import Float
from torch import Tensor, nn

from stnrot.models.model import Model
from stnrot.models.outputs import Prediction


class CNN(Model):
    """Classify the picture as it comes."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "B C H W"] | None) -> Prediction:
        """Predict the class; the reference is not looked at."""
        return Prediction(None, None, None, self.classifier(image).log_softmax(-1))
