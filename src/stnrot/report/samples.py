"""Images of the test of a run: a fixed sample, and the worst cases."""

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from stnrot.errors import InputError
from stnrot.geometry import rotate
from stnrot.report.blocks import Block, Cell, Gallery, Note, Sample, Table
from stnrot.report.predictions import Predictions
from stnrot.report.run_folder import Run
from stnrot.report.run_images import RunImages

SHOWN, WORST = 20, 12
LARGEST_SIDE = 168  # pixels of an image on the page
FAR = 5.0  # degrees; a larger error is wrong


def blocks(run: Run, found: Predictions) -> list[Block]:
    """Return the sample and the worst cases, as images if the data can be read, otherwise as tables."""
    worst = worst_cases(found)
    try:
        images = RunImages.open(run)
        drawn: list[Block] = [
            _gallery("A fixed sample of the test images.", images, found, images.sample(found, SHOWN))
        ]
        drawn += [
            _gallery(f"{title}.", images, found, rows) if rows else Note(f"{title}: none.")
            for title, rows in worst.items()
        ]
    except InputError as reason:
        tables = [Table(title, ["image", ""], [_row(found, k) for k in rows]) for title, rows in worst.items() if rows]
        return [*tables, Note(f"The images of the test set cannot be shown: {reason}.")]
    return drawn


def worst_cases(found: Predictions) -> dict[str, list[int]]:
    """Return rows of the predictions: the surest misread images, and the largest errors of the angle."""
    cases: dict[str, list[int]] = {}
    if found.right is not None and found.confidence is not None:
        order = np.argsort(-found.confidence, kind="stable")
        cases["Worst cases: misread images, the surest first"] = order[~found.right[order]][:WORST].tolist()
    if found.error_deg is not None:
        order = np.argsort(-np.abs(found.error_deg), kind="stable")
        cases["Worst cases: the largest errors of the angle"] = order[:WORST].tolist()
    return cases


def lines_of(found: Predictions, row: int) -> list[str]:
    """Return what is known about a sample, in words. A file is named by its folder and its name, without its path."""
    lines = [f"image {found.index[row]}" if found.file is None else "/".join(Path(found.file[row]).parts[-2:])]
    if found.true is not None and found.predicted is not None:
        sure = "" if found.confidence is None else f", {found.confidence[row]:.0%}"
        lines.append(f"{found.true[row]} read as {found.predicted[row]}{sure}")
    if found.predicted_angle_deg is not None:
        lines.append(f"predicted {found.predicted_angle_deg[row]:.1f}°")
    if found.error_deg is not None:
        lines.append(f"error {found.error_deg[row]:.1f}°")
    return lines


def _row(found: Predictions, row: int) -> tuple[str, list[Cell]]:
    name, *rest = lines_of(found, row)
    return name, [Cell(", ".join(rest))]


def _gallery(caption: str, images: RunImages, found: Predictions, rows: Sequence[int]) -> Gallery:
    batch = images.batch(found, rows)
    columns: dict[str, Tensor | None] = {"input": batch.image, "reference": batch.reference, "aligned": None}
    if found.predicted_angle_deg is not None:
        angle = torch.from_numpy(np.radians(found.predicted_angle_deg[list(rows)])).float()
        columns["aligned"] = rotate(batch.image, angle)
    samples = [
        Sample(
            images=[(name, image_uri(column[k])) for name, column in columns.items() if column is not None],
            lines=lines_of(found, row),
            wrong=_is_wrong(found, row),
        )
        for k, row in enumerate(rows)
    ]
    return Gallery(caption, samples)


def _is_wrong(found: Predictions, row: int) -> bool:
    if found.true is not None and found.predicted is not None:
        return found.true[row] != found.predicted[row]
    return found.error_deg is not None and bool(abs(found.error_deg[row]) > FAR)


def image_uri(image: Float[Tensor, "C H W"]) -> str:
    """Return an image, values from 0 to 1, as PNG in a data URI; a large one is made smaller."""
    levels = (image.clamp(0, 1) * 255).round().byte().numpy()
    picture = Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0))
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    file = BytesIO()
    picture.save(file, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
