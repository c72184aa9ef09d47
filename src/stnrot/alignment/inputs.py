"""Images as a user passes them, tensors or files: bring them to one form and check them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from stnrot.data.image_file import ImageHeader, read_header, read_whole
from stnrot.errors import InputError
from stnrot.geometry.planar import inscribed_disc

Images = Tensor | str | Path | Sequence[str | Path]

MIN_SIDE = 8  # pixels
MAX_PIXELS = 2**28


def read_pair(
    image: Images, reference: Images, channels: int | None
) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "R C h w"]]:
    """Return images and references as floats; R is B, or 1 for a reference that all images share.

    Args:
        image: see `align`.
        reference: see `align`.
        channels: of images that are read from files. None: as many as a tensor that comes with them has. If no tensor
            comes, 1 if a file is grey, else 3.

    Raises:
        InputError: names the image that cannot be aligned.
    """
    tensors = [each for each in (image, reference) if isinstance(each, Tensor)]
    if channels is None and tensors:
        channels = 1 if tensors[0].ndim < 3 else tensors[0].shape[-3]
    elif channels is None:
        channels = common_channels([read_header(path, MAX_PIXELS) for path in _paths(image) + _paths(reference)])
    images, references = _as_batch(image, "image", channels), _as_batch(reference, "reference", channels)
    if len(references) not in (1, len(images)):
        raise InputError(
            f"{len(images)} images and {len(references)} references: expected a reference for each image, or one for "
            "all"
        )
    if images.shape[1] != references.shape[1]:
        raise InputError(
            f"the image has {images.shape[1]} channels, the reference {references.shape[1]}: expected the same number"
        )
    return images, references.to(images.device)


def common_channels(headers: Sequence[ImageHeader]) -> int:
    """Return 1 if one of the images is grey, else 3."""
    return 1 if any(header.is_grey for header in headers) else 3


def read_image(path: Path, channels: int | None) -> UInt8[Tensor, "C H W"] | Float[Tensor, "C H W"]:
    """Decode an image file: 8 bits as bytes, more bits as floats whose range ends at 1.

    Args:
        path: of the file.
        channels: 1 for grey, 3 for colour, None for those of the file.
    """
    if channels is None:
        channels = common_channels([read_header(path, MAX_PIXELS)])
    return torch.from_numpy(read_whole(path, channels, MAX_PIXELS)).permute(2, 0, 1)


def _paths(images: Images) -> list[Path]:
    if isinstance(images, Tensor):
        return []
    paths = [images] if isinstance(images, str | Path) else images
    if not isinstance(paths, Sequence) or not all(isinstance(path, str | Path) for path in paths):
        raise InputError(f"expected a tensor, the path of an image or a list of paths, got {type(images).__name__}")
    return [Path(path) for path in paths]


def _as_batch(images: Images, role: str, channels: int) -> Float[Tensor, "B C H W"]:
    if isinstance(images, Tensor):
        if not 2 <= images.ndim <= 4 or 0 in images.shape:
            raise InputError(f"{role}: expected [B, C, H, W], [C, H, W] or [H, W], got {list(images.shape)}")
        batch = images.detach().reshape((1,) * (4 - images.ndim) + images.shape)
        names = [f"{role}[{k}]" for k in range(len(batch))] if len(batch) > 1 else [role]
    else:
        paths = _paths(images)
        names = [str(path) for path in paths]
        batch = _decode(paths, role, channels)
    if batch.dtype is torch.uint8:
        batch = batch.float() / 255
    if batch.dtype not in (torch.float32, torch.float64):
        if not batch.is_floating_point():
            raise InputError(f"{role}: expected bytes or floats, got {batch.dtype}")
        batch = batch.float()
    _check(batch, names)
    return batch


def _decode(paths: list[Path], role: str, channels: int) -> Tensor:
    if not paths:
        raise InputError(f"{role}: expected at least one image, got an empty list")
    decoded = []
    for path in paths:
        image = read_image(path, channels)
        decoded.append(image.float() / 255 if image.dtype is torch.uint8 else image)
        if decoded[-1].shape != decoded[0].shape:
            (_, height, width), (_, first_height, first_width) = decoded[-1].shape, decoded[0].shape
            raise InputError(
                f"{path} is {width} x {height}, {paths[0]} is {first_width} x {first_height}: expected images of one "
                "size; align them one by one, or list them in a manifest"
            )
    return torch.stack(decoded)


def _check(images: Float[Tensor, "B C H W"], names: list[str]) -> None:
    """Raise InputError for an image in which no rotation can be seen."""
    height, width = images.shape[-2:]
    if min(height, width) < MIN_SIDE:
        raise InputError(f"{names[0]} is {width} x {height}: expected sides of at least {MIN_SIDE} pixels")
    finite = images.isfinite().flatten(1).all(1)
    if not finite.all():
        name = names[int((~finite).nonzero()[0])]
        raise InputError(f"{name} contains NaN or infinite values: expected finite values everywhere")
    middle = images[..., height // 2, width // 2][..., None, None]
    left = (width - min(height, width)) // 2
    row = images[..., height // 2, left : width - left]
    if (row != middle[..., 0]).flatten(1).any(1).all():  # true of most images, and fast to compute
        return
    structured = ((images != middle) & inscribed_disc((height, width), images.device)).flatten(1).any(1)
    if not structured.all():
        name = names[int((~structured).nonzero()[0])]
        raise InputError(
            f"{name} has one colour inside its inscribed disc: no rotation of it can be seen; expected structure there"
        )
