"""The layer that is a learned rotation of R^d."""

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from stnrot.arguments import described
from stnrot.errors import InputError
from stnrot.geometry.autograd import full_precision
from stnrot.geometry.constants import identity
from stnrot.geometry.reflection_blocks import Blocks, Stack
from stnrot.geometry.rotations import rotation_defect
from stnrot.layers.checks import check_center, check_points, checked_dim, checked_reflections, start_rotation
from stnrot.layers.maps import METHODS


class Rotation(nn.Module):
    r"""Rotate the last dimension, `z -> R (z - c) + c`, where R is a learned rotation.

    R is orthogonal with det R = +1 by construction: max |R^T R - I| <= 1e-5 in float32, at the start and after any
    number of updates, with all methods except `penalty`. `stnrot.layers.maps` has a table of the methods: formula,
    cost, reach, source and limits.

    Computed in the dtype of the weights and in at least float32, even under autocast. A backward pass run inside
    autocast may use lower precision. The result has the dtype of z.

    Every call computes R from the current weights. `Conjugate` computes it once for `forward` and `inverse` together.
    If you call `forward` many times with the same weights, as a recurrent network does, compute `matrix()` once and
    multiply by it, or pass the result of `prepare` to each call. Gradient transformations of `torch.func` are not
    supported.

    Args:
        dim: d, at least 2.
        method: one of
            `householder` (reaches every rotation; by far the fastest for large d),
            `angle` (for d = 2),
            `cayley`, `exp`, `qr`,
            `newton_schulz` (a free matrix that becomes a rotation again after each update),
            `penalty` (a free matrix, not a rotation: add `penalty()` to the loss).
        reflections: the number m of `householder`, even; None for the most. Fewer than d are faster, but reach only
            rotations that leave at least d - 2 m directions fixed.
        center: the fixed point c: None for the origin, a tensor [d], or a Parameter [d], which is learned.
        init: `identity`, `haar` (uniform over all rotations, from torch's generator), or a rotation [d, d].

    Raises:
        InputError: if an argument is not valid, or z is not a dense tensor [*n, dim] of floats on the device of the
            weights.

    >>> import torch
    >>> rotation = Rotation(16)
    >>> z = torch.randn(8, 16)
    >>> torch.equal(rotation(z), z), rotation.inverse(rotation(z)).shape, bool(rotation.defect() < 1e-5)
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
        dim = checked_dim(dim)
        if not isinstance(method, str) or method not in METHODS:
            raise InputError(f"method={method!r}: expected one of {', '.join(METHODS)}")
        if method == "angle" and dim != 2:
            raise InputError(f"method='angle' rotates a plane: expected dim=2, got {dim}; take method='householder'")
        options = {} if method != "householder" else {"reflections": checked_reflections(reflections, dim, init)}
        if reflections is not None and not options:
            raise InputError(f"reflections={reflections}: only method='householder' has them, got {method!r}")
        self.dim, self.method = dim, method
        device = torch.empty(0).device  # of new tensors; it may be the meta device, which has no values
        with torch.device("cpu"):
            self.map = METHODS[method](start_rotation(init, dim), **options)
        self.map.to(device)
        check_center(center, dim)
        if isinstance(center, nn.Parameter):
            self.center = center
        else:
            self.register_buffer("center", None if center is None else center.detach().clone())

    @property
    def is_rotation(self) -> bool:
        """Return whether R is a rotation by construction."""
        return self.map.is_rotation

    def forward(self, z: Shaped[Tensor, "..."], *, prepared: Any = None) -> Float[Tensor, "*n d"]:
        """Return R (z - c) + c of z [*n, d].

        Args:
            prepared: the result of `prepare`; None computes it from the weights.
        """
        return self._transform(z, prepared, inverse=False)

    def inverse(self, z: Shaped[Tensor, "..."], *, prepared: Any = None) -> Float[Tensor, "*n d"]:
        """Return R^T (z - c) + c of z [*n, d], the inverse. For `penalty` it is the inverse only if R is a rotation.

        Args:
            prepared: the result of `prepare`; None computes it from the weights.
        """
        return self._transform(z, prepared, inverse=True)

    def prepare(self, z: Shaped[Tensor, "..."]) -> Any:
        """Compute what several calls of `forward` and `inverse` on points z [*n, d] can share.

        The result belongs to the current weights: do not use it after an update. It is part of the graph of every call
        that it is passed to, so these calls need one backward pass together.
        """
        check_points(z, self.dim, self.map.weight.device)
        with full_precision(z):
            return self.map.prepare(z.numel() // self.dim)

    def matrix(self) -> Float[Tensor, "d d"]:
        """Return R, with its gradient."""
        with full_precision(self.map.weight):
            matrix = self.map.prepare(None)
        return matrix.clone() if matrix is self.map.weight else matrix

    def defect(self) -> Float[Tensor, ""]:
        """Return max |R^T R - I|."""
        with torch.no_grad():
            return rotation_defect(self.matrix())

    def penalty(self) -> Float[Tensor, ""]:
        """Return the squared Frobenius norm of R^T R - I, a loss term for the method `penalty`; 0 for the others."""
        if self.is_rotation:
            return self.map.weight.new_zeros(())
        r = self.matrix()
        with full_precision(r):
            return (r.mT @ r - identity(self.dim, r.device, r.dtype)).square().sum()

    def extra_repr(self) -> str:
        """Describe the layer."""
        return f"dim={self.dim}, method={self.method!r}"

    def _check_prepared(self, prepared: Any) -> None:
        """Raise InputError unless it is the matrix, or the reflections, of a rotation of this dimension."""
        blocks = isinstance(prepared, Blocks | Stack) and self.method == "householder"
        rows = prepared.vectors if blocks else prepared
        if not isinstance(rows, Tensor) or rows.shape[1:] != (self.dim,) or not (blocks or len(rows) == self.dim):
            raise InputError(f"prepared: expected the result of prepare() of this layer, got {described(prepared)}")

    def _transform(self, z: Tensor, prepared: Any, inverse: bool) -> Tensor:
        """Check z, flatten it to rows, and rotate them about the centre."""
        rotation_map, center = self.map, self.center
        weight = rotation_map.weight
        check_points(z, self.dim, weight.device)
        if prepared is not None and not torch.compiler.is_compiling():
            self._check_prepared(prepared)
        with full_precision(z):
            x = z if z.ndim == 2 else z.reshape(-1, self.dim)
            x = x.to(torch.promote_types(weight.dtype, torch.float32))
            center = None if center is None else center.to(x.dtype)
            x = x if center is None else x - center
            y = rotation_map.rotate(x, rotation_map.prepare(x.shape[0]) if prepared is None else prepared, inverse)
            y = y if center is None else y + center
        return y.to(z.dtype) if z.ndim == 2 else y.to(z.dtype).view(z.shape)
