"""One figure of many samples, each with its images side by side: input | reference | aligned | difference."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

PAPER, INK, WRONG, RIGHT = (255, 255, 255), (40, 40, 40), (214, 39, 40), (200, 200, 200)
PANEL, GAP, CAPTION = 84, 4, 30
TITLES = ("input", "reference", "aligned", "difference")


@dataclass(frozen=True)
class Cell:
    """One sample of the grid: its images (values from 0 to 1), the two lines below them, and whether it is wrong."""

    images: tuple[Float[np.ndarray, "C H W"] | None, ...]
    caption: tuple[str, str]
    wrong: bool


def draw_grid(
    cells: list[Cell], columns: int = 4, titles: tuple[str, ...] = TITLES
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw `columns` samples a line; a wrong one has a red frame. Images that all samples lack take no place.

    Args:
        titles: of the images of each sample, in their order.
    """
    shown = [k for k in range(len(titles)) if any(cell.images[k] is not None for cell in cells)]
    cell_w, cell_h = len(shown) * (PANEL + GAP) + 3 * GAP, PANEL + CAPTION + 3 * GAP
    lines = -(-len(cells) // columns)
    columns = min(columns, len(cells))
    header = 16
    sheet = Image.new("RGB", (columns * cell_w + GAP, lines * cell_h + header + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)
    for column in range(columns):
        for place, k in enumerate(shown):
            x = column * cell_w + 2 * GAP + place * (PANEL + GAP)
            draw.text((x + PANEL / 2, header / 2 + 2), titles[k], INK, font, anchor="mm")
    for number, cell in enumerate(cells):
        x0, y0 = (number % columns) * cell_w + GAP, (number // columns) * cell_h + header
        frame = (x0, y0, x0 + cell_w - GAP - 1, y0 + cell_h - GAP - 1)
        draw.rectangle(frame, outline=WRONG if cell.wrong else RIGHT, width=2 if cell.wrong else 1)
        for place, k in enumerate(shown):
            pixels = cell.images[k]
            if pixels is not None:
                panel = _panel(pixels)
                x = x0 + GAP + place * (PANEL + GAP) + (PANEL - panel.width) // 2
                sheet.paste(panel, (x, y0 + GAP + (PANEL - panel.height) // 2))
        for line, text in enumerate(cell.caption):
            draw.text((x0 + GAP + 1, y0 + PANEL + GAP + 3 + 13 * line), text, WRONG if cell.wrong else INK, font)
    return np.asarray(sheet)


def _panel(pixels: Float[np.ndarray, "C H W"]) -> Image.Image:
    """Scale an image to the size of a panel: its aspect ratio is kept, and enlarged pixels stay sharp."""
    levels = (pixels.clip(0, 1) * 255).round().astype(np.uint8)
    image = Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0)).convert("RGB")
    factor = PANEL / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX)
