"""The two-input CNN that searches the angle: correlation on the circle."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.errors import InputError, check_number
from stnrot.geometry import circular_peaks, to_polar
from stnrot.models.outputs import Orientation

HALO = 4  # as many as there are convolutions
SEARCHED, TRAINED = 5, 3  # points a side of the square in which the centre is searched, after training and in it
WRONG = 2  # points that a training step reads beside the right one, for all that are wrong
REACH = 3  # bins of a score's maximum on either side, about the width of one that the net makes
SHARPEST = 0.2  # pixels; a narrower Gaussian falls between them
MOST = 512  # directions, of which all pairs are multiplied, or circles
SCALE = 64.0  # at the start; with 1 all angles would be nearly as likely


class PolarEncoder(nn.Module):
    r"""Correlate image and reference over the angle, as features on a polar grid.

    Both pictures are sampled where a rotation is a circular shift and go through the same small CNN, which
    commutes with that shift. With their features f and g, of unit norm over the D radii and channels and A directions,

        score(s) = scale * sum_{d, a} f(d, a) g(d, a + s),   posterior = softmax(score),

    for all A shifts at once: the shift that lines the features up is the angle that lines the pictures up. Turning the
    image by t moves the posterior by -t, exactly but for resampling. The hypotheses are the posterior's highest maxima,
    between the bins by a parabola (`circular_peaks`).

    The pictures are read through a Gaussian that hides the pixels (`to_polar`): a net that sees them learns how a
    picture is turned against its pixels, which is worth nothing on the next picture. One that is trained on pictures
    that are never turned finds even the traces that 0.8 pixels leave, but hardly those of 1.6.

    Args:
        channels: of one picture.
        width: channels of the features.
        radii: circles of the polar grid. The features keep them all: averaged over four circles, with twice the
            channels, they told the upright of a digit half as precisely.
        angles: A, its directions.
        blur: standard deviation of the Gaussian, in pixels.
        dropout: probability of leaving out a whole channel of the features, in training.
        dropout_circles: probability of leaving out a whole circle, in training: the same ones of an image and of its
            reference, so that the angle does not hang on a few.
        shift: how far off its centre an image may be along each axis, as a share of the shorter side; of those to train
            with, a third of that. If not 0, the likelihood is summed over circles about 25 points of that square, each
            the middle of a 25th of it: the nearer a point is to the true centre, the better it tells the angle. The
            circles are so much smaller that they stay inside the picture about every point: black beyond its border
            would tell the middle from the others.

    Source of the principle: E. De Castro and C. Morandi, Registration of translated and rotated images
    using finite Fourier transforms, 1987; here the features are learned.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        radii: int,
        angles: int,
        blur: float,
        dropout: float,
        dropout_circles: float,
        shift: float,
    ) -> None:
        super().__init__()
        check_number("model.encoder.width", width, 2)
        check_number("model.encoder.radii", radii, 4, MOST)
        check_number("model.encoder.angles", angles, 2 * REACH + 1, MOST)
        check_number("model.encoder.blur", blur, SHARPEST, radii, whole=False)
        check_number("model.encoder.dropout", dropout, 0, 0.99, whole=False)
        check_number("model.encoder.dropout_circles", dropout_circles, 0, 0.99, whole=False)
        check_number("model.encoder.shift", shift, 0, 0.25, whole=False)
        self.radii, self.angles, self.blur, self.share = radii, angles, blur, 1 - 2 * shift
        self.width, self.dropout_circles = width, dropout_circles
        self.centres, self.coarse = (_middles(count, shift) if shift else [(0.0, 0.0)] for count in (SEARCHED, TRAINED))
        layers: list[nn.Module] = []
        for wide_in, wide_out in ((channels, width // 2), (width // 2, width), (width, width)):
            layers += [
                nn.Conv2d(wide_in, wide_out, 3, padding=(1, 0), bias=False),
                nn.BatchNorm2d(wide_out),
                nn.ReLU(inplace=True),
            ]
        self.features = nn.Sequential(*layers, nn.Conv2d(width, width, 3, padding=(1, 0)), nn.Dropout2d(dropout))
        self.feature_shape = (radii * width, angles)
        self.log_scale = nn.Parameter(torch.tensor(math.log(SCALE)))

    def forward(
        self,
        image: Float[Tensor, "B C H W"],
        reference: Float[Tensor, "R C h w"] | Float[Tensor, "R D A"],
        hypotheses: int,
    ) -> Orientation:
        """Return the hypotheses and the posterior; one reference serves all images, or each has its own.

        The reference is a picture or, with three dimensions, features as the CNN would make them of one. In training
        the middle point is known to be the right one, and the posterior is that of it and the angle together: each of
        two others, drawn at random, stands for half of the eight that are wrong.
        """
        if not 1 <= hypotheses <= self.angles:
            raise InputError(f"model.hypotheses={hypotheses}: expected 1 to model.encoder.angles={self.angles}")
        centres = self.centres
        if self.training:
            right, *wrong = self.coarse
            centres = [right, *(wrong[k] for k in torch.randperm(len(wrong))[:WRONG].tolist())]
        pictures = [(image, centre) for centre in centres]
        if reference.ndim == 4:
            pictures.append((reference, (0.0, 0.0)))
        grid = (self.radii, self.angles, self.blur, HALO)
        polar = torch.cat([to_polar(x, *grid, centre, self.share) for x, centre in pictures])
        features = self.features(polar.contiguous(memory_format=torch.channels_last))
        features = features.permute(0, 3, 2, 1).flatten(2)  # channels last in memory, too: copied in long runs
        count = len(centres) * len(image)
        turned = features[:count].unflatten(0, (len(centres), -1))
        target = features[count:] if reference.ndim == 4 else reference.transpose(1, 2)
        if self.training and self.dropout_circles:
            kept = torch.rand(len(image), 1, self.radii, device=image.device) >= self.dropout_circles
            kept = kept.repeat_interleave(self.width, dim=2)
            turned, target = turned * kept, target * kept
        with torch.autocast(image.device.type, enabled=False):
            scores = cosines(turned, target.to(turned.dtype)) * self.log_scale.exp()
            score = scores[0] if self.training else scores.logsumexp(0)
            angle, log_weight = circular_peaks(score, hypotheses, REACH)
            if self.training and len(centres) > 1:  # each of the wrong stands for several
                scores = torch.cat((scores[:1], scores[1:] + math.log((len(self.coarse) - 1) / WRONG)))
            everything = scores.logsumexp((0, 2))
        return Orientation(angle, log_weight, score - everything[:, None])


def _middles(count: int, half: float) -> list[tuple[float, float]]:
    """Return the middles of `count` by `count` equal parts of the square from -half to half, that of all first."""
    steps = [(2 * k + 1 - count) / count * half for k in range(count)]
    return sorted(((x, y) for x in steps for y in steps), key=lambda point: math.hypot(*point))


def cosines(f: Float[Tensor, "*n A F"], g: Float[Tensor, "R A F"]) -> Float[Tensor, "*n A"]:
    """Return the cosine between f and g turned by each of the A shifts: the sums over the diagonals of `f g^T`.

    An FFT has less to compute, but takes longer up to 256 shifts at least (benchmarks/correlation.py): products of
    matrices are what processors are made for, in 16 bits too.
    """
    if f.dtype == torch.float16:  # in which sums of products would be infinite
        f, g = f.float(), g.float()
    wide = torch.promote_types(f.dtype, torch.float32)
    f_size, g_size = (_Norm.apply(x) for x in (f, g))
    product = f @ (g[0] if len(g) == 1 else g).mT
    direction = torch.arange(f.shape[-2], device=f.device)
    diagonal = (direction[:, None] + direction) % len(direction)
    total = product.gather(-1, diagonal.expand_as(product)).sum(-2, dtype=wide)
    size = (f_size * g_size)[..., None]
    return total / size.masked_fill(size == 0, math.inf)  # nothing has a cosine of zero, and no gradient


class _Norm(torch.autograd.Function):
    """The norm over the last two axes, with a gradient in the type of x: torch takes that of 16 bits in 32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rows = torch.linalg.vector_norm(x, dim=-1)  # first, for no copy of all in 32 bits
        size = torch.linalg.vector_norm(rows.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
        ctx.save_for_backward(x, size)
        return size

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        x, size = ctx.saved_tensors
        slope = upstream / size.clamp(min=torch.finfo(size.dtype).tiny)
        return x * slope.to(x.dtype)[..., None, None]
