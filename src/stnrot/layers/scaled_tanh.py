"""A function of R^d that looks at each coordinate alone."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ScaledTanh(nn.Module):
    """f(u)_i = h_i tanh(u_i) with a learned height h_i > 0: it keeps its form under signed permutations of the axes.

    Args:
        dim: d.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.log_height = nn.Parameter(torch.zeros(dim))

    def forward(self, u: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """Return f(u)."""
        return self.log_height.exp() * u.tanh()
