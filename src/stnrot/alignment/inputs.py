"""Pictures as people hand them over, tensors or files: brought to one form, and checked."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from stnrot.data.image_file import is_grey, read_whole
from stnrot.errors import InputError
from stnrot.geometry import inscribed_disc

Pictures = Tensor | str | Path | Sequence[str | Path]

SMALLEST = 8  # pixels of the shorter side
MAX_PIXELS = 2**28


def read_pair(
    image: Pictures, reference: Pictures, channels: int | None
) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "R C h w"]]:
    """Return images and references, one for each or one for all, as floats.

    Files are read with as many `channels`; None: as a tensor beside them has or, if there is none, three unless one of
    them is grey.
    """
    tensors = [each for each in (image, reference) if isinstance(each, Tensor)]
    if channels is None and tensors:
        channels = 1 if tensors[0].ndim < 3 else tensors[0].shape[-3]
    elif channels is None:
        channels = common_channels(_paths(image) + _paths(reference))
    first, second = _stack(image, "image", channels), _stack(reference, "reference", channels)
    if len(second) not in (1, len(first)):
        raise InputError(
            f"{len(first)} images and {len(second)} references: expected a reference for each image, or one for all"
        )
    if first.shape[1] != second.shape[1]:
        raise InputError(
            f"the image has {first.shape[1]} channels, the reference {second.shape[1]}: expected the same number"
        )
    return first, second.to(first.device)


def common_channels(paths: Sequence[Path]) -> int:
    """Return 1 if one of the pictures is grey, else 3."""
    return 1 if any(is_grey(path, MAX_PIXELS) for path in paths) else 3


def read_file(path: Path, channels: int | None) -> UInt8[Tensor, "C H W"] | Float[Tensor, "C H W"]:
    """Decode a picture, as grey or in colour; with None as it is in its file."""
    if channels is None:
        channels = common_channels([path])
    return torch.from_numpy(read_whole(path, channels, MAX_PIXELS)).permute(2, 0, 1)


def _paths(pictures: Pictures) -> list[Path]:
    if isinstance(pictures, Tensor):
        return []
    paths = [pictures] if isinstance(pictures, str | Path) else pictures
    if not isinstance(paths, Sequence) or not all(isinstance(path, str | Path) for path in paths):
        raise InputError(f"expected a tensor, the path of a picture or a list of paths, got {type(pictures).__name__}")
    return [Path(path) for path in paths]


def _stack(pictures: Pictures, role: str, channels: int) -> Float[Tensor, "B C H W"]:
    if isinstance(pictures, Tensor):
        if not 2 <= pictures.ndim <= 4 or 0 in pictures.shape:
            raise InputError(f"{role}: expected [B, C, H, W], [C, H, W] or [H, W], got {list(pictures.shape)}")
        stack = pictures.detach().reshape((1,) * (4 - pictures.ndim) + pictures.shape)
        names = [f"{role}[{k}]" for k in range(len(stack))] if len(stack) > 1 else [role]
    else:
        names = [str(path) for path in _paths(pictures)]
        stack = _decoded(_paths(pictures), role, channels)
    if stack.dtype is torch.uint8:
        stack = stack.float() / 255
    if stack.dtype not in (torch.float32, torch.float64):
        if not stack.is_floating_point():
            raise InputError(f"{role}: expected bytes or floats, got {stack.dtype}")
        stack = stack.float()
    _check(stack, names)
    return stack


def _decoded(paths: list[Path], role: str, channels: int) -> Tensor:
    if not paths:
        raise InputError(f"{role}: expected at least one picture, got an empty list")
    read = []
    for path in paths:
        picture = read_file(path, channels)
        read.append(picture.float() / 255 if picture.dtype is torch.uint8 else picture)
        if read[-1].shape != read[0].shape:
            (_, *here), (_, *first) = read[-1].shape, read[0].shape
            raise InputError(
                f"{path} is {here[1]} x {here[0]}, {paths[0]} is {first[1]} x {first[0]}: expected pictures of one "
                "size; align them one by one, or list them in a manifest"
            )
    return torch.stack(read)


def _check(pictures: Float[Tensor, "B C H W"], names: list[str]) -> None:
    """Refuse pictures in which no angle can be seen."""
    height, width = pictures.shape[-2:]
    if min(height, width) < SMALLEST:
        raise InputError(f"{names[0]} is {width} x {height}: expected sides of at least {SMALLEST} pixels")
    good = pictures.isfinite().flatten(1).all(1)
    if not good.all():
        name = names[int((~good).nonzero()[0])]
        raise InputError(f"{name} holds values that are no numbers (NaN or infinite): expected numbers everywhere")
    middle = pictures[..., height // 2, width // 2][..., None, None]
    left = (width - min(height, width)) // 2
    row = pictures[..., height // 2, left : width - left]
    if (row != middle[..., 0]).flatten(1).any(1).all():  # most pictures show something there
        return
    shows = ((pictures != middle) & inscribed_disc((height, width), pictures.device)).flatten(1).any(1)
    if not shows.all():
        name = names[int((~shows).nonzero()[0])]
        raise InputError(f"{name} is of one colour inside its inscribed disc: no turn of it could be seen")
