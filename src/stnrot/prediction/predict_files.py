"""Predict for any number of image files, a portion at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from stnrot.data.image_data import as_float
from stnrot.data.image_file import read_whole
from stnrot.errors import InputError
from stnrot.geometry import rotate
from stnrot.machine import thread_pool
from stnrot.prediction.image_list import NamedImage
from stnrot.prediction.predictor import MAX_PIXELS, Predictions, Predictor
from stnrot.runs.growing_table import (
    Row,
    check_same,
    csv_line,
    error_text,
    locked,
    model_name,
    number_texts,
    progress_bar,
    read_rows,
    replace_rows,
)

COLUMNS = ("image", "class", "probability", "angle_deg", "confidence", "others", "model", "error")
PORTION = 256  # images that are read together


def predict_files(predictor: Predictor, images: Sequence[NamedImage], aligned: Path | None = None) -> Iterator[Row]:
    """Yield a row for each image, in order. The row of a file that cannot be read has the reason.

    Args:
        predictor: the model.
        images: files.
        aligned: folder for the images, rotated upright at their own size; None for none.
    """
    with thread_pool() as pool:
        for start in range(0, len(images), PORTION):
            portion = images[start : start + PORTION]
            read = list(pool.map(lambda image: _read(predictor, image.path), portion))
            good = [pixels for pixels in read if not isinstance(pixels, InputError)]
            found = predictor.predict(as_float(torch.stack(good))) if good else None
            number = 0
            for image, pixels in zip(portion, read, strict=True):
                row = dict.fromkeys(COLUMNS, "") | {"image": str(image.path)}
                if isinstance(pixels, InputError):
                    yield row | {"error": error_text(pixels)}
                    continue
                assert found is not None
                row |= _cells(found, number)
                if aligned is not None and found.angle is not None:
                    row["error"] = _write_aligned(image, found.angle[number, 0], aligned)
                number += 1
                yield row


def predict_table(predictor: Predictor, images: Sequence[NamedImage], out: Path, aligned: Path | None = None) -> int:
    """Write the table `out`; return the number of rows with an error.

    If the table exists, its rows stay, and only the images that it does not have, or has with an error, are read.
    """
    model = model_name(predictor.path)
    failed = 0
    try:
        with locked(out):
            rows = [row for row in read_rows(out, COLUMNS) if not row["error"]]
            for row in rows:
                check_same(out, row, {"model": model})
            replace_rows(out, rows, COLUMNS)
            finished = {row["image"] for row in rows}
            open_images = [image for image in images if str(image.path) not in finished]
            done = len(images) - len(open_images)
            with (
                out.open("a", newline="", encoding="utf-8") as file,
                progress_bar(len(images), done, "predict") as progress,
            ):
                for row in predict_files(predictor, open_images, aligned):
                    file.write(csv_line(row | {"model": model}, COLUMNS))
                    file.flush()
                    failed += bool(row["error"])
                    progress.advance(progress.task_ids[0])
    except OSError as error:
        raise InputError(f"cannot write {out}: {error}; choose another --out") from error
    return failed


def _read(predictor: Predictor, path: Path) -> UInt8[Tensor, "C H W"] | InputError:
    try:
        return predictor.read(path)
    except InputError as error:
        return error
    except OSError as error:  # a name that no file can have, or a folder without permission
        return InputError(f"{path}: {error}")


def _cells(found: Predictions, number: int) -> Row:
    cells: Row = {}
    if found.probability is not None:
        probability, best = found.probability[number].max(0)
        cells |= {"class": found.classes[int(best)], "probability": f"{probability:.4f}"}
    if found.angle is not None:
        angles = number_texts(found.angle[number].double().rad2deg(), 2)
        sure = [""] * len(angles) if found.confidence is None else number_texts(found.confidence[number])
        cells |= {"angle_deg": angles[0], "confidence": sure[0]}
        cells["others"] = " ".join(f"{a}:{c}" for a, c in zip(angles[1:], sure[1:], strict=True))
    return cells


def _write_aligned(image: NamedImage, angle: Tensor, folder: Path) -> str:
    """Write an image, rotated upright at its own size, colours and bits; return why it cannot be written."""
    target = folder / image.place.with_suffix(".png")
    try:
        pixels = torch.from_numpy(read_whole(image.path, None, MAX_PIXELS)).permute(2, 0, 1)[None]
        full, kind = (255, np.uint8) if pixels.dtype is torch.uint8 else (65535, np.uint16)
        scale = 1 if pixels.dtype is torch.uint8 else full
        turned = (rotate(pixels.float(), angle[None], "bicubic") * scale).round().clamp(0, full)[0]
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(turned.permute(1, 2, 0).squeeze(2).numpy().astype(kind)).save(target)
    except (InputError, OSError, ValueError) as error:
        return f"cannot write {target}: {error}"
    return ""
