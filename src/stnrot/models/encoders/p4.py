"""The encoder of photographs: it compares CNN features that commute with quarter turns."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.errors import InputError, check_choice, check_number
from stnrot.geometry import circular_peaks, inscribed_disc, rotate
from stnrot.geometry.autograd import without_autocast
from stnrot.geometry.constants import constant
from stnrot.geometry.resampling import resize
from stnrot.models.checks import check_comparison
from stnrot.models.outputs import Orientation
from stnrot.models.p4_conv import TURNS, P4Conv

LEAST, MOST = 16, 128  # limits of the side: the last kernel grows with its square
MOST_ANGLES = 512
REACH = 3  # bins on both sides that belong to a maximum of the score
SCALE = 64.0  # at the start, as in `PolarEncoder`


class P4Encoder(nn.Module):
    r"""Compare the features of image and reference at all angles, by a CNN that commutes with quarter turns.

    On photographs an object has no fixed centre, and a CNN on pixels recognises it wherever it is; one on circles, as
    in `PolarEncoder`, does not. Let f be the features of the image, a number for each feature and direction (see
    `P4Conv`; the last kernel covers the whole map), and g(b) those of the reference, rotated by -2 pi b / A. Then

        score(k A / 4 + b) = scale * mean(f, its directions moved by k, times g(b)),   0 <= k < 4,  0 <= b < A / 4,

    and the posterior is its softmax over the A angles. A rotation of the image by k quarter turns shifts the posterior
    exactly; other rotations shift it as far as training teaches it. The hypotheses are the highest maxima of the
    posterior (`circular_peaks`). A reference can be an image, too. Its features are scaled to a mean square of 1 at
    every angle, else the angle at which they are largest would be favoured.

    Only the inscribed disc is read, because black corners give the angle away.

    Args:
        channels: of one image.
        width: features of the first layer; later layers have 2, 4 and 8 times as many. Each has four directions.
        side: pixels along each side of the square that is read, a multiple of 8 from 16 to 128. The largest square in
            the middle of an image is resized to it. If its sides differ by an odd number, this square lies half a pixel
            beside the middle.
        angles: A, the number of angles, a multiple of 4 from 8 to 512.
        dropout: probability of leaving out one of the last features in training, 0 to 0.99.
        mirrored: in evaluation with learned features as the reference, also read the mirror image, whose upright is the
            negative angle, and take the mean of the two scores. It takes twice the time, and it is for images whose
            mirror images are as usual, as those that `RandomViews` mirrors in training.

    Raises:
        InputError: if an argument is outside its range, or the images do not fit.

    >>> encoder = P4Encoder(1, width=4, side=32, angles=64, dropout=0.0, mirrored=False).eval()
    >>> image, reference = torch.rand(1, 1, 32, 32), 0.1 * torch.randn(1, *encoder.feature_shape)
    >>> posterior = encoder(image, reference, hypotheses=1).log_posterior
    >>> turned = encoder(torch.rot90(image, 1, (2, 3)), reference, hypotheses=1).log_posterior
    >>> torch.allclose(turned, posterior.roll(-16, 1), atol=1e-4)
    True
    """

    def __init__(self, channels: int, width: int, side: int, angles: int, dropout: float, mirrored: bool) -> None:
        super().__init__()
        check_number("channels", channels, 1)
        check_number("width", width, 1)
        check_number("side", side, LEAST, MOST)
        check_number("angles", angles, 2 * TURNS, MOST_ANGLES)
        check_number("dropout", dropout, 0, 0.99, whole=False)
        check_choice("mirrored", mirrored, True, False)
        if side % 8:
            raise InputError(f"side={side}: expected a multiple of 8, which is halved three times")
        if angles % TURNS:
            raise InputError(f"angles={angles}: expected a multiple of 4, so that each quarter has as many")
        self.channels, self.side, self.angles = channels, side, angles
        self.dropout, self.mirrored = dropout, mirrored
        self.features = nn.Sequential(
            P4Conv(channels, width, first=True), nn.ReLU(inplace=True),
            P4Conv(width, width, pooled=True), nn.ReLU(inplace=True),
            P4Conv(width, 2 * width), nn.ReLU(inplace=True),
            P4Conv(2 * width, 2 * width, pooled=True), nn.ReLU(inplace=True),
            P4Conv(2 * width, 4 * width), nn.ReLU(inplace=True),
            P4Conv(4 * width, 4 * width, pooled=True), nn.ReLU(inplace=True),
            P4Conv(4 * width, 4 * width), nn.ReLU(inplace=True),
            P4Conv(4 * width, 8 * width, kernel=side // 8, padding=0), nn.ReLU(inplace=True),  # sees the whole map
        )  # fmt: skip
        self.feature_shape = (8 * width * TURNS, angles // TURNS)
        self.log_scale = nn.Parameter(torch.tensor(math.log(SCALE)))

    def forward(
        self,
        image: Float[Tensor, "B C H W"],
        reference: Float[Tensor, "R C h w"] | Float[Tensor, "R D b"],
        hypotheses: int,
    ) -> Orientation:
        """Return the hypotheses and the posterior. One reference serves all images, or each image has its own.

        The reference is an image, or, with three dimensions, its features at the angles of a quarter.
        """
        check_comparison(self, image, reference, hypotheses)
        target = reference
        if reference.ndim == 4:
            fine = _fine(self.angles, reference.device, reference.dtype).expand(reference.shape[0], -1)
            rotated = rotate(self._square(reference), -fine, "bicubic")
            target = self._features(rotated.flatten(0, 1)).flatten(1).unflatten(0, (-1, fine.shape[1])).mT
            target = F.normalize(target, dim=1) * math.sqrt(target.shape[1])
        square = self._square(image)
        score = self._score(square, target)
        if self.mirrored and reference.ndim == 3 and not self.training:
            other = self._score(square.flip(3), target)
            score = (score + torch.cat((other[:, :1], other[:, 1:].flip(1)), 1)) / 2
        with without_autocast(image):
            angle, log_weight = circular_peaks(score, hypotheses, REACH)
            return Orientation(angle, log_weight, score.log_softmax(1))

    def _score(
        self, square: Float[Tensor, "B C h w"], target: Float[Tensor, "R D b"]
    ) -> Float[Tensor, "B {self.angles}"]:
        """Compare images with the features of the references at the angles of a quarter."""
        found = self._features(square)
        turned = torch.stack([found.roll(k, 2) for k in range(TURNS)], 1).flatten(2)
        with without_autocast(square):
            turned, target = (x.to(self.log_scale.dtype) for x in (turned, target))
            return (turned @ target).flatten(1) * (self.log_scale.exp() / turned.shape[2])

    def _square(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C {self.side} {self.side}"]:
        """Resize the largest square in the middle of each image."""
        height, width = image.shape[-2:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = image[..., top : top + side, left : left + side]
        if side == self.side:
            return square
        return resize(square, self.side, self.side)

    def _features(self, square: Float[Tensor, "n C h w"]) -> Float[Tensor, "n features 4"]:
        """Return the features of the inscribed disc, for each direction."""
        disc = inscribed_disc(square.shape[-2:], square.device)
        found = self.features((square * disc).contiguous(memory_format=torch.channels_last)).flatten(1)
        return F.dropout(found, self.dropout, self.training).unflatten(1, (-1, TURNS))


@constant
def _fine(angles: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "b"]:
    """Return the angles of the bins of the first quarter, in radians."""
    return torch.arange(angles // TURNS, device=device, dtype=dtype) * (2 * math.pi / angles)
