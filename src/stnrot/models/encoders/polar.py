"""The encoder that searches the angle: a correlation of CNN features over the circle."""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from stnrot.errors import check_number
from stnrot.geometry import circular_peaks, to_polar
from stnrot.geometry.autograd import without_autocast
from stnrot.geometry.constants import constant
from stnrot.geometry.tails import logsumexp
from stnrot.models.checks import check_comparison
from stnrot.models.conv_stack import ConvStack
from stnrot.models.outputs import Orientation

HALO = 4  # the number of convolutions
SEARCHED, TRAINED = 5, 3  # points along each side of the square of the centre search: in evaluation, in training
WRONG = 2  # wrong centres that a training step samples; they stand for all wrong centres
REACH = 3  # bins on both sides that belong to a maximum of the score, about the width of a peak
SHARPEST = 0.2  # pixels; a narrower Gaussian would miss pixels
BLUR, BLUR_OF_UPRIGHT = 0.8, 1.6  # pixels, by default; the second if the training images are never rotated
MOST = 512  # limit of directions (all pairs of which are multiplied) and of circles
SCALE = 64.0  # at the start; with 1 all angles would have nearly the same probability


class PolarEncoder(nn.Module):
    r"""Correlate the features of image and reference over all angles, on a polar grid.

    Both images are sampled on circles, where a rotation is a circular shift. The same small CNN reads both; it commutes
    with the shift. Let f and g be their features, of unit norm over the D radii and channels and the A directions. Then

        score(s) = scale * sum_{d, a} f(d, a) g(d, a + s),   posterior = softmax(score),

    for all A shifts s at once. The shift that aligns the features is the angle that aligns the images. A rotation of
    the image by t shifts the posterior by -t, exactly up to resampling. The hypotheses are the highest maxima of the
    posterior, located between the bins by a parabola (`circular_peaks`).

    The images are sampled with a Gaussian that hides the pixel grid (`to_polar`). Without it, the network learns to
    detect how an image is rotated against its pixel grid, which does not carry over to other images. A network that is
    trained on images that are never rotated detects even the traces that a Gaussian of 0.8 pixels leaves, but hardly
    those of 1.6 pixels.

    Args:
        channels: of one image.
        width: channels of the features, at least 2.
        radii: number of circles of the polar grid, 4 to 512. The features keep all circles. With averages over four
            circles and twice the channels, the upright angle of a digit was half as precise.
        angles: A, the number of directions, 7 to 512.
        blur: standard deviation of the Gaussian in pixels, from 0.2 to the number of circles; None for 0.8.
        dropout: probability of leaving out a whole channel of the features in training, 0 to 0.99.
        dropout_circles: probability of leaving out a whole circle of the features in training, 0 to 0.99. The same
            circles are left out of an image and of its reference, so that the angle does not depend on a few circles.
        shift: largest offset of the object from the image centre along each axis, as a share of the shorter side, 0 to
            0.25; the images for training should have a third of it. If not 0, the likelihood is summed over 25 centres
            of the circles, the middles of 25 equal parts of the square of possible centres. The nearer a centre is to
            the true one, the better it determines the angle. The circles are made smaller, so that they stay inside
            the image about every centre: zeros beyond the border would distinguish the middle from the other centres.

    Raises:
        InputError: if an argument is outside its range, or the images do not fit.

    Source of the principle: E. De Castro and C. Morandi, Registration of translated and rotated images using finite
    Fourier transforms, 1987; here the features are learned.

    >>> encoder = PolarEncoder(1, width=8, radii=8, angles=32, blur=0.8, dropout=0.2, dropout_circles=0.0, shift=0.0)
    >>> image = torch.rand(1, 1, 28, 28)
    >>> found = encoder.eval()(image, torch.rot90(image, 1, (2, 3)), hypotheses=1)
    >>> round(math.degrees(found.angle.item()))
    90
    """

    def __init__(
        self,
        channels: int,
        width: int,
        radii: int,
        angles: int,
        blur: float | None,
        dropout: float,
        dropout_circles: float,
        shift: float,
    ) -> None:
        super().__init__()
        check_number("channels", channels, 1)
        check_number("width", width, 2)
        check_number("radii", radii, 4, MOST)
        check_number("angles", angles, 2 * REACH + 1, MOST)
        blur = BLUR if blur is None else blur
        check_number("blur", blur, SHARPEST, radii, whole=False)
        check_number("dropout", dropout, 0, 0.99, whole=False)
        check_number("dropout_circles", dropout_circles, 0, 0.99, whole=False)
        check_number("shift", shift, 0, 0.25, whole=False)
        self.radii, self.angles, self.blur, self.share = radii, angles, blur, 1 - 2 * shift
        self.channels, self.width, self.dropout_circles = channels, width, dropout_circles
        self.centres, self.coarse = (_middles(count, shift) if shift else [(0.0, 0.0)] for count in (SEARCHED, TRAINED))
        layers: list[nn.Module] = []
        for wide_in, wide_out in ((channels, width // 2), (width // 2, width), (width, width)):
            layers += [
                nn.Conv2d(wide_in, wide_out, 3, padding=(1, 0), bias=False),
                nn.BatchNorm2d(wide_out),
                nn.ReLU(inplace=True),
            ]
        self.features = ConvStack(*layers, nn.Conv2d(width, width, 3, padding=(1, 0)), nn.Dropout2d(dropout))
        self.feature_shape = (radii * width, angles)
        self.log_scale = nn.Parameter(torch.tensor(math.log(SCALE)))

    def forward(
        self,
        image: Float[Tensor, "B C H W"],
        reference: Float[Tensor, "R C h w"] | Float[Tensor, "R D A"],
        hypotheses: int,
    ) -> Orientation:
        """Return the hypotheses and the posterior. One reference serves all images, or each image has its own.

        The reference is an image, or, with three dimensions, the features of an image as the CNN computes them. In
        training, the middle centre is the true one, and the posterior is the joint probability of this centre and the
        angle. Two of the eight wrong centres are drawn at random, and each stands for half of the eight.
        """
        check_comparison(self, image, reference, hypotheses)
        batch = image.shape[0]  # `len` would fix the size of the batch in an exported graph
        centres = self.centres
        if self.training:
            true, *wrong = self.coarse
            centres = [true, *(wrong[k] for k in torch.randperm(len(wrong))[:WRONG].tolist())]
        sampled = [(image, centre) for centre in centres]
        if reference.ndim == 4:
            sampled.append((reference, (0.0, 0.0)))
        grid = (self.radii, self.angles, self.blur, HALO)
        polar = torch.cat([to_polar(x, *grid, centre, self.share) for x, centre in sampled])
        features = self.features(polar.contiguous(memory_format=torch.channels_last))
        features = features.permute(0, 3, 2, 1).flatten(2)  # channels last, as in memory: a copy of long runs
        count = len(centres) * batch
        source = features[:count].unflatten(0, (len(centres), -1))
        target = features[count:] if reference.ndim == 4 else reference.transpose(1, 2)
        if self.training and self.dropout_circles:
            mask = torch.rand(batch, 1, self.radii, device=image.device) >= self.dropout_circles
            mask = mask.repeat_interleave(self.width, dim=2)
            source, target = source * mask, target * mask
        with without_autocast(image):
            scores = cosines(source, target.to(source.dtype)) * self.log_scale.exp()
            score = scores[0] if self.training else scores.logsumexp(0)
            angle, log_weight = circular_peaks(score, hypotheses, REACH)
            if self.training and len(centres) > 1:  # each wrong centre stands for several
                scores = torch.cat((scores[:1], scores[1:] + math.log((len(self.coarse) - 1) / WRONG)))
            total = logsumexp(scores, (0, 2))
        return Orientation(angle, log_weight, score - total[:, None])


def _middles(count: int, half: float) -> list[tuple[float, float]]:
    """Split the square from -half to half into `count` x `count` equal parts; return their middles, (0, 0) first."""
    steps = [(2 * k + 1 - count) / count * half for k in range(count)]
    return sorted(((x, y) for x in steps for y in steps), key=lambda point: math.hypot(*point))


def cosines(f: Float[Tensor, "*n A F"], g: Float[Tensor, "R A F"]) -> Float[Tensor, "*n A"]:
    """Return the cosine between f and g for each of the A circular shifts: the sums over the diagonals of `f g^T`.

    An FFT needs fewer operations, but it is slower up to 256 shifts at least (benchmarks/correlation.py): processors
    are fast at matrix products, also in 16 bits.
    """
    if f.dtype == torch.float16:  # sums of products would overflow
        f, g = f.float(), g.float()
    wide = torch.promote_types(f.dtype, torch.float32)
    f_size, g_size = (_Norm.apply(x) for x in (f, g))
    product = f @ (g[0] if len(g) == 1 else g).mT
    total = product.gather(-1, _diagonals(f.shape[-2], f.device).expand_as(product)).sum(-2, dtype=wide)
    size = (f_size * g_size)[..., None]
    return total / size.masked_fill(size == 0, math.inf)  # features of zero: the cosine and its gradient are zero


@constant
def _diagonals(count: int, device: torch.device) -> Int[Tensor, "{count} {count}"]:
    """Return, for each row of a square matrix, the columns of its circular diagonals."""
    row = torch.arange(count, device=device)
    return (row[:, None] + row) % count


class _Norm(torch.autograd.Function):
    """The norm over the last two axes. The gradient has the dtype of x; torch computes it in float32 for 16 bits."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rows = torch.linalg.vector_norm(x, dim=-1)  # first over the rows: it avoids a copy of x in float32
        size = torch.linalg.vector_norm(rows.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
        ctx.save_for_backward(x, size)
        return size

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        x, size = ctx.saved_tensors
        slope = upstream / size.clamp(min=torch.finfo(size.dtype).tiny)
        return x * slope.to(x.dtype)[..., None, None]
