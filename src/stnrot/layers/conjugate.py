"""A function in rotated coordinates."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from stnrot.layers.rotation import Rotation


class Conjugate(nn.Module):
    """Apply a function in rotated coordinates, `z -> R^T f(R z)`, about the centre of the rotation.

    Args:
        f: a function that keeps the last dimension. If it is a module, its parameters are learned too.
        rotation: the rotation R. `forward` and `inverse` share their work.

    >>> import torch
    >>> layer = Conjugate(torch.tanh, Rotation(3))
    >>> z = torch.randn(4, 3)
    >>> torch.allclose(layer(z), z.tanh())  # R is the identity at the start
    True
    """

    def __init__(self, f: Callable[[Tensor], Tensor], rotation: Rotation) -> None:
        super().__init__()
        self.f, self.rotation = f, rotation

    def forward(self, z: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """Return R^T f(R z)."""
        return self.rotation.inverse(self.f(self.rotation(z)))
