"""The methods of the photographs benchmark: how each reads a picture at any angle, and the upright that it finds."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from harness.photograph_equiadapt import canonical
from harness.photograph_parts import Part
from stnrot import Upright
from stnrot.data.image_data import as_float
from stnrot.data.image_set import ImageSet
from stnrot.geometry import angular_distance, circular_mean, inscribed_disc, rotate, rotate_bicubic
from stnrot.models.confidence import confidence
from stnrot.models.upright import UPRIGHT_WITHIN

NETWORK, TURNED, UPRIGHT, UNSURE = "network", "network trained on turned pictures", "Upright", "Upright, unsure left"
BEHIND = "Upright, network trained behind it"
CNN, EQUIADAPT, OPTIMISED = "Upright, encoder=cnn", "equiadapt C8", "equiadapt C8, optimised"
WRONG_DEG, MOST_WRONG = 45, 0.01
BATCH = 500

Angles = tuple[Float[Tensor, "B"], Bool[Tensor, "B"]]  # radians that rotate upright; which pictures stay as they are


@dataclass(frozen=True)
class Method:
    """How a method reads pictures, and how it finds the upright if it does.

    Args:
        read: maps pictures in the disc to scores of the classes. It is also passed the true angles, which one method
            uses.
        find: maps pictures in the disc to the angles that rotate them upright, 0 for those that stay as they are.
        core_minutes: of all its parts.
        min_confidence: pictures of less stay as they are.
    """

    read: Callable[[Tensor, Tensor], Tensor]
    find: Callable[[Tensor], Angles] | None
    parameters: int
    core_minutes: float | None
    min_confidence: float | None = None


def all_methods(parts: Mapping[str, Part], train: ImageSet, validation: ImageSet) -> dict[str, Method]:
    """Return the methods whose parts are there, by their names in the table."""
    network, encoder = parts["network"], parts["encoder"]
    alone_there = {name: parts[key] for name, key in ((NETWORK, "network"), (TURNED, "turned")) if key in parts}
    found = {
        name: Method(alone(part.module), None, part.parameters, part.core_minutes) for name, part in alone_there.items()
    }
    for name, part in alone_there.items():
        for turns in (8, 16):
            reader = partial(averaged, part.module, turns)
            found[f"{name}, mean of {turns} turns"] = Method(reader, None, part.parameters, part.core_minutes)
    found[UPRIGHT] = behind(network, encoder)
    found[f"{UPRIGHT}, K = 3"] = mixed(network, encoder)
    if "behind" in parts:
        found[BEHIND] = behind(parts["behind"], encoder)
        found[f"{BEHIND}, K = 3"] = mixed(parts["behind"], encoder)
    found[UNSURE] = behind(network, encoder, safe_confidence(encoder, validation))
    if "cnn" in parts:
        found[CNN] = behind(network, parts["cnn"])
    for name, key in ((EQUIADAPT, "equiadapt"), (OPTIMISED, "equiadapt_optimised")):
        if key in parts:
            found[name] = canonicalised(network, parts[key])
    found["intensity direction"] = by_intensity(network, train)
    found["the true angle"] = Method(
        lambda image, angle: network.module(rotate(image, angle, "bicubic")),
        None,
        network.parameters,
        network.core_minutes,
    )
    return found


def alone(network: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a reader that is not told the angle."""
    return lambda image, angle: network(image)


def averaged(network: nn.Module, turns: int, image: Tensor, angle: Tensor) -> Tensor:
    """Return the mean class probabilities of a picture at evenly spaced angles."""
    shares = [torch.full_like(angle, 2 * math.pi * k / turns) for k in range(turns)]
    return torch.stack([network(rotate_bicubic(image, share)).softmax(1) for share in shares]).mean(0)


