"""The table of docs/reference/inputs.md: every combination in it is accepted, every type that is not in it refused."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from torch import Tensor

from stnrot import InputError, Rotation, align, fit_pose, rotate
from stnrot.geometry.euler import euler_to_matrix
from stnrot.geometry.splat import Camera, render
from stnrot.pose.point_clouds import torus

SIZES = {"B": 2, "C": 3, "H": 32, "W": 32, "K": 5, "N": 1000, "A": 2, "d": 4}
POSE = torch.tensor([[0.3, -0.8], [0.3, -0.8]])
CAMERA = Camera(height=32, width=32, sigma=1.0)
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs/reference/inputs.md").read_text().splitlines()
    if line.startswith("| `")
]
CASES = [
    pytest.param(call.strip("`"), name, kind, shape, dtype, id=f"{call.strip('`')}-{name}-{kind}-{shape}-{dtype}")
    for call, names, kind, shapes, dtypes, _ in ROWS
    for name in re.findall("`(.*?)`", names)
    for shape in re.findall("`(.*?)`", shapes) or [""]
    for dtype in re.findall("`(.*?)`", dtypes)
]
WHOLE = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float8_e4m3fn", "float8_e5m2", "float16", "bfloat16", "float32", "float64", "complex64", "complex128")
TENSOR_TYPES = {name: getattr(torch, name) for name in WHOLE + FLOATS}
ARRAY_TYPES = {
    np.dtype(code).name: np.dtype(code) for code in np.typecodes["All"] if code not in "SUVgG"
}  # no long doubles: they differ by machine
PIL_MODES = {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "I;16", "F"}


def shape_of(text: str) -> tuple[int, ...]:
    return tuple(SIZES[each] if each in SIZES else int(each) for each in re.findall(r"\w+", text))


def scene(height: int = SIZES["H"], width: int = SIZES["W"]) -> np.ndarray:
    """Return the image of a torus, in [0, 1]."""
    return render(torus(), euler_to_matrix(POSE[0], "XZ"), CAMERA).double().numpy()[:height, :width]


def in_range(values: np.ndarray, kind: str) -> np.ndarray:
    """Scale values in [0, 1] to the range of a type."""
    if kind == "bool":
        return values > 0.5
    if "int" in kind:
        return (values * np.iinfo(kind).max * (1 - 1e-9)).astype(kind)
    return values


def image(kind: str, shape: tuple[int, ...], dtype: str, folder: Path) -> Any:
    """Return the scene as a tensor, an array, a PIL image or a file."""
    pixels = in_range(scene(), {"tensor": dtype, "array": dtype}.get(kind, "uint8"))
    if kind == "tensor":
        full = np.array(np.broadcast_to(pixels, shape))  # a copy: torch warns of arrays that are read-only
        return torch.from_numpy(full).to(TENSOR_TYPES[dtype])
    if kind == "array":
        full = np.broadcast_to(pixels[..., None] if len(shape) > 2 else pixels, shape).astype(ARRAY_TYPES[dtype])
        if shape[-1] in (2, 4):
            full[..., -1] = in_range(np.ones(()), dtype) if dtype != "bool" else True
        return full
    picture = Image.fromarray(pixels)
    if kind == "PIL image":
        if dtype in ("I", "I;16"):
            return Image.fromarray(in_range(scene(), "uint16")).convert(dtype)
        return picture.convert("RGB").convert(dtype) if dtype == "HSV" else picture.convert(dtype)
    path = folder / f"image.{dtype}"
    picture.save(path)
    return path


def quarter_turn(image: Any, kind: str, folder: Path) -> Any:
    """Return the image rotated by 90 degrees, by NumPy, torch or Pillow."""
    if kind == "tensor":
        bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}.get(image.dtype.itemsize, image.dtype)
        return torch.rot90(image.view(bits), 1, (-2, -1)).view(image.dtype)
    if kind == "array":
        return np.rot90(image, 1, (0, 1) if image.ndim < 4 else (1, 2))
    if kind == "PIL image":
        return image.transpose(Image.Transpose.ROTATE_90)
    path = folder / f"turned{image.suffix}"
    Image.open(image).transpose(Image.Transpose.ROTATE_90).save(path)
    return path


def numbers(kind: str, shape: tuple[int, ...], dtype: str) -> Any:
    if kind == "number":
        return {"int": int, "float": float}[dtype](SIZES["d"])
    values = np.ones(shape) if len(shape) != 2 or shape[0] != shape[1] else np.eye(shape[0])
    if kind == "array":
        return values.astype(ARRAY_TYPES[dtype])
    return torch.from_numpy(values).to(TENSOR_TYPES[dtype])


def call_rotate(name: str, kind: str, shape: tuple[int, ...], dtype: str, folder: Path) -> None:
    arguments = {"image": torch.rand(2, 3, 32, 32), "angle": 0.5}
    arguments[name] = image(kind, shape, dtype, folder) if name == "image" else numbers(kind, shape, dtype)
    given = arguments["image"]
    rotated = rotate(**arguments)
    many = shape[1:] if name == "angle" else ()
    assert rotated.shape == (*given.shape[:1], *many, *given.shape[1:])
    assert rotated.dtype == given.dtype


def call_align(name: str, kind: str, shape: tuple[int, ...], dtype: str, folder: Path) -> None:
    given = image(kind, shape, dtype, folder)
    found = align(given, quarter_turn(given, kind, folder))
    assert (found.angle.rad2deg() - 90).abs().max() < 1
    if kind == "file":
        assert isinstance(found.aligned, Tensor)
    else:
        assert type(found.aligned) is type(given) or kind == "PIL image"
    if kind in ("tensor", "array"):
        assert found.aligned.dtype == given.dtype


def call_fit_pose(name: str, kind: str, shape: tuple[int, ...], dtype: str, folder: Path) -> None:
    count = shape[0] if name == "image" and len(shape) == 4 else 1
    arguments: dict[str, Any] = {"image": torch.from_numpy(scene()), "points": torus(), "start": POSE[:count] + 0.02}
    if name == "image":
        arguments["image"] = image(kind, shape, dtype, folder)
    elif name == "points":
        arguments["points"] = numbers(kind, shape, dtype)
    else:
        arguments["image"] = torch.from_numpy(scene()).expand(2, 1, 32, 32)
        arguments["start"] = (POSE + 0.02).to(TENSOR_TYPES[dtype])
        count = 2
    found = fit_pose(**arguments, camera=CAMERA)
    assert found.angles.shape == (count, 2)
    if name != "points" and dtype not in ("bool", "1"):
        assert (found.angles - POSE[:count]).abs().max() < 0.02


def call_rotation(name: str, kind: str, shape: tuple[int, ...], dtype: str, folder: Path) -> None:
    value = numbers(kind, shape, dtype)
    if name == "z":
        layer = Rotation(SIZES["d"], init="haar")
        assert layer(value).shape == value.shape
        assert layer(value).dtype == value.dtype
    else:
        assert Rotation(**({"dim": SIZES["d"]} | {name: value})).dim == SIZES["d"]


CALLS: dict[str, Callable[[str, str, tuple[int, ...], str, Path], None]] = {
    "rotate": call_rotate,
    "align": call_align,
    "fit_pose": call_fit_pose,
    "Rotation": call_rotation,
}


@pytest.mark.parametrize(("call", "name", "kind", "shape", "dtype"), CASES)
def test_what_the_table_lists_is_accepted(
    call: str, name: str, kind: str, shape: str, dtype: str, tmp_path: Path
) -> None:
    CALLS[call](name, kind, shape_of(shape), dtype, tmp_path)


def refusals() -> list[Any]:
    """Return, for each argument and kind, the types that no row of the table lists."""
    cases = []
    for call, name, kind in sorted({(each.values[0], each.values[1], each.values[2]) for each in CASES}):
        rows = [each.values for each in CASES if each.values[:3] == (call, name, kind)]
        listed = {row[4] for row in rows}
        known = {"tensor": set(TENSOR_TYPES), "array": set(ARRAY_TYPES), "PIL image": PIL_MODES}.get(str(kind), set())
        cases += [
            pytest.param(call, name, kind, rows[0][3], dtype, id=f"{call}-{name}-{kind}-{dtype}")
            for dtype in sorted(known - listed)
        ]
    return cases


@pytest.mark.parametrize(("call", "name", "kind", "shape", "dtype"), refusals())
def test_what_the_table_does_not_list_is_one_line(
    call: str, name: str, kind: str, shape: str, dtype: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="expected") as error:
        CALLS[call](name, kind, shape_of(shape), dtype, tmp_path)
    assert "\n" not in str(error.value)
