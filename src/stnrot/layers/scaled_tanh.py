"""A function of R^d that acts on each coordinate alone."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ScaledTanh(nn.Module):
    """Apply f(u)_i = h_i tanh(u_i), with a learned height h_i > 0 of each coordinate.

    A signed permutation of the axes only permutes the heights.

    Args:
        dim: d.

    >>> ScaledTanh(2)(torch.tensor([0.0, 1.0])).shape
    torch.Size([2])
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.log_height = nn.Parameter(torch.zeros(dim))

    def forward(self, u: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """Return f(u)."""
        return self.log_height.exp() * u.tanh()
