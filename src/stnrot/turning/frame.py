"""The size of a turned image."""

import math
from typing import Literal

Frame = Literal["crop", "expand", "same"]
WHOLE = 1e-6  # pixels; a rounding error is no part of a pixel


def frame_size(height: int, width: int, angle: float, frame: Frame) -> tuple[int, int]:
    r"""Return the height and width of an image that is turned by an angle (radians).

    - `crop`: the largest upright rectangle about the middle that the turned image fills. With half its sides p and q,
      c = |cos angle| and s = |sin angle|, its corners lie inside the image if

          c p + s q <= width / 2,    s p + c q <= height / 2.

      Its area p q is largest where both are equal or, if this point violates neither, in the middle of one of the two
      edges.
    - `expand`: the whole image.
    - `same`: as it was; corners may leave it.

    >>> frame_size(100, 200, math.pi / 2, "crop"), frame_size(100, 100, math.pi / 4, "expand")
    ((200, 100), (142, 142))
    """
    if frame == "same":
        return height, width
    c, s = abs(math.cos(angle)), abs(math.sin(angle))
    if frame == "expand":
        return math.ceil(s * width + c * height - WHOLE), math.ceil(c * width + s * height - WHOLE)
    across, down = width / 2, height / 2
    corners = []
    if abs(c * c - s * s) > WHOLE:
        corners.append(((c * across - s * down) / (c * c - s * s), (c * down - s * across) / (c * c - s * s)))
    if min(c, s) > WHOLE:
        corners += [(across / (2 * c), across / (2 * s)), (down / (2 * s), down / (2 * c))]
    inside = [
        (p, q)
        for p, q in corners
        if min(p, q) > 0 and c * p + s * q <= across + WHOLE and s * p + c * q <= down + WHOLE
    ]
    p, q = max(inside, key=lambda each: each[0] * each[1])
    return max(1, math.floor(2 * q + WHOLE)), max(1, math.floor(2 * p + WHOLE))
