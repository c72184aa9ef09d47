"""A function seen in rotated coordinates."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from stnrot.layers.rotation import Rotation


class Conjugate(nn.Module):
    """Look at a function from another side: `R^T f(R z)`, about the rotation's centre.

    Args:
        f: keeps the last dimension; parameters of its own are learned along.
        rotation: whose work `forward` and `inverse` share.
    """

    def __init__(self, f: Callable[[Tensor], Tensor], rotation: Rotation) -> None:
        super().__init__()
        self.f, self.rotation = f, rotation

    def forward(self, z: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """Return R^T f(R z)."""
        return self.rotation.inverse(self.f(self.rotation(z)))
