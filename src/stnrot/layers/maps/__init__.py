"""Maps from free parameters to a rotation of R^d: the methods of `stnrot.layers.rotation.Rotation`.

Every map has one parameter, `weight`. It is zero at the rotation that the map starts with, so weight decay pulls
towards this rotation. For `NewtonSchulz` and `Penalty` the weight is the matrix itself. The costs are numbers of
multiplications and additions for N points and m reflections:

| map | formula | cost forward | reaches | guaranteed |
|---|---|---|---|---|
| `Angle` | [[cos, -sin], [sin, cos]], d = 2 | 8 N | all | det R = +1 and max abs(R^T R - I) <= 1e-5 |
| `Householder` | H_1 ... H_m D, H = I - 2 v v^T / v^T v | (4 N + 2 n) m d | all, with the default m | the same |
| `Cayley` | R_0 (I - A/2)^-1 (I + A/2), A = L - L^T | 2 N d^2 + 9 d^3 | all but 180 degrees from R_0 | the same |
| `Exponential` | R_0 exp(A) | 2 N d^2 + 30 d^3 or more | all | the same |
| `QR` | Q of R_0 + W = Q R, R_ii > 0 | 2 N d^2 + 5 d^3 | all; jumps where det(R_0 + W) = 0 | the same |
| `NewtonSchulz` | W, made a rotation after each update | 2 N d^2, an update 10 d^3 | all | the same |
| `Penalty` | W | 2 N d^2 | every matrix | nothing: R is not a rotation |

R_0 is the rotation at the start, L the part of the weight below the diagonal, and D a fixed diagonal of signs. The
default m is d, or d - 1 if d is odd. The block size n is 64; it is 128 for 128 points or more and on a GPU. For many
points `Householder` forms the matrix, which costs 2 N d^2 + (4 d + 2 n) m d. The backward pass costs at most about
twice as much as the forward pass.

Limits:

- The guarantee holds for entries of the weight up to 1e15; for `Exponential` and `Cayley`, up to some hundred, because
  the rounding errors grow with the entries.
- In float32, the entries of `Exponential` have the error of `torch.linalg.matrix_exp`, up to 5e-5 at d = 2. The matrix
  is a rotation all the same.
- The gradient of `QR` is infinite where R_0 + W is singular.
- `NewtonSchulz` writes into its weight when it is used. A compiled graph cannot check whether the steps converged;
  there the guarantee holds for updates that change no singular value by more than a half.
- A layer that is made in float32 and then converted to float64 keeps R_0 in float32 precision. To avoid this, set
  `torch.set_default_dtype` before the layer is made.
"""

from collections.abc import Callable

from stnrot.layers.maps.base import RotationMap
from stnrot.layers.maps.formulas import QR, Angle, Cayley, Exponential
from stnrot.layers.maps.free_matrix import NewtonSchulz, Penalty
from stnrot.layers.maps.householder import Householder

METHODS: dict[str, Callable[..., RotationMap]] = {
    "householder": Householder,
    "angle": Angle,
    "cayley": Cayley,
    "exp": Exponential,
    "qr": QR,
    "newton_schulz": NewtonSchulz,
    "penalty": Penalty,
}

__all__ = [
    "METHODS",
    "QR",
    "Angle",
    "Cayley",
    "Exponential",
    "Householder",
    "NewtonSchulz",
    "Penalty",
    "RotationMap",
]
