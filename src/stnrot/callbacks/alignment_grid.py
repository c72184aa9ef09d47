"""The picture of pictures: input | reference | aligned | difference, a row a sample."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

PAPER, INK, WRONG, RIGHT = (255, 255, 255), (40, 40, 40), (214, 39, 40), (200, 200, 200)
PANEL, GAP, CAPTION = 84, 4, 30
TITLES = ("input", "reference", "aligned", "difference")


@dataclass(frozen=True)
class Row:
    """One sample of the grid: pictures in [0, 1], None where there is none; the text below it; the verdict."""

    pictures: tuple[Float[np.ndarray, "C H W"] | None, ...]
    caption: tuple[str, str]
    wrong: bool


def draw_grid(
    rows: list[Row], columns: int = 4, titles: tuple[str, ...] = TITLES
) -> UInt8[np.ndarray, "height width 3"]:
    """Lay the samples out side by side, `columns` of them in a line, wrong ones framed in red."""
    shown = [k for k in range(len(titles)) if any(row.pictures[k] is not None for row in rows)]
    cell_w, cell_h = len(shown) * (PANEL + GAP) + 3 * GAP, PANEL + CAPTION + 3 * GAP
    lines = -(-len(rows) // columns)
    columns = min(columns, len(rows))
    header = 16
    sheet = Image.new("RGB", (columns * cell_w + GAP, lines * cell_h + header + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)
    for column in range(columns):
        for place, k in enumerate(shown):
            x = column * cell_w + 2 * GAP + place * (PANEL + GAP)
            draw.text((x + PANEL / 2, header / 2 + 2), titles[k], INK, font, anchor="mm")
    for number, row in enumerate(rows):
        x0, y0 = (number % columns) * cell_w + GAP, (number // columns) * cell_h + header
        frame = (x0, y0, x0 + cell_w - GAP - 1, y0 + cell_h - GAP - 1)
        draw.rectangle(frame, outline=WRONG if row.wrong else RIGHT, width=2 if row.wrong else 1)
        for place, k in enumerate(shown):
            picture = row.pictures[k]
            if picture is not None:
                panel = _panel(picture)
                x = x0 + GAP + place * (PANEL + GAP) + (PANEL - panel.width) // 2
                sheet.paste(panel, (x, y0 + GAP + (PANEL - panel.height) // 2))
        for line, text in enumerate(row.caption):
            draw.text((x0 + GAP + 1, y0 + PANEL + GAP + 3 + 13 * line), text, WRONG if row.wrong else INK, font)
    return np.asarray(sheet)


def _panel(picture: Float[np.ndarray, "C H W"]) -> Image.Image:
    """Scale a picture to fill a panel, keeping its aspect ratio and its pixels visible."""
    levels = (picture.clip(0, 1) * 255).round().astype(np.uint8)
    image = Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0)).convert("RGB")
    factor = PANEL / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX)