def behind(network: Part, encoder: Part, min_confidence: float = 0.0) -> Method:
    """Return the method of a network behind an encoder, which takes the best hypothesis."""
    model = Upright(network.module, encoder.module, min_confidence=min_confidence).eval()
    return Method(alone(model), finder(encoder, min_confidence), *cost(network, encoder), min_confidence)


def mixed(network: Part, encoder: Part) -> Method:
    """Return the method of a network that reads the three best hypotheses."""
    model = Upright(network.module, encoder.module, hypotheses=3).eval()
    return Method(alone(model), finder(encoder), *cost(network, encoder))


def finder(encoder: Part, min_confidence: float = 0.0) -> Callable[[Tensor], Angles]:
    """Return a function that finds the upright by the best hypothesis of an encoder."""
    sure = Upright(nn.Identity(), encoder.module).eval()

    def find(image: Tensor) -> Angles:
        orientation = sure.orient(image)
        angle = orientation.angle[:, 0]
        stays = torch.zeros_like(angle, dtype=torch.bool)
        if min_confidence:
            stays = confidence(orientation, UPRIGHT_WITHIN)[:, 0] < min_confidence
        return angle.masked_fill(stays, 0.0), stays

    return find


def canonicalised(network: Part, part: Part) -> Method:
    """Return the method of a network behind equiadapt's canonicaliser."""

    def find(image: Tensor) -> Angles:
        angle = canonical(part.module, image)[1]
        return angle, torch.zeros_like(angle, dtype=torch.bool)

    return Method(lambda image, angle: network.module(canonical(part.module, image)[0]), find, *cost(network, part))


def by_intensity(network: Part, train: ImageSet) -> Method:
    """Return the general intensity direction: from the middle of the disc to the centroid of the grey values.

    The direction of an upright picture is the circular mean over the training pictures.
    """
    height, width = train.shape[1:]
    device = next(network.module.parameters()).device
    disc = inscribed_disc((height, width), device)
    up = (height - 1) / 2 - torch.arange(height, device=device)[:, None]
    right = torch.arange(width, device=device) - (width - 1) / 2

    def direction(image: Tensor) -> Tensor:
        grey = image.mean(1) * disc
        return torch.atan2((grey * up).sum((1, 2)), (grey * right).sum((1, 2)))

    upright = circular_mean(torch.cat([direction(as_float(each.to(device))) for each in train.image.split(BATCH)]))

    def find(image: Tensor) -> Angles:
        angle = upright - direction(image)
        return angle, torch.zeros_like(angle, dtype=torch.bool)

    def read(image: Tensor, angle: Tensor) -> Tensor:
        return network.module(rotate(image, find(image)[0], "bicubic"))

    return Method(read, find, network.parameters, network.core_minutes)


def cost(network: Part, encoder: Part) -> tuple[int, float | None]:
    """Return the parameters and the core-minutes of both."""
    known = network.core_minutes is not None and encoder.core_minutes is not None
    minutes = (network.core_minutes or 0) + (encoder.core_minutes or 0) if known else None
    return network.parameters + encoder.parameters, minutes


@torch.inference_mode()
def safe_confidence(encoder: Part, validation: ImageSet) -> float:
    """Return the least confidence at which one in a hundred upright pictures or fewer is rotated wrongly."""
    surest = []
    model = Upright(nn.Identity(), encoder.module).eval()
    device = next(model.parameters()).device
    for pixels in validation.image.split(BATCH):
        image = as_float(pixels.to(device))
        orientation = model.orient(image)
        off = angular_distance(orientation.angle[:, 0], torch.zeros((), device=device)).rad2deg() > WRONG_DEG
        surest.append(confidence(orientation, UPRIGHT_WITHIN)[off, 0].cpu())
    wrong = torch.cat(surest).sort(descending=True).values
    allowed = int(MOST_WRONG * len(validation))
    if len(wrong) <= allowed:
        return 0.0
    return min(1.0, torch.nextafter(wrong[allowed], wrong.new_tensor(2.0)).item())
