"""The layer that rotates blocks of coordinates, for fine-tuning of large networks."""

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from stnrot.errors import InputError
from stnrot.geometry.autograd import at_least_float32, full_precision
from stnrot.geometry.block_cayley import block_cayley
from stnrot.geometry.rotations import rotation_defect
from stnrot.layers.checks import check_points, checked_dim


class BlockRotation(nn.Module):
    r"""Rotate blocks of coordinates, `z -> R z` with `R = diag(R_1, ..., R_n)`, where each R_i is a learned rotation.

    Orthogonal fine-tuning (OFT) puts this layer before a frozen linear layer. A rotation of `dim` coordinates has
    dim (dim - 1) / 2 parameters, `BlockRotation` only dim (block - 1) / 2. The layer starts at the identity.

    R_i is the Cayley transform (I - A_i/2)^-1 (I + A_i/2) of a skew matrix A_i. It reaches all rotations except those
    with a rotation by 180 degrees in some plane. Each R_i is orthogonal with det R_i = +1: max |R_i^T R_i - I| <= 1e-6
    in float32, for weights up to some hundred. The usual short Neumann series for the inverse is off by 0.1 where A/2
    has a norm of 0.6, and by more for larger weights.

    Computed in the dtype of the weights and in at least float32, even under autocast. The result has the dtype of z.

    The weights are the entries of A_i below the diagonal, column after column. So `weight = 2 * oft_R` for the
    parameter `oft_R` of the library PEFT.

    Args:
        dim: number of coordinates, a multiple of `block`.
        block: number of coordinates in a block, at least 2.

    Raises:
        InputError: if an argument is not valid, or z is not a dense tensor [*n, dim] of floats on the device of the
            weights.

    Source: Z. Qiu et al., Controlling text-to-image diffusion by orthogonal finetuning, 2023; W. Liu et al.,
    Parameter-efficient orthogonal finetuning via butterfly factorization, 2024.

    >>> import torch
    >>> rotation = BlockRotation(128, block=32)
    >>> z = torch.randn(8, 128)
    >>> torch.equal(rotation(z), z), rotation.matrix().shape, bool(rotation.defect() < 1e-6)
    (True, torch.Size([4, 32, 32]), True)
    """

    def __init__(self, dim: int, block: int = 32) -> None:
        super().__init__()
        self.dim, self.block = checked_dim(dim), checked_dim(block, "block")
        if self.dim % self.block:
            raise InputError(f"dim={dim}: expected a multiple of block={block}; set block to a divisor of dim")
        self.weight = nn.Parameter(torch.zeros(self.dim // self.block, self.block * (self.block - 1) // 2))

    def forward(self, z: Shaped[Tensor, "..."]) -> Float[Tensor, "*n d"]:
        """Return R z of z [*n, dim]."""
        return self._rotate(z, inverse=False)

    def inverse(self, z: Shaped[Tensor, "..."]) -> Float[Tensor, "*n d"]:
        """Return R^T z of z [*n, dim].

        With the rows of the weight of a linear layer as z, it returns the weight of the linear layer after this layer.
        """
        return self._rotate(z, inverse=True)

    def matrix(self) -> Float[Tensor, "n b b"]:
        """Return R_1 ... R_n, with their gradient."""
        with full_precision(self.weight):
            return block_cayley(at_least_float32(self.weight), self.block)

    def defect(self) -> Float[Tensor, ""]:
        """Return max |R^T R - I|."""
        with torch.no_grad():
            return rotation_defect(self.matrix()).max()

    def extra_repr(self) -> str:
        """Describe the layer."""
        return f"dim={self.dim}, block={self.block}"

    def _rotate(self, z: Any, inverse: bool) -> Tensor:
        """Check z, and multiply each block of coordinates by its matrix."""
        weight = self.weight
        check_points(z, self.dim, weight.device)
        with full_precision(z):
            matrix = block_cayley(at_least_float32(weight), self.block)
            x = z.to(torch.promote_types(weight.dtype, torch.float32)).reshape(-1, *matrix.shape[:2]).transpose(0, 1)
            y = torch.bmm(x, matrix if inverse else matrix.mT).transpose(0, 1)
        return y.reshape(z.shape).to(z.dtype)
