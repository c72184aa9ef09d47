"""Several trained models as one."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.geometry import rotate
from stnrot.models.model import Model
from stnrot.models.outputs import Orientation, Prediction

AGREE = 400.0  # concentration of the kernel by which hypotheses support each other: about 3 degrees


class Ensemble(Model):
    r"""Average the probabilities of models that were trained alike, from different seeds.

    The class and the bins of the circle have the mean of the members' probabilities. The hypotheses are those of all
    members, each with its weight divided by their number. First comes the one with the most weight near it, its own and
    others', so that members who agree outvote one that is sure,

        support_k = sum_j weight_j exp(concentration (cos(angle_j - angle_k) - 1)),

    and `reference` is that of the member whose hypothesis it is.

    Source: B. Lakshminarayanan, A. Pritzel, C. Blundell, Simple and scalable predictive uncertainty estimation using
    deep ensembles, 2017.

    Args:
        members: models of one kind.
        same_upright: False for models that were taught no angles. Each has then an upright of its own, and the ensemble
            gives a class but no angle.
    """

    def __init__(self, members: Sequence[Model], same_upright: bool) -> None:
        super().__init__()
        self.members, self.same_upright = nn.ModuleList(members), same_upright
        self.aligns_to_batch, self.learns_angle = members[0].aligns_to_batch, members[0].learns_angle

    def orient(
        self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "B C H W"] | None
    ) -> tuple[Orientation, Float[Tensor, "B C H W"] | None]:
        """Return the hypotheses of all members' encoders and the picture that the first lines the image up with."""
        members: Any = self.members
        said = [member.orient(image, reference) for member in members]
        orientation, first = _together([each for each, _ in said])
        return orientation, _of(first, [shown for _, shown in said])

    def forward(self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "B C H W"] | None) -> Prediction:
        """Predict by all members."""
        said: list[Prediction] = [member(image, reference) for member in self.members]
        log_probability = _mean([each.log_probability for each in said])
        orientations = [each.orientation for each in said if each.orientation is not None]
        if not self.same_upright or not orientations:
            return Prediction(None, None, None, log_probability)
        orientation, first = _together(orientations)
        aligned, shown = rotate(image, orientation.angle[:, 0]), _of(first, [each.reference for each in said])
        return Prediction(orientation, aligned, shown, log_probability)


def _together(orientations: list[Orientation]) -> tuple[Orientation, Tensor]:
    """Return all hypotheses, best first, and the number of the member that each image's first is of."""
    angle = torch.cat([each.angle for each in orientations], 1)
    log_weight = torch.cat([each.log_weight for each in orientations], 1) - math.log(len(orientations))
    kernel = AGREE * ((angle[:, :, None] - angle[:, None]).cos() - 1)
    support = (kernel + log_weight[:, None]).logsumexp(2)
    order = support.argsort(descending=True, stable=True)
    angle, log_weight = (x.gather(1, order) for x in (angle, log_weight))
    together = Orientation(angle, log_weight, _mean([each.log_posterior for each in orientations]))
    return together, order[:, 0] // orientations[0].angle.shape[1]


def _mean(logs: list[Tensor | None]) -> Tensor | None:
    known = [each for each in logs if each is not None]
    return torch.stack(known).logsumexp(0) - math.log(len(known)) if known else None


def _of(member: Tensor, pictures: list[Tensor | None]) -> Tensor | None:
    known = [each for each in pictures if each is not None]
    return torch.stack(known)[member, torch.arange(len(member), device=member.device)] if known else None
