"""Images in the kinds that people have: tensors, NumPy arrays and PIL images. Convert them to floats and back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from stnrot.annotations import BOOL, REAL, WHOLE, is_dense
from stnrot.arguments import described
from stnrot.errors import InputError

ImageKind: TypeAlias = Tensor | np.ndarray | Image.Image

NUMBERS = REAL | WHOLE | BOOL  # types of tensors
FULL = {"uint8": 255.0, "uint16": 65535.0}  # the value that stands for 1; other types have no known range
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in a grey value, as in Pillow (ITU-R BT.601)
WITH_ALPHA = {"1": "LA", "L": "LA", "La": "LA", "LA": "LA"}  # mode of a transparent PIL image; RGBA for all others
AS_THEY_ARE = ("1", "L", "LA", "RGB", "RGBA")  # modes of PIL images that an array can hold


@dataclass(frozen=True)
class FloatImages:
    """Images of one kind as floats, and the way back to that kind.

    Attributes:
        planes: of a tensor, its channels. Of an array or a PIL image, one plane if it is grey or three if it has
            colours, then alpha if it has any. The colours are multiplied by alpha: transparent parts are black.
        has_alpha: whether the last plane is alpha.
        converts: whether the channels may be changed between grey and colour. A tensor keeps its channels.
        restore: converts planes, of any height and width, to the kind, the dtype and the range of the images, and to
            the layout of an array; a tensor stays [B, C, H, W]. Integers are rounded and clipped; bools are True from
            1/2.
    """

    planes: Float[Tensor, "B P H W"]
    has_alpha: bool
    converts: bool
    restore: Callable[[Tensor], Any]

    @property
    def colours(self) -> Float[Tensor, "B C H W"]:
        """The planes without alpha."""
        return self.planes[:, :-1] if self.has_alpha else self.planes

    def with_channels(self, channels: int) -> Float[Tensor, "B C H W"]:
        """Return the colours as grey (1 channel) or in colour (3), if the images may be converted."""
        colours = self.colours
        if not self.converts or colours.shape[1] == channels or channels not in (1, 3):
            return colours
        if channels == 3:
            return colours.expand(-1, 3, -1, -1)
        return (colours * colours.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)


def to_floats(image: object, name: str, expected: str = "a tensor, a NumPy array or a PIL image") -> FloatImages:
    """Convert an image, or a batch in one tensor or array, to floats.

    Values of uint8 are divided by 255, those of uint16 by 65,535. Bools become 0 and 1. All other values stay as they
    are, since their range is not known; a PIL image of mode I counts as one of 16 bits.

    Args:
        image: a tensor [H, W], [C, H, W] or [B, C, H, W]. Or an array [H, W], [H, W, C] or [B, H, W, C] with C = 1
            (grey), 2 (grey and alpha), 3 (colour) or 4 (colour and alpha). Or a PIL image, whose pixels are taken as
            they are stored: an EXIF orientation is not applied.
        name: of the argument; errors begin with it.
        expected: the kinds that the caller takes, for the error message.

    Raises:
        InputError: if the type, the layout or the dtype is another one.
    """
    if isinstance(image, Tensor):
        return _of_tensor(image, name)
    if isinstance(image, Image.Image):
        return _of_pil(image, name)
    if isinstance(image, np.ndarray):
        return _of_array(image, name, FULL.get(image.dtype.name, 1.0))
    raise InputError(f"{name}: expected {expected}, got {type(image).__name__}")


def joined(images: Sequence[Float[Tensor, "_ _ _ _"]], names: Sequence[str]) -> Float[Tensor, "B C H W"]:
    """Join the images of a list to a batch, on the device of the first.

    Raises:
        InputError: unless each place of the list holds one image, and all have one size and number of channels.
    """
    (_, channels, height, width), device = images[0].shape, images[0].device
    for image, name in zip(images, names, strict=True):
        if len(images) > 1 and len(image) > 1:
            raise InputError(f"{name} holds {len(image)} images: expected one image in each place of a list")
        if image.shape[2:] != (height, width):
            raise InputError(
                f"{name} is {image.shape[3]} x {image.shape[2]}, {names[0]} is {width} x {height}: expected images of "
                "one size; pass them one by one"
            )
        if image.shape[1] != channels:
            raise InputError(f"{name} has {image.shape[1]} channels, {names[0]} {channels}: expected the same number")
    return torch.cat([image.to(device) for image in images])


def _of_tensor(image: Tensor, name: str) -> FloatImages:
    if not is_dense(image) or image.is_meta:
        raise InputError(f"{name}: expected a dense tensor that holds values, got {described(image)}")
    dtype, shape = image.dtype, image.shape
    if dtype not in NUMBERS:
        raise InputError(f"{name}: expected real numbers, integers or bools, got {dtype}")
    if not 2 <= image.ndim <= 4 or 0 in shape:
        raise InputError(f"{name}: expected [B, C, H, W], [C, H, W] or [H, W], got {list(shape)}")
    if image.ndim > 2 and shape[-1] <= 4:
        wanted, call = ("[C, H, W]", "2, 0, 1") if image.ndim == 3 else ("[B, C, H, W]", "0, 3, 1, 2")
        raise InputError(
            f"{name}: expected {wanted}, got {list(shape)}, whose last dimension looks like channels; call "
            f".permute({call})"
        )
    full = FULL.get(str(dtype).removeprefix("torch."), 1.0)
    planes = image.detach() if image.ndim == 4 else image.detach().view((1,) * (4 - image.ndim) + shape)
    planes = planes.to(_float_type(dtype.itemsize, dtype.is_floating_point))
    if full != 1:
        planes = planes / full
    return FloatImages(planes, False, False, partial(_to_tensor, dtype=dtype, full=full))


def _of_array(array: np.ndarray, name: str, full: float) -> FloatImages:
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name}: expected an array of integers, real numbers or bools, got {array.dtype}")
    if isinstance(array, np.ma.MaskedArray):
        raise InputError(f"{name}: expected an array without a mask, got a masked array; call .filled(0)")
    array = np.asarray(array)
    shape = array.shape
    if not (array.ndim == 2 or (3 <= array.ndim <= 4 and 1 <= shape[-1] <= 4)) or 0 in shape:
        hint = ""
        if array.ndim == 3:
            hint = "; for channels first pass np.moveaxis(image, 0, -1), for a stack of grey images image[..., None]"
        elif array.ndim == 4:
            hint = "; for channels first pass np.moveaxis(image, 1, -1)"
        raise InputError(
            f"{name}: expected an array [H, W], [H, W, C] or [B, H, W, C] with C = 1, 2, 3 or 4, got {list(shape)}"
            + hint
        )
    batch = array[None, ..., None] if array.ndim == 2 else array[(None,) * (4 - array.ndim)]
    number = np.float32 if _float_type(array.itemsize, array.dtype.kind == "f") is torch.float32 else np.float64
    with np.errstate(over="ignore"):  # infinite values are refused by the callers
        planes = torch.from_numpy(np.moveaxis(batch, -1, 1).astype(number, order="C"))
    planes = planes if full == 1 else planes / full
    has_alpha = planes.shape[1] in (2, 4)
    if has_alpha:
        if not bool(((planes >= 0) & (planes <= 1)).all()):
            raise InputError(
                f"{name}: expected real numbers from 0 to 1, uint8 or uint16 with alpha, got {array.dtype} from "
                f"{array.min()} to {array.max()}"
            )
        planes = torch.cat((planes[:, :-1] * planes[:, -1:], planes[:, -1:]), 1)
    restore = partial(_to_array, dtype=array.dtype, dims=array.ndim, full=full, has_alpha=has_alpha)
    return FloatImages(planes, has_alpha, True, restore)


def _of_pil(image: Image.Image, name: str) -> FloatImages:
    mode = image.mode
    try:
        image.load()
        if not mode.startswith(("I", "F")):
            if image.has_transparency_data:
                image = image.convert(WITH_ALPHA.get(mode, "RGBA"))
            elif mode not in AS_THEY_ARE:
                image = image.convert("RGB")
        array = np.asarray(image)
    except Exception as error:  # a decoder can raise almost anything on a broken file
        raise InputError(
            f"{name}: cannot read the PIL image of mode {mode}: {error}; expected one that converts to RGB"
        ) from error
    floats = _of_array(array, name, FULL["uint16"] if mode == "I" else FULL.get(array.dtype.name, 1.0))
    return FloatImages(floats.planes, floats.has_alpha, True, lambda planes: Image.fromarray(floats.restore(planes)))


def _float_type(size: int, is_real: bool) -> torch.dtype:
    """Return the type of float that holds numbers of `size` bytes exactly, or as well as a float can."""
    return torch.float32 if size <= 2 or (is_real and size == 4) else torch.float64


def _to_tensor(planes: Tensor, dtype: torch.dtype, full: float) -> Tensor:
    return _in_range(planes, str(dtype).removeprefix("torch."), full).to(dtype)


def _to_array(planes: Tensor, dtype: np.dtype, dims: int, full: float, has_alpha: bool) -> np.ndarray:
    if has_alpha:
        alpha = planes[:, -1:].clamp(0, 1)
        colours = torch.where(alpha > 0, planes[:, :-1] / alpha, 0.0).clamp(0, 1)
        planes = torch.cat((colours, alpha), 1)
    batch = _in_range(planes, dtype.name, full).movedim(1, -1).numpy(force=True).astype(dtype)
    return batch if dims == 4 else batch[0] if dims == 3 else batch[0, ..., 0]


def _in_range(planes: Tensor, kind: str, full: float) -> Tensor:
    """Scale to the range of a type and, for integers and bools, round to values that it has."""
    if kind == "bool":
        return planes >= 0.5
    if "int" not in kind:
        return planes
    limits = np.iinfo(kind)
    highest = float(limits.max) if float(limits.max) <= limits.max else np.nextafter(float(limits.max), 0)
    return (planes * full).round().clamp(limits.min, float(highest))
