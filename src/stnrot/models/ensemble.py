"""An ensemble: several trained models as one."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.errors import InputError
from stnrot.geometry.constants import counting
from stnrot.models.model import Model
from stnrot.models.outputs import Orientation, Prediction, RotatedPrediction

CONCENTRATION = 400.0  # of the kernel by which hypotheses support each other: a width of about 3 degrees


class Ensemble(Model):
    r"""Average the probabilities of models that differ only in their random seed.

    The probability of a class, and of a bin of the circle, is the mean over the members. The hypotheses are those of
    all members, with their weights divided by the number of members. They are sorted by their support,

        support_k = sum_j weight_j exp(concentration (cos(angle_j - angle_k) - 1)),

    the weight of all hypotheses near it. So members that agree outvote one confident member. `reference` in the
    prediction is the reference of the member that the first hypothesis comes from.

    Source: B. Lakshminarayanan, A. Pritzel, C. Blundell, Simple and scalable predictive uncertainty estimation using
    deep ensembles, 2017.

    Args:
        members: models of one class.
        same_upright: whether the members were trained with known angles. If not, each member has learned its own
            upright angle, and the ensemble predicts the class but no angle.
    """

    def __init__(self, members: Sequence[Model], same_upright: bool) -> None:
        super().__init__()
        if not members:
            raise InputError("members: expected at least one model, got none")
        self.members, self.same_upright = nn.ModuleList(members), same_upright
        self.aligns_to_batch, self.learns_angle = members[0].aligns_to_batch, members[0].learns_angle

    def orient(
        self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "B C H W"] | None
    ) -> tuple[Orientation, Float[Tensor, "B C H W"] | None]:
        """Return the hypotheses of all members, and the reference image of the first hypothesis."""
        members: Any = self.members
        orientations, references = zip(*(member.orient(image, reference) for member in members), strict=True)
        orientation, first = _merge(orientations)
        return orientation, _select(first, references)

    def forward(self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "B C H W"] | None) -> Prediction:
        """Predict with all members, and merge their predictions."""
        predictions: list[Prediction] = [member(image, reference) for member in self.members]
        log_probability = _log_mean([prediction.log_probability for prediction in predictions])
        orientations = [prediction.orientation for prediction in predictions if prediction.orientation is not None]
        if not self.same_upright or not orientations:
            return Prediction(None, None, None, log_probability)
        orientation, first = _merge(orientations)
        reference = _select(first, [prediction.reference for prediction in predictions])
        return RotatedPrediction(image, orientation, reference, log_probability)


def _merge(orientations: Sequence[Orientation]) -> tuple[Orientation, Tensor]:
    """Return all hypotheses, best first, and for each image the index of the member with the first hypothesis."""
    angle = torch.cat([member.angle for member in orientations], 1)
    log_weight = torch.cat([member.log_weight for member in orientations], 1) - math.log(len(orientations))
    kernel = CONCENTRATION * ((angle[:, :, None] - angle[:, None]).cos() - 1)
    support = (kernel + log_weight[:, None]).logsumexp(2)
    order = support.argsort(descending=True, stable=True)
    angle, log_weight = (x.gather(1, order) for x in (angle, log_weight))
    log_posterior = _log_mean([member.log_posterior for member in orientations])
    return Orientation(angle, log_weight, log_posterior), order[:, 0] // orientations[0].angle.shape[1]


def _log_mean(logs: Sequence[Tensor | None]) -> Tensor | None:
    """Return the logarithm of the mean of probabilities, given their logarithms; None if there are none."""
    known = [log for log in logs if log is not None]
    return torch.stack(known).logsumexp(0) - math.log(len(known)) if known else None


def _select(member: Tensor, references: Sequence[Tensor | None]) -> Tensor | None:
    """Return for each image the reference of the given member; None if there are no reference images."""
    known = [reference for reference in references if reference is not None]
    return torch.stack(known)[member, counting(len(member), member.device)] if known else None
