"""Align images with references: the angles, a confidence, and the aligned images."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from stnrot.alignment.inputs import Images, PassedImages, read_pair
from stnrot.alignment.motion import Motion
from stnrot.alignment.posterior import (
    MIRROR_ODDS,
    confidence,
    fuse_posteriors,
    is_mirrored,
    log_posterior,
    refine_peaks,
)
from stnrot.alignment.rigid import align_rigidly
from stnrot.alignment.upright_difference import DifferenceEncoder
from stnrot.arguments import checked, described
from stnrot.errors import InputError, needs_extra
from stnrot.geometry.autograd import same_type
from stnrot.geometry.correlation import correlate
from stnrot.geometry.planar import inscribed_disc, rotate, rotation_theta, warp
from stnrot.geometry.resampling import shrink
from stnrot.models.encoders.polar import PolarEncoder
from stnrot.models.outputs import Orientation
from stnrot.runs.precision import auto_precision

MAX_SIDE = 128  # pixels of the shorter side; twice as many improve the angle by a thousandth of a degree
HYPOTHESES = 8  # angles that are reported for a pair, at most
POINTS = 64  # along each side of the reference, at which the overlap is measured
RIGID = 2  # times as much memory a value takes with motion="rigid"
CHUNK = 2**17  # values of the images that are aligned at once: on a CPU, what fits into the cache is fastest


@dataclass(frozen=True)
class Alignment:
    """The angles between images and their references.

    `angle` (radians) rotates the image counter-clockwise onto the reference. `confidence` is the probability that the
    error of the angle is below 5 degrees. It is calibrated over a mixture of clean, hard and unrelated pairs. On hard
    pairs alone the confidence is too low. With `motion="rigid"` it is too high for unrelated images. `orientation`
    holds all likely angles with their weights: an image with a symmetry can be aligned in several ways. `image` and
    `reference` are the floats that were compared. `motion` is None if only the angle was searched.
    """

    image: Float[Tensor, "B C H W"]
    confidence: Float[Tensor, "B"]
    orientation: Orientation
    reference: Float[Tensor, "R C h w"] = field(repr=False)
    given: PassedImages = field(repr=False)
    motion: Motion | None = field(default=None, repr=False)

    @property
    def angle(self) -> Float[Tensor, "B"]:
        return self.orientation.angle[:, 0]

    @property
    def scale(self) -> float:
        """The size of a thing in the reference, divided by its size in the image, both in pixels.

        If only the angle was searched, the shorter sides of image and reference show the same length.
        """
        return 1.0 if self.motion is not None else min(self.reference.shape[-2:]) / min(self.image.shape[-2:])

    @property
    def shift(self) -> Float[Tensor, "B 2"]:
        """Where the middle of the image lies in the reference, from its middle: (x to the right, y down) in pixels."""
        if self.motion is None:
            return self.angle.new_zeros(len(self.angle), 2)
        return self.motion.inverse().offset[:, 0]

    @cached_property
    def matrix(self) -> Float[Tensor, "B 2 3"]:
        """The map of points (column, row) of the image to those of the reference, as in OpenCV's `warpAffine`.

        (0, 0) is the middle of the first pixel. `cv2.warpAffine(image, matrix, (width, height))` gives an image that
        lies on the reference. scikit-image's `warp` takes the inverse: `AffineTransform(matrix3x3).inverse`, where
        `matrix3x3` has the last row (0, 0, 1).
        """
        return self.matrices[:, 0]

    @cached_property
    def matrices(self) -> Float[Tensor, "B K 2 3"]:
        """The matrix of each hypothesis."""
        angle = self.orientation.angle
        c, s = angle.cos() * self.scale, angle.sin() * self.scale
        linear = torch.stack((c, s, -s, c), -1).unflatten(-1, (2, 2))
        middle, target = (
            angle.new_tensor([(width - 1) / 2, (height - 1) / 2])
            for height, width in (self.image.shape[-2:], self.reference.shape[-2:])
        )
        shift = target - (linear * middle).sum(-1)
        if self.motion is not None:
            shift = shift + self.motion.inverse().offset
        return torch.cat((linear, shift[..., None]), -1)

    @cached_property
    def overlap(self) -> Float[Tensor, "B"]:
        """The share of the reference that lies inside the image."""
        height, width = self.reference.shape[-2:]
        y, x = (
            (torch.arange(POINTS, device=self.angle.device, dtype=self.angle.dtype) + 0.5) * (side / POINTS) - 0.5
            for side in (height, width)
        )
        points = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)
        places = torch.linalg.solve(self.matrix[..., :2], (points - self.matrix[:, None, :, 2]).mT)
        limits = places.new_tensor([[self.image.shape[-1]], [self.image.shape[-2]]])
        return ((places > -0.5) & (places < limits - 0.5)).all(1).to(places.dtype).mean(1)

    @cached_property
    def aligned(self) -> Any:
        """The images, rotated by the angle, in the kind, dtype and range of values that were passed.

        With `motion="rigid"` they are also shifted and have the height and width of the reference.

        A NumPy array gives an array, a PIL image gives a PIL image, and a list of them gives a list. A
        tensor, or a list of tensors, gives a tensor [B, C, H, W]. Paths give a tensor [B, C, H, W] of floats: the
        images as they were compared.

        Sampling is bicubic. Integers are rounded, bools are True from 1/2, and pixels from outside the image are 0. A
        PIL image keeps the modes 1, L, LA, RGB, RGBA, I, I;16 and F; all others become RGB or RGBA.
        """
        parts = self.given.parts
        counts = [len(part.planes) for part in parts]
        first = [sum(counts[:k]) for k in range(len(counts))]
        aligned = [part.restore(self.moved(part.planes, k)) for part, k in zip(parts, first, strict=True)]
        if not self.given.is_list:
            return aligned[0]
        return torch.cat(aligned) if all(isinstance(each, Tensor) for each in aligned) else aligned

    def moved(self, planes: Float[Tensor, "n C H W"], first: int = 0) -> Float[Tensor, "n C h w"]:
        """Move other images of the same size in the same way, such as masks or further channels, by bicubic sampling.

        Args:
            planes: one image for each of those that were aligned, or for `n` of them.
            first: the first of these.
        """
        angle = self.angle[first : first + len(planes)].to(planes.device)
        low, high = planes.amin((1, 2, 3), keepdim=True), planes.amax((1, 2, 3), keepdim=True)
        if self.motion is None:
            moved = rotate(planes, angle, "bicubic")
        else:
            offset = self.motion.offset[first : first + len(planes), 0].to(planes.device)
            (height, width), (rows, columns) = planes.shape[-2:], self.reference.shape[-2:]
            linear = rotation_theta(angle, height, width)[..., :2] * angle.new_tensor([columns / width, rows / height])
            theta = torch.cat((linear, (2 * offset / offset.new_tensor([width, height]))[..., None]), -1)
            moved = warp(planes, theta, "bicubic", size=(rows, columns))
        return moved.clamp(low.clamp(max=0), high.clamp(min=0))  # bicubic sampling overshoots

    @cached_property
    def mirrored(self) -> Bool[Tensor, "B"]:
        """Whether the mirror image of the image matches the reference better than the image (`is_mirrored`).

        With `motion="rigid"`: whether the odds of its confidence are ten times as high, and it is more than a half.

        A mirrored pair usually has a low confidence. Pixels are compared, also with a model. The mirror image is
        correlated when `mirrored` is first read, which takes up to twice as long as an alignment without a model.
        """
        if self.motion is not None:
            flipped = Aligner()(self.image.flip(-1), self.reference, "rigid").confidence
            better = flipped * (1 - self.confidence) > MIRROR_ODDS * self.confidence * (1 - flipped)
            return better & (flipped > 0.5)
        pairs = _pairs(self.image, self.reference, CHUNK)
        with torch.inference_mode():
            return torch.cat([_is_mirrored(*_shrink_pair(image, reference)) for image, reference in pairs])


class Aligner:
    """Align images as `align` does; the checkpoint is read only once.

    Args:
        checkpoint: of a run of `model=rot_stn`, on pairs or with a learned reference. None: correlate the pixels.
        refine: fuse the posterior of the encoder with that of the pixels. It applies only to encoders that were
            trained on pairs of images of the same thing.
        trust: packages whose classes the checkpoint may build, beside stnrot, torch.nn and torchvision. Their code runs
            with your permissions.
    """

    @checked
    def __init__(self, checkpoint: str | Path | None = None, *, refine: bool = True, trust: Iterable[str] = ()) -> None:
        if isinstance(trust, str) or not isinstance(trust, Iterable):
            raise InputError(f"trust: expected a list of names of packages, got {described(trust)}")
        self.encoder: nn.Module | None = None
        self.channels: int | None = None  # of the images that the encoder was trained on
        self.refine, self.masks_to_disc = refine, False
        if checkpoint is not None:
            self._load(Path(checkpoint), trust)

    def _load(self, path: Path, trust: Iterable[str]) -> None:
        with needs_extra("a checkpoint"):  # imports Hydra and Lightning, which take seconds
            from stnrot.runs.checkpoints import read_checkpoint, rebuild

        saved = read_checkpoint(path)
        ask = "add --trust {0}; in Python Aligner(..., trust=['{0}'])"
        model: Any = rebuild(saved, path, trust, ask).model
        if not isinstance(getattr(model, "encoder", None), PolarEncoder):
            raise InputError(f"{path} has no encoder that searches the angle: train model=rot_stn model/encoder=polar")
        encoder = model.encoder.to(memory_format=torch.channels_last)
        data = saved["config"]["data"]
        self.encoder = encoder if model.aligns_to_batch else DifferenceEncoder(encoder, model.reference.detach())
        # pixels of two different objects need not match best at the angle that aligns the objects
        self.refine = self.refine and model.aligns_to_batch and not data.get("other_instance")
        self.masks_to_disc = data.get("border") == "disc"
        self.channels = int(saved["config"]["data_spec"]["channels"])

    def __call__(self, image: Images, reference: Images, motion: str = "rotation") -> Alignment:
        """Align; see `align`."""
        if motion not in ("rotation", "rigid"):
            raise InputError(f"motion: expected rotation or rigid, got {described(motion)}")
        if motion == "rigid" and self.encoder is not None:
            raise InputError("motion=rigid came with a model: expected no model, since encoders find only the angle")
        return self._align(*read_pair(image, reference, self.channels), motion)

    @checked  # once for all: else each step checks its tensors, which takes a tenth of the time of a small pair
    def _align(self, given: PassedImages, references: Float[Tensor, "R C h w"], motion: str) -> Alignment:
        images = given.floats
        device = images.device
        chunk = CHUNK if device.type == "cpu" else 32 * CHUNK
        half = False
        if motion == "rigid":
            return self._align_rigidly(given, references, chunk // RIGID)
        if self.encoder is not None:
            self._check(images, "image")
            self._check(references, "reference")
            chunk //= 4  # the encoder has many channels
            half = auto_precision(device.type) == "bf16-mixed"
            self.encoder.to(device)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            parts = [self._orient(*pair) for pair in _pairs(images, references, chunk)]
        orientation = Orientation.cat(parts) if len(parts) > 1 else parts[0]
        return Alignment(images, confidence(orientation)[:, 0], orientation, references, given)

    def _align_rigidly(self, given: PassedImages, references: Float[Tensor, "R C h w"], chunk: int) -> Alignment:
        images, compared = same_type(given.floats, references)
        with torch.inference_mode():
            found = [align_rigidly(*pair) for pair in _pairs(images, compared, chunk)]
        orientation = Orientation.cat([each for each, _ in found])
        motion = Motion(orientation.angle, torch.cat([offset for _, offset in found]))
        return Alignment(given.floats, confidence(orientation)[:, 0], orientation, references, given, motion)

    def _check(self, images: Tensor, role: str) -> None:
        if images.shape[1] != self.channels:
            raise InputError(
                f"the {role} has {images.shape[1]} channels: expected {self.channels}, as in the images that the "
                "checkpoint was trained on"
            )
        if images.min() < 0 or images.max() > 1:
            raise InputError(
                f"the {role} has values from {images.min():.3g} to {images.max():.3g}: expected 0 to 1, as in the "
                "images that the checkpoint was trained on"
            )

    def _orient(self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "R C h w"]) -> Orientation:
        small = _shrink_pair(image, reference)
        if self.encoder is None:
            correlation = correlate(*small)
            return refine_peaks(correlation, log_posterior(correlation)[0], HYPOTHESES)
        inputs = [each.float() for each in small]
        if self.masks_to_disc:  # as in training
            inputs = [each * inscribed_disc(each.shape[-2:], each.device) for each in inputs]
        orientation: Orientation = self.encoder(*inputs, HYPOTHESES)
        return fuse_posteriors(orientation, correlate(*small), HYPOTHESES) if self.refine else orientation


def align(
    image: Images,
    reference: Images,
    *,
    model: str | Path | Aligner | None = None,
    motion: str = "rotation",
) -> Alignment:
    """Find the angles that rotate images onto their references, and if asked the shifts.

    Without a model the pixels of the images are correlated over all angles. That is hard to beat for two images of the
    same thing that differ in brightness, contrast, sign (negatives) and some noise. If they differ in more, a trained
    encoder is better.

    Args:
        image: one of these, or a list of single images of one size:

            - a tensor [H, W], [C, H, W] or [B, C, H, W];
            - a NumPy array [H, W], [H, W, C] or [B, H, W, C], with C = 1 (grey), 2 (grey and alpha), 3 (colour) or 4
              (colour and alpha);
            - a PIL image of any mode that converts to RGB. Its pixels are taken as they are stored: an EXIF
              orientation is not applied;
            - the path of an image file, whose EXIF orientation is applied.

            Values are floats, integers or bools. uint8 is divided by 255 and uint16 by 65,535; the angle does not
            depend on the scale. With a model, values are from 0 to 1 after that. Transparent parts count as black.
        reference: likewise, one for each image or one for all. Its kind and its size may differ: the shorter sides of
            image and reference are taken to show the same length. If one of the two is grey, files, arrays and PIL
            images are compared in grey. Tensors are not converted.
        model: the checkpoint of a run, or an `Aligner`. A run with `task=register` on pairs compares two images. A run
            with a learned reference, such as any classifier, finds the upright angle of each image; their difference
            is the angle between two objects of one class.
        motion: what may differ. `rotation`: image and reference have the same middle. It is several times faster and
            more exact, if that is true. `rigid`: they are also shifted, by up to a third of the side, and show things
            in the same size in pixels; a small image may also show a part of a large one. Parts may be hidden.

    Raises:
        InputError: names the image that cannot be aligned.

    >>> import math, numpy as np, torch
    >>> image = torch.rand(64, 64)
    >>> alignment = align(image, torch.rot90(image))
    >>> round(math.degrees(alignment.angle.item()), 2)
    90.0
    >>> array = image.numpy()
    >>> align(array, np.rot90(array)).aligned.shape
    (64, 64)
    """
    if not isinstance(model, str | Path | Aligner | None):
        raise InputError(f"model: expected the path of a checkpoint, an Aligner or None, got {type(model).__name__}")
    return (model if isinstance(model, Aligner) else Aligner(model))(image, reference, motion)


def _pairs(images: Tensor, references: Tensor, chunk: int) -> Iterable[tuple[Tensor, Tensor]]:
    """Split images and references into batches of at most `chunk` values."""
    count = max(1, chunk // max(math.prod(images.shape[1:]), math.prod(references.shape[1:])))
    if len(images) <= count:
        return [(images, references)]
    reference_chunks = references.split(count) if len(references) > 1 else repeat(references)
    return zip(images.split(count), reference_chunks, strict=False)


def _is_mirrored(image: Float[Tensor, "B C H W"], reference: Float[Tensor, "R C h w"]) -> Bool[Tensor, "B"]:
    return is_mirrored(correlate(image, reference), correlate(image.flip(-1), reference))


def _shrink_pair(
    image: Float[Tensor, "B C H W"], reference: Float[Tensor, "R C h w"]
) -> tuple[Float[Tensor, "B C _ _"], Float[Tensor, "R C _ _"]]:
    side = min(*image.shape[-2:], *reference.shape[-2:], MAX_SIDE)
    return _shrink(image, side), _shrink(reference, side)


def _shrink(image: Float[Tensor, "B C H W"], side: int) -> Float[Tensor, "B C h w"]:
    """Reduce the shorter side to `side` with antialiasing, in time linear in the number of pixels.

    Everything outside the middle square is cut off first. Rounding the longer side would stretch the image, by a
    fortieth of a degree at 1,000 pixels.
    """
    shorter = min(image.shape[-2:])
    if shorter == side:
        return image
    for dim in (-2, -1):
        extra = image.shape[dim] - shorter
        if extra % 2:  # the middle lies between two pixels
            image = (image.narrow(dim, 0, shorter + extra - 1) + image.narrow(dim, 1, shorter + extra - 1)) / 2
        image = image.narrow(dim, extra // 2, shorter)
    return shrink(image, side, side)
