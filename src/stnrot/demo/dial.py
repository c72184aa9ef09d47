"""A dial that shows an angle and its posterior, as SVG."""

import math

from jaxtyping import Float
from torch import Tensor

from stnrot.geometry.angles import upsample_log_density

POINTS = 360  # of the outline, at least
RADIUS, HUB = 100, 22  # of the dial; of the circle at which the posterior is 0


def dial(angle: float, log_posterior: Float[Tensor, "A"] | None, turned: float | None = None) -> str:
    """Return the drawing: the needle points to where the top of the picture lies, up on the dial is upright.

    A picture that has to be rotated counter-clockwise by an angle has its top at this angle clockwise. The outline is
    the posterior, divided by its maximum.

    Args:
        angle: radians; rotates the picture upright.
        log_posterior: of equal bins of the circle, bin i at the angle `2 pi i / A`.
        turned: radians clockwise by which the picture was turned; a dashed line.
    """
    ticks = "".join(_ray(math.radians(degrees), RADIUS, RADIUS + 6) for degrees in range(0, 360, 30))
    outline = "" if log_posterior is None else _outline(log_posterior)
    known = "" if turned is None else f'<g stroke-dasharray="5 5">{_ray(turned, HUB, RADIUS)}</g>'
    clockwise = f"{math.degrees(math.remainder(angle, 2 * math.pi)):.1f}"
    return (
        f'<svg viewBox="-125 -125 250 250" role="img" aria-label="The top of the picture points {clockwise} degrees '
        f'clockwise from up." style="max-width: 22rem; margin: auto; display: block">'
        '<g fill="none" stroke="currentColor" stroke-width="1.5">'
        f'<circle r="{RADIUS}"/><circle r="{HUB}"/>{ticks}{known}</g>{outline}'
        f'<g stroke="#d55e00" stroke-width="4" stroke-linecap="round">{_ray(angle, 0, RADIUS)}</g>'
        '<g fill="currentColor" font-size="13" text-anchor="middle" dominant-baseline="central">'
        f'<text y="-115">up</text></g></svg>'
    )


def _outline(log_posterior: Float[Tensor, "A"]) -> str:
    fine = log_posterior.double()
    if len(fine) < POINTS:
        fine = upsample_log_density(fine[None], POINTS)[0]
    share = (fine - fine.max()).exp().tolist()
    reach = [HUB + (RADIUS - HUB) * each for each in share]
    points = " ".join(_point(2 * math.pi * k / len(reach), each) for k, each in enumerate(reach))
    return f'<polygon points="{points}" fill="#0072b2" fill-opacity="0.5" stroke="#0072b2"/>'


def _ray(clockwise: float, inner: float, outer: float) -> str:
    (x, y), (to_x, to_y) = (_point(clockwise, each).split(",") for each in (inner, outer))
    return f'<line x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}"/>'


def _point(clockwise: float, radius: float) -> str:
    return f"{radius * math.sin(clockwise):.1f},{-radius * math.cos(clockwise):.1f}"
