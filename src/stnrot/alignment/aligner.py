"""Align images with references."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.alignment.alignment import Alignment
from stnrot.alignment.inputs import Images, PassedImages, read_pair
from stnrot.alignment.motion import Motion
from stnrot.alignment.motion_between import motion_between
from stnrot.alignment.motion_kind import DEFAULT, MotionKind
from stnrot.alignment.pairs import CHUNK, chunks, shrink_pair
from stnrot.alignment.posterior import fuse_posteriors, pixel_orientation
from stnrot.alignment.upright_difference import DifferenceEncoder
from stnrot.arguments import checked, described
from stnrot.errors import InputError, needs_extra
from stnrot.geometry.autograd import same_type, without_autocast
from stnrot.geometry.correlation import correlate
from stnrot.geometry.planar import inscribed_disc
from stnrot.models.confidence import confidence
from stnrot.models.encoders.polar import PolarEncoder
from stnrot.models.outputs import Orientation
from stnrot.runs.precision import auto_precision

HYPOTHESES = 8  # angles that are reported for a pair, at most


class Aligner:
    """Align images as `align` does; the checkpoint is read only once.

    Args:
        checkpoint: of a run of `model=rot_stn`, on pairs or with a learned reference. None: correlate the pixels.
        refine: fuse the posterior of the encoder with that of the pixels. It applies only to encoders that were
            trained on pairs of images of the same thing.
        trust: packages whose classes the checkpoint may build, beside stnrot, torch.nn, torchvision and timm. Their
            code runs with your permissions.
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

    def __call__(self, image: Images, reference: Images, motion: MotionKind = DEFAULT) -> Alignment:
        """Align; see `align`."""
        return self._align(*read_pair(image, reference, self.channels, motion), motion)

    @checked  # once for all: else each step checks its tensors, which takes a tenth of the time of a small pair
    def _align(self, given: PassedImages, references: Float[Tensor, "R C h w"], motion: MotionKind) -> Alignment:
        images = given.floats
        device = images.device
        chunk = CHUNK if device.type == "cpu" else 32 * CHUNK
        half = False
        if self.encoder is not None:
            if motion != "rotation" and not self.refine:
                raise InputError(
                    f"motion={motion} compares pixels: expected no model, or one that was trained on pairs of images "
                    "of the same thing (and refine=True)"
                )
            self._check(images, "image")
            self._check(references, "reference")
            chunk //= 4  # the encoder has many channels
            half = auto_precision(device.type) == "bf16-mixed"
            self.encoder.to(device)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            found = [self._find(*pair, motion) for pair in chunks(images, references, chunk)]
        orientations, motions = zip(*found, strict=True)
        orientation = Orientation.cat(orientations)
        sure = confidence(orientation)[:, 0]
        return Alignment(images, sure, orientation, Motion.cat(motions), motion, references, given)

    def _find(
        self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "R C h w"], motion: MotionKind
    ) -> tuple[Orientation, Motion]:
        if motion == "rotation":
            orientation = self._orient(image, reference)
            scale = min(reference.shape[-2:]) / min(image.shape[-2:])
            return orientation, Motion.about_middle(orientation.angle, scale)
        prior = None
        if self.encoder is not None and image.shape[-2:] == reference.shape[-2:]:  # else they show different parts
            prior = self._encode(*shrink_pair(image, reference)).log_posterior
        image, reference = same_type(image, reference)
        with without_autocast(image):
            return motion_between(image, reference, motion, prior)

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
        small = shrink_pair(image, reference)
        if self.encoder is None:
            return pixel_orientation(correlate(*small), HYPOTHESES)
        orientation = self._encode(*small)
        return fuse_posteriors(orientation, correlate(*small), HYPOTHESES) if self.refine else orientation

    def _encode(self, image: Float[Tensor, "B C H W"], reference: Float[Tensor, "R C h w"]) -> Orientation:
        assert self.encoder is not None
        inputs = [each.float() for each in (image, reference)]
        if self.masks_to_disc:  # as in training
            inputs = [each * inscribed_disc(each.shape[-2:], each.device) for each in inputs]
        orientation: Orientation = self.encoder(*inputs, HYPOTHESES)
        return orientation


def align(
    image: Images,
    reference: Images,
    *,
    model: str | Path | Aligner | None = None,
    motion: MotionKind = DEFAULT,
) -> Alignment:
    """Find the angles that rotate images onto their references, and if asked the shifts and scales.

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
        reference: likewise, one for each image or one for all. Its kind and its size may differ: with
            `motion="rotation"`, the shorter sides of image and reference are taken to show the same length. If one of
            the two is grey, files, arrays and PIL images are compared in grey. Tensors are not converted.
        model: the checkpoint of a run, or an `Aligner`. A run with `task=register` on pairs compares two images. A run
            with a learned reference, such as any classifier, finds the upright angle of each image; their difference
            is the angle between two objects of one class.
        motion: what may differ. `rotation`: image and reference have the same middle. It is several times as fast.
            `rigid`: they are also shifted, by up to a quarter of the side, and show things in the same size in pixels;
            a small image may also show a part of a large one. Parts may be hidden. `similarity`: the scale differs too,
            by a factor of 0.7 to 1.4. With `rigid` and `similarity`, the posterior of a model that was trained on pairs
            joins the search if both images have one size.

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
