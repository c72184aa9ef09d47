"""A function of R^d that acts on each coordinate alone."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from stnrot.arguments import Count, checked
from stnrot.layers.checks import check_points


class ScaledTanh(nn.Module):
    """Apply f(z)_i = h_i tanh(z_i), with a learned height h_i > 0 of each coordinate.

    A signed permutation of the axes only permutes the heights. The result has the dtype of z.

    Args:
        dim: d.

    Raises:
        InputError: if dim is less than 1, or z is not a dense tensor [*n, dim] of floats on the device of the heights.

    >>> ScaledTanh(2)(torch.tensor([0.0, 1.0])).shape
    torch.Size([2])
    """

    @checked
    def __init__(self, dim: Count) -> None:
        super().__init__()
        self.log_height = nn.Parameter(torch.zeros(dim))

    def forward(self, z: Shaped[Tensor, "..."]) -> Float[Tensor, "*n d"]:
        """Return f(z)."""
        check_points(z, len(self.log_height), self.log_height.device)
        return (self.log_height.exp() * z.tanh()).to(z.dtype)
