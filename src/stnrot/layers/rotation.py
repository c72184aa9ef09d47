"""A layer that is a rotation of R^d."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from stnrot.errors import InputError
from stnrot.geometry.autograd import full_precision
from stnrot.geometry.rotations import det_sign, project_rotation, random_rotation, rotation_defect
from stnrot.layers.rotation_maps import (
    QR,
    Angle,
    Cayley,
    Exponential,
    Householder,
    NewtonSchulz,
    Penalty,
    RotationMap,
)

METHODS: dict[str, Callable[..., RotationMap]] = {
    "householder": Householder,
    "angle": Angle,
    "cayley": Cayley,
    "exp": Exponential,
    "qr": QR,
    "newton_schulz": NewtonSchulz,
    "penalty": Penalty,
}
TOLERANCE = 1e-4  # of each entry of R^T R - I, for a matrix to begin with


class Rotation(nn.Module):
    r"""Turn the last dimension, `z -> R (z - c) + c`: R is orthogonal with det +1 by construction, and learned.

    det R = +1 and max |R^T R - I| <= 1e-5 in float32, at the start and after any number of updates, with all methods
    but `penalty`; `stnrot.layers.rotation_maps` gives each method's formula, cost, reach, source and limits.
    The work is done in the type of the weights and in float32 at least, under autocast too, but for what autocast does
    in a backward pass inside it; the result has the type of z. In training, `inverse` takes over from the
    `forward` before it what both compute of the weights; who calls `forward` many times with the same weights, as a
    recurrent net does, takes `matrix()` once.

    What `inverse` takes over is not there for `torch.utils.checkpoint` around `inverse` alone: put it around both. The
    transformations of `torch.func` with a gradient are not supported.

    Args:
        dim: d, at least 2.
        method: `householder` (reaches every rotation, and is by far the fastest for large d), `angle` (d = 2),
            `cayley`, `exp`, `qr`, `newton_schulz` (a free matrix, made a rotation again after each update), or
            `penalty` (any matrix, which is no rotation: add `penalty()` to the loss).
        reflections: m of `householder`, even; fewer than d are faster, and reach only rotations that leave at least
            d - 2 m directions as they are.
        center: c, the point that stays where it is: None for the origin, a tensor [d] that is fixed, or a Parameter
            [d] that is learned.
        init: `identity`, `haar` (uniform over all rotations, from torch's generator), or a rotation [d, d].

    Raises:
        ValueError: if an argument or z does not fit.

    >>> import torch
    >>> turn = Rotation(16)
    >>> z = torch.randn(8, 16)
    >>> torch.equal(turn(z), z), turn.inverse(turn(z)).shape, bool(turn.defect() < 1e-5)
    (True, torch.Size([8, 16]), True)
    """

    center: Tensor | None

    def __init__(
        self,
        dim: int,
        method: str = "householder",
        reflections: int | None = None,
        center: Tensor | None = None,
        init: str | Tensor = "identity",
    ) -> None:
        super().__init__()
        dim = _whole("dim", dim, "a whole number of at least 2")
        if dim < 2:
            raise InputError(f"dim={dim}: expected a whole number of at least 2")
        if not isinstance(method, str) or method not in METHODS:
            raise InputError(f"method={method!r}: expected one of {', '.join(METHODS)}")
        if method == "angle" and dim != 2:
            raise InputError(f"method='angle' turns a plane: expected dim=2, got {dim}; take method='householder'")
        options = {} if method != "householder" else {"reflections": _checked(reflections, dim, init)}
        if reflections is not None and not options:
            raise InputError(f"reflections={reflections}: only method='householder' has them, got {method!r}")
        self.dim, self.method = dim, method
        device = torch.empty(0).device  # where new tensors go, which may be one that computes nothing
        with torch.device("cpu"):
            self.map = METHODS[method](_start(init, dim), **options)
        self.map.to(device)
        if center is not None and not (_is_real(center, dim) and center.isfinite().all()):
            raise InputError(f"center: expected a tensor of {dim} finite real numbers, got {_described(center)}")
        if isinstance(center, nn.Parameter):
            self.center = center
        else:
            self.register_buffer("center", None if center is None else center.detach().clone())
        self._left: weakref.ref[_Work] | None = None

    @property
    def is_rotation(self) -> bool:
        """Whether R is one by construction."""
        return self.map.is_rotation

    def forward(self, z: Shaped[Tensor, ...]) -> Float[Tensor, "*n d"]:
        """Return R (z - c) + c of z [*n, d]."""
        return self._turn(z, inverse=False)

    def inverse(self, z: Shaped[Tensor, ...]) -> Float[Tensor, "*n d"]:
        """Return R^T (z - c) + c: the inverse, and with `penalty` as near to it as R is to a rotation."""
        return self._turn(z, inverse=True)

    def matrix(self) -> Float[Tensor, "d d"]:
        """Return R, differentiable."""
        with full_precision(self.map.weight):
            matrix = self.map.shared("matrix")
        return matrix.clone() if matrix is self.map.weight else matrix

    def defect(self) -> Float[Tensor, ""]:
        """Return max |R^T R - I|."""
        with torch.no_grad():
            return rotation_defect(self.matrix())

    def penalty(self) -> Float[Tensor, ""]:
        """Return the squared Frobenius norm of R^T R - I for the loss of method `penalty`; 0 with the others."""
        if self.is_rotation:
            return self.map.weight.new_zeros(())
        r = self.matrix()
        with full_precision(r):
            return (r.mT @ r - torch.eye(self.dim, device=r.device, dtype=r.dtype)).square().sum()

    def extra_repr(self) -> str:
        """Describe the layer."""
        return f"dim={self.dim}, method={self.method!r}"

    def _turn(self, z: Tensor, inverse: bool) -> Tensor:
        if not isinstance(z, Tensor) or not z.is_floating_point() or z.layout != torch.strided:
            raise InputError(f"Rotation: expected a dense tensor of real numbers, got {_described(z)}")
        if z.ndim == 0 or z.shape[-1] != self.dim:
            raise InputError(f"Rotation: expected a last dimension of {self.dim}, got shape {tuple(z.shape)}")
        center = self.center
        with full_precision(z):
            x = z if z.ndim == 2 else z.reshape(-1, self.dim)
            x = x.to(torch.promote_types(self.map.weight.dtype, torch.float32))
            center = None if center is None else center.to(x.dtype)
            x = x if center is None else x - center
            y = self._mapped(x, inverse)
            y = y if center is None else y + center
        return y.to(z.dtype) if z.ndim == 2 else y.to(z.dtype).view(z.shape)

    def _mapped(self, x: Tensor, inverse: bool) -> Tensor:
        """Turn rows; an `inverse` takes over the work that the `forward` before it left."""
        made_by = self.map
        weight, kind = made_by.weight, made_by.kind(x.shape[0])
        made_of = weight, getattr(made_by, "start", weight)
        if torch.compiler.is_compiling() or not (torch.is_grad_enabled() and weight.requires_grad):
            return made_by.turn(x, made_by.shared(kind), inverse)
        if inverse:
            left, self._left = None if self._left is None else self._left(), None
            held = left is not None and left.state == _state(made_of, kind)
            return made_by.turn(x, left.shared if left and held else made_by.shared(kind), inverse)
        shared = made_by.shared(kind)
        work = _Work(shared, made_of, _state(made_of, kind))
        self._left = weakref.ref(work)
        y = made_by.turn(x, shared, inverse)
        y.register_hook(work.close)
        return y

    def __getstate__(self) -> dict[str, Any]:
        """Copy and pickle without what a call left."""
        return self.__dict__ | {"_left": None}


class _Work:
    """What `forward` leaves to `inverse`, until the weights change or a gradient has come back.

    The hook of the result that `forward` gave holds it, so it lives as long as what is to be differentiated. A change
    of the weights behind autograd's back, by `weight.data.copy_`, is not seen.
    """

    def __init__(self, shared: Any, made_of: tuple[Tensor, Tensor], state: tuple[object, ...]) -> None:
        self.shared = shared
        self.made_of = made_of  # alive, so that no other tensor gets the id of one
        self.state: tuple[object, ...] | None = state

    def close(self, upstream: Tensor | None) -> None:
        """Serve no more: a gradient has come, and an update may follow."""
        self.state = None


def _state(made_of: tuple[Tensor, Tensor], kind: str | int) -> tuple[object, ...]:
    """Return what changes where the map would make something else of its weight and start."""
    weight, start = made_of
    versions = weight._version, start._version, _optimizer_steps
    return id(weight), id(start), versions, weight.data_ptr(), weight.dtype, kind


_optimizer_steps = 0


def _count_step(*of_optimizer: Any) -> None:
    global _optimizer_steps
    _optimizer_steps += 1


register_optimizer_step_post_hook(_count_step)  # a fused optimizer changes weights and leaves their version as it was


def _checked(reflections: Any, dim: int, init: str | Tensor) -> int:
    """Return the number of reflections, the most there are by default."""
    most = dim - dim % 2
    if reflections is None:
        return most
    expected = f"an even number from 2 to {most}, for det +1 at dim={dim}"
    reflections = _whole("reflections", reflections, expected)
    if reflections % 2 or not 2 <= reflections <= most:
        raise InputError(f"reflections={reflections}: expected {expected}")
    if reflections < most and init != "identity":
        raise InputError(
            f"reflections={reflections} with a start that takes {most}: expected init='identity', or no reflections"
        )
    return reflections


def _whole(name: str, given: Any, expected: str) -> int:
    """Return a whole number, NumPy's too."""
    try:
        if not isinstance(given, bool):
            return operator.index(given)
    except TypeError:
        pass
    raise InputError(f"{name}={given!r}: expected {expected}")


def _is_real(given: Any, *shape: int) -> bool:
    dense = isinstance(given, Tensor) and given.layout == torch.strided and not given.is_meta
    return dense and given.is_floating_point() and given.shape == shape


def _described(given: Any) -> str:
    if not isinstance(given, Tensor):
        return type(given).__name__
    kind = "" if given.layout == torch.strided else f"{given.layout} "
    return f"{kind}{given.dtype} of shape {tuple(given.shape)}" + (" without values" if given.is_meta else "")


def _start(init: str | Tensor, dim: int) -> Float[Tensor, "d d"]:
    """Return the rotation to begin with, in float64."""
    if isinstance(init, str):
        if init not in ("identity", "haar"):
            raise InputError(f"init={init!r}: expected identity, haar, or a rotation as a tensor")
        return torch.eye(dim, dtype=torch.float64) if init == "identity" else random_rotation(dim).contiguous()
    if not _is_real(init, dim, dim):
        raise InputError(f"init: expected identity, haar or a real matrix of {dim} x {dim}, got {_described(init)}")
    start = init.detach().double().cpu()
    defect = rotation_defect(start).item()
    if not defect <= TOLERANCE:
        raise InputError(
            f"init: expected a rotation, got max |R^T R - I| = {defect:.3g}; geometry.project_rotation helps"
        )
    if det_sign(start) < 0:
        raise InputError("init: expected a rotation, got a reflection, det = -1; change the sign of one row")
    return project_rotation(start).contiguous()
