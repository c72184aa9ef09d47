"""The poses that a descent starts from if the user gives angles or a network."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.annotations import REAL, WHOLE, is_dense
from stnrot.arguments import described
from stnrot.errors import InputError, needs_extra
from stnrot.geometry.constants import vector
from stnrot.models.pose_net import PoseNet
from stnrot.pose.point_clouds import fingerprint
from stnrot.pose.view import View

Start: TypeAlias = Tensor | np.ndarray | nn.Module | str | Path


def real_numbers(values: object, name: str, kinds: str = "iuf") -> Float[Tensor, "..."]:
    """Return a tensor or a NumPy array of real numbers as a tensor of at least float32.

    Args:
        values: what was passed.
        name: of the argument.
        kinds: NumPy's letters of the types that are taken: `f` for floats, `iu` for integers.

    Raises:
        InputError: names the argument that is neither, or holds other values.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise InputError(f"{name}: expected an array without a mask, got a masked array; leave out what is masked")
    if isinstance(values, np.ndarray) and values.dtype.kind in kinds:
        values = torch.from_numpy(values.astype(np.float64, order="C"))
    if not is_dense(values) or values.is_meta:
        kind = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else described(values)
        raise InputError(f"{name}: expected a dense tensor or a NumPy array of real numbers, got {kind}")
    if values.dtype not in (REAL if kinds == "f" else REAL | WHOLE):
        raise InputError(f"{name}: expected real numbers, got {values.dtype}")
    return values.to(torch.float64 if values.dtype is torch.float64 else torch.float32)


def start_angles(start: Start, images: Float[Tensor, "B H W"], view: View) -> Float[Tensor, "B A"]:
    """Return the angles of a start: a tensor, an array, a network's estimates, or those of the network in a checkpoint.

    Raises:
        InputError: if the start does not fit the images, the axes, the points or the camera.
    """
    axes = view.order
    if isinstance(start, Tensor | np.ndarray):
        start = real_numbers(start, "start", "f")  # whole numbers are probably degrees
        if start.shape != (len(images), len(axes)) or not bool(start.isfinite().all()):
            raise InputError(
                f"start: expected [{len(images)}, {len(axes)}] finite angles for {len(images)} images and "
                f"axes={axes}, got shape {list(start.shape)}"
            )
        return start.to(images)
    network: Any = start
    if isinstance(start, str | Path):
        network = _network(Path(start), view)
    if not isinstance(network, PoseNet):
        raise InputError(
            f"start: expected angles, a PoseNet or the checkpoint of a run of task=pose, got {type(network).__name__}"
        )
    if network.axes != axes:
        raise InputError(
            f"axes={axes}: the network of the start estimates angles about {network.axes}; expected one that was "
            f"trained with data.axes={axes}"
        )
    return network.to(images.device).angles(images[:, None]).to(images)


def _network(path: Path, view: View) -> nn.Module:
    """Load a network that was trained on the same solid and camera."""
    with needs_extra("a checkpoint"):  # imports Hydra and Lightning, which take seconds
        from stnrot.runs.checkpoints import read_checkpoint, rebuild

    saved = read_checkpoint(path)
    ask = "load the network in Python and pass its angles as start"
    model: nn.Module = rebuild(saved, path, ask=ask).model
    if isinstance(model, PoseNet):
        spec = saved["config"]["data_spec"]
        if spec["points_digest"] != fingerprint(view.points):
            raise InputError(f"{path} was trained on other points: expected those of data.points={spec['points']}")
        if spec["camera"] != asdict(view.camera):
            raise InputError(f"{path} was trained with the camera {spec['camera']}: expected the same one here")
    return model


def with_mirror(angles: Float[Tensor, "B A"], axes: str) -> Float[Tensor, "B 2 A"]:
    """Return angles and those of the mirror image in depth of the pose, for a solid that is its own mirror image.

    A mirror z -> -z changes the sign of every angle about X and Y. In perspective the two images differ only a little.
    """
    sign = vector(tuple(1.0 if axis in "Zz" else -1.0 for axis in axes), angles.device, angles.dtype)
    return torch.stack((angles, angles * sign), 1)
