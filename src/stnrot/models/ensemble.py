"""Several trained models as one."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.models.records import Orientation, Prediction


class Ensemble(nn.Module):
    """Average the probabilities of models that were trained alike, from different seeds.

    The class and the angle have the mean of the members' probabilities; the hypotheses are those of all members, with
    their weights divided by how many there are, and `aligned` and `reference` those of the member whose hypothesis
    weighs most. Of models without angle labels each has an upright of its own: their angles do not go together.

    Source: B. Lakshminarayanan, A. Pritzel, C. Blundell, Simple and scalable predictive uncertainty estimation using
    deep ensembles, 2017.

    Args:
        members: models of one kind.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.aligns_to_batch, self.learns_angle = members[0].aligns_to_batch, members[0].learns_angle

    def orient(
        self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "B C H W"] | None
    ) -> tuple[Orientation, Float[Tensor, "B C H W"] | None]:
        """Return the hypotheses of all members' encoders and the picture that the best lines the image up with."""
        members: Any = self.members
        said = [member.orient(image, reference) for member in members]
        orientation, best = _together([each for each, _ in said])
        return orientation, _of(best, [shown for _, shown in said])

    def forward(self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "B C H W"] | None) -> Prediction:
        """Predict by all members."""
        said: list[Prediction] = [member(image, reference) for member in self.members]
        log_probability = _mean([each.log_probability for each in said])
        orientations = [each.orientation for each in said if each.orientation is not None]
        if not orientations:
            return Prediction(None, None, None, log_probability)
        orientation, best = _together(orientations)
        aligned, shown = _of(best, [each.aligned for each in said]), _of(best, [each.reference for each in said])
        return Prediction(orientation, aligned, shown, log_probability)


def _together(orientations: list[Orientation]) -> tuple[Orientation, Tensor]:
    """Return all hypotheses, best first, and the number of the member that each image's best is of."""
    log_weight = torch.cat([each.log_weight for each in orientations], 1) - math.log(len(orientations))
    log_weight, order = log_weight.sort(descending=True, stable=True)
    angle = torch.cat([each.angle for each in orientations], 1).gather(1, order)
    together = Orientation(angle, log_weight, _mean([each.log_posterior for each in orientations]))
    return together, order[:, 0] // orientations[0].angle.shape[1]


def _mean(logs: list[Tensor | None]) -> Tensor | None:
    known = [each for each in logs if each is not None]
    return torch.stack(known).logsumexp(0) - math.log(len(known)) if known else None


def _of(member: Tensor, pictures: list[Tensor | None]) -> Tensor | None:
    known = [each for each in pictures if each is not None]
    return torch.stack(known)[member, torch.arange(len(member), device=member.device)] if known else None
