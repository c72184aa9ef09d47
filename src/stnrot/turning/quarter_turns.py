"""Quarter turns of pixels, which lose nothing; they need no torch."""

from PIL import Image

TRANSPOSED = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}


def quarter_turned(image: Image.Image, turns: int) -> Image.Image:
    """Turn an image by quarter turns, counter-clockwise. Mode and values stay."""
    return image.transpose(TRANSPOSED[turns % 4]) if turns % 4 else image.copy()
