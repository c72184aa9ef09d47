"""A function in rotated coordinates."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from stnrot.arguments import described
from stnrot.errors import InputError
from stnrot.layers.rotation import Rotation


class Conjugate(nn.Module):
    """Apply a function in rotated coordinates, `z -> R^T f(R z)`, about the centre of the rotation.

    R is computed from the weights once for both rotations. Hooks of `rotation` run at the first one, `R z`.

    Args:
        f: a function that keeps the shape and the dtype. If it is a module, its parameters are learned too.
        rotation: the rotation R.

    Raises:
        InputError: if f or the rotation is of another kind, or later if f returns no tensor like its argument.

    >>> import torch
    >>> layer = Conjugate(torch.tanh, Rotation(3))
    >>> z = torch.randn(4, 3)
    >>> torch.allclose(layer(z), z.tanh())  # R is the identity at the start
    True
    """

    def __init__(self, f: Callable[[Tensor], Tensor], rotation: Rotation) -> None:
        super().__init__()
        if not isinstance(rotation, Rotation):
            raise InputError(f"rotation: expected a Rotation, got {described(rotation)}; write Conjugate(f, rotation)")
        if not callable(f) or isinstance(f, type):
            raise InputError(f"f: expected a function of a tensor, got {described(f)}; write Conjugate(f, rotation)")
        self.f, self.rotation = f, rotation

    def forward(self, z: Shaped[Tensor, "..."]) -> Float[Tensor, "*n d"]:
        """Return R^T f(R z)."""
        prepared = self.rotation.prepare(z)
        u = self.rotation(z, prepared=prepared)
        v = self.f(u)
        if not torch.compiler.is_compiling():
            _check_value(v, u)
        return self.rotation.inverse(v, prepared=prepared)


def _check_value(v: Any, u: Tensor) -> None:
    """Raise InputError unless v = f(u) has the shape and the dtype of u; autocast may change the dtype."""
    alike = isinstance(v, Tensor) and v.shape == u.shape
    if not (alike and (v.dtype == u.dtype or (v.is_floating_point() and torch.is_autocast_enabled(u.device.type)))):
        raise InputError(f"f: expected it to return {described(u)}, as its argument, got {described(v)}")
