"""Two pictures in; the angle between them, how sure that is, and the aligned picture out."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stnrot.alignment.difference import DifferenceEncoder
from stnrot.alignment.inputs import Pictures, read_pair
from stnrot.alignment.posterior import BINS, log_posterior, refine_peaks
from stnrot.errors import InputError
from stnrot.geometry import AngularCorrelation, correlate, inscribed_disc, rotate, upsample_log_density
from stnrot.models.outputs import Orientation
from stnrot.runs.precision import auto_precision

RIGHT = math.radians(5)  # an angle within it counts as right
FINEST = 128  # pixels of the shorter side: twice as many tell the angle better by a thousandth of a degree
HYPOTHESES = 8  # angles of a pair that are reported, at most
AT_ONCE = 2**17  # values of a chunk of pictures: on a CPU what fits into the cache is read fastest


@dataclass(frozen=True)
class Alignment:
    """How images line up with their references.

    `angle` (radians) turns the image counter-clockwise onto the reference; `confidence` is the probability that it is
    right within 5 degrees, calibrated over pairs from clean to hard and unrelated ones together: of hard pairs alone
    more are right than it says. `aligned` is the image turned by the angle. `orientation` has all the angles that were
    likely, with their weights: a picture with a symmetry lines up in several ways.
    """

    image: Float[Tensor, "B C H W"]
    confidence: Float[Tensor, "B"]
    orientation: Orientation

    @property
    def angle(self) -> Float[Tensor, "B"]:
        return self.orientation.angle[:, 0]

    @cached_property
    def aligned(self) -> Float[Tensor, "B C H W"]:
        low, high = self.image.amin((1, 2, 3), keepdim=True), self.image.amax((1, 2, 3), keepdim=True)
        return rotate(self.image, self.angle, "bicubic").clamp(low.clamp(max=0), high.clamp(min=0))


def align(image: Pictures, reference: Pictures, *, model: "str | Path | Aligner | None" = None) -> Alignment:
    """Find the angles that turn images onto their references.

    Without a model the pictures themselves are correlated over the whole circle, which is hard to beat for two pictures
    of the same thing, brightness, contrast, negatives and some noise apart. Where they differ in more, a trained
    encoder is ahead.

    Args:
        image: a tensor [B, C, H, W], [C, H, W] or [H, W], of bytes or of floats (from 0 to 1, if there is a model); or
            the path of a picture, or the paths of pictures of one size.
        reference: likewise, one for each image or one for all. It may have another size: the shorter sides of both
            are taken to show the same length.
        model: the checkpoint of a run, or an `Aligner`. A run with `task=register` on pairs has learned to compare two
            pictures; one with a learned reference, such as any of the classifiers, to stand a picture upright, and the
            angle between two is then the difference: for two pictures that are only of one kind.

    Raises:
        InputError: names the picture that cannot be aligned.

    >>> import math, torch
    >>> picture = torch.rand(64, 64)
    >>> found = align(picture, torch.rot90(picture))
    >>> round(math.degrees(found.angle.item()), 2)
    90.0
    """
    return (model if isinstance(model, Aligner) else Aligner(model))(image, reference)


class Aligner:
    """What `align` does, its checkpoint read once.

    Args:
        checkpoint: of a run of `model=rot_stn`, on pairs or with an upright of its own; None correlates the pictures
            themselves.
        refine: whether the pictures have a say beside an encoder that was trained on pairs of the same thing.
    """

    def __init__(self, checkpoint: str | Path | None = None, *, refine: bool = True) -> None:
        self.encoder: Any = None
        self.channels: int | None = None  # that the encoder takes
        self.refine, self.blackened = refine, False
        if checkpoint is not None:
            self._load(Path(checkpoint))

    def _load(self, path: Path) -> None:
        # Hydra and Lightning: seconds, for who needs them
        from stnrot.models.encoders.polar import PolarEncoder
        from stnrot.runs.checkpoints import read_checkpoint, rebuild

        saved = read_checkpoint(path)
        model: Any = rebuild(saved, path).model
        if not isinstance(getattr(model, "encoder", None), PolarEncoder):
            raise InputError(f"{path} has no encoder that searches the angle: train model=rot_stn model/encoder=polar")
        encoder = model.encoder.to(memory_format=torch.channels_last)
        data = saved["config"]["data"]
        self.encoder = encoder if model.aligns_to_batch else DifferenceEncoder(encoder, model.reference.detach())
        # of other things than the very same the pixels do not match best where they were taught to be upright
        self.refine = self.refine and model.aligns_to_batch and not data.get("other_instance")
        self.blackened = data.get("border") == "disc"
        self.channels = int(saved["config"]["data_spec"]["channels"])

    def __call__(self, image: Pictures, reference: Pictures) -> Alignment:
        """Align; see `align`."""
        images, references = read_pair(image, reference, self.channels)
        device = images.device
        chunk = AT_ONCE if device.type == "cpu" else 32 * AT_ONCE
        half = False
        if self.encoder is not None:
            self._check(images, "image")
            self._check(references, "reference")
            chunk //= 4  # the encoder has many channels
            half = auto_precision(device.type) == "bf16-mixed"
            self.encoder.to(device)
        chunk = max(1, chunk // max(images[0].numel(), references[0].numel()))
        beside = references.split(chunk) if len(references) > 1 else repeat(references)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            parts = [self._orient(*pair) for pair in zip(images.split(chunk), beside, strict=False)]
        orientation = Orientation(*map(torch.cat, zip(*(vars(part).values() for part in parts), strict=True)))
        return Alignment(images, confidence(orientation)[:, 0], orientation)

    def _check(self, pictures: Tensor, role: str) -> None:
        if pictures.shape[1] != self.channels:
            raise InputError(
                f"the {role} has {pictures.shape[1]} channels: expected {self.channels}, as in the pictures that the "
                "checkpoint was trained on"
            )
        if pictures.min() < 0 or pictures.max() > 1:
            raise InputError(
                f"the {role} has values from {pictures.min():.3g} to {pictures.max():.3g}: expected 0 to 1, as in the "
                "pictures that the checkpoint was trained on"
            )

    def _orient(self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "R C h w"]) -> Orientation:
        side = min(*image.shape[-2:], *reference.shape[-2:], FINEST)
        small = [_shrunk(each, side) for each in (image, reference)]
        if self.encoder is None:
            correlation = correlate(*small)
            return refine_peaks(correlation, log_posterior(correlation)[0], HYPOTHESES)
        seen = [each.float() for each in small]
        if self.blackened:  # as the training pictures were
            seen = [each * inscribed_disc(each.shape[-2:], each.device) for each in seen]
        orientation: Orientation = self.encoder(*seen, HYPOTHESES)
        return refined(orientation, correlate(*small), HYPOTHESES) if self.refine else orientation


def refined(orientation: Orientation, correlation: AngularCorrelation, hypotheses: int) -> Orientation:
    r"""Put what an encoder says and what the pictures say together, and refine the peaks.

        log p(angle) = log p_encoder(angle) + share * log p_pictures(angle) + constant

    The pictures (`log_posterior`) have a say by the share of the reference's variance that they explain, turned at
    best: all of it where nothing but turn, contrast and a little noise lies between the two, and next to none where
    things in front, a shift or strong noise, which that posterior knows nothing of, would draw the angle away. (A
    heuristic: both have seen the same pictures.) The peaks are refined (`refine_peaks`). All of it is kept only where
    it lowers the photometric error inside the inscribed disc: elsewhere the encoder has the say.
    """
    log_pictures, share = log_posterior(correlation)
    assert orientation.log_posterior is not None
    log_encoder = upsample_log_density(orientation.log_posterior, log_pictures.shape[1])
    found = refine_peaks(correlation, (log_encoder + share * log_pictures).log_softmax(1), hypotheses)
    before, after = (correlation.value_and_derivatives(each.angle[:, :1])[0].square() for each in (orientation, found))
    both = zip(vars(found).values(), (orientation.angle, orientation.log_weight, log_encoder), strict=True)
    return Orientation(*(torch.where(after > before, new, old) for new, old in both))


def confidence(orientation: Orientation) -> Float[Tensor, "B K"]:
    """Return the posterior probability of each angle to be right within 5 degrees."""
    assert orientation.log_posterior is not None
    posterior = upsample_log_density(orientation.log_posterior, max(BINS, orientation.log_posterior.shape[1])).exp()
    bins = posterior.shape[1]
    width, angle = 2 * math.pi / bins, orientation.angle[..., None]
    reach = math.ceil(RIGHT / width)
    place = (angle / width).round().long() + torch.arange(-reach, reach + 1, device=posterior.device)
    mass = posterior.gather(1, (place % bins).flatten(1)).view_as(place)
    return (mass * ((place * width - angle).abs() <= RIGHT)).sum(-1).clamp(max=1)


def _shrunk(image: Float[Tensor, "B C H W"], side: int) -> Float[Tensor, "B C h w"]:
    """Bring the shorter side down to `side`, with antialiasing, in a time that grows with the number of pixels.

    What lies outside the middle square is not looked at. It is cut off first, since to round the longer side would
    stretch the picture: by a fortieth of a degree at 1,000 pixels.
    """
    shorter = min(image.shape[-2:])
    if shorter == side:
        return image
    for dim in (-2, -1):
        extra = image.shape[dim] - shorter
        if extra % 2:  # the middle lies between two pixels
            image = (image.narrow(dim, 0, shorter + extra - 1) + image.narrow(dim, 1, shorter + extra - 1)) / 2
        image = image.narrow(dim, extra // 2, shorter)
    return F.interpolate(image, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
