"""The confusion matrix of a run, and the classes that it confuses most."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from stnrot.report.blocks import Block, Cell, Matrix, Note, Picture, Table
from stnrot.report.predictions import Predictions
from stnrot.report.run_folder import Run
from stnrot.report.svg import data_uri, new_axes

MOST_CLASSES = 30  # of a matrix with numbers
LARGEST = 2000  # classes; the matrix is in memory
MOST_PAIRS = 10


def classes_of(run: Run, found: Predictions) -> list[str]:
    """Return the names of the classes: in the order of the data, or sorted for an older evaluation."""
    assert found.true is not None
    assert found.predicted is not None
    known = list(dict.fromkeys(map(str, run.part("data_spec").get("class_names") or [])))
    others = {*found.true, *found.predicted} - set(known)
    return [*known, *sorted(others, key=lambda name: (len(name), name) if name.isdecimal() else (0, name))]


def confusion(found: Predictions, classes: Sequence[str]) -> Int[np.ndarray, "n n"]:
    """Return the number of samples of each true class (row) and predicted class (column)."""
    place, n = {name: k for k, name in enumerate(classes)}, len(classes)
    pairs = zip(found.true or (), found.predicted or (), strict=True)
    flat = np.array([place[true] * n + place[predicted] for true, predicted in pairs], np.int64)
    return np.bincount(flat, minlength=n * n).reshape(n, n)


def blocks(run: Run, found: Predictions) -> list[Block]:
    """Return the matrix and the most frequent confusions; nothing without classes."""
    if found.true is None or found.predicted is None:
        return []
    classes = classes_of(run, found)
    if len(classes) > LARGEST:
        return [Note(f"The matrix of {len(classes):,} classes is too large for this page.")]
    count = confusion(found, classes)
    share = count / np.maximum(count.sum(1, keepdims=True), 1)
    caption = f"Confusion matrix of {len(found.index)} test images: rows are the true classes, columns the predicted."
    if len(classes) <= MOST_CLASSES:
        drawn: Block = Matrix(caption, classes, count.tolist(), share.round(3).tolist())
    else:
        drawn = _picture(share, caption)
    wrong = count * ~np.eye(len(classes), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    rows = [
        (f"{classes[k // len(classes)]} read as {classes[k % len(classes)]}", [_images(wrong.flat[k])])
        for k in order.tolist()
        if wrong.flat[k]
    ]
    return [drawn, Table("Most frequent confusions", ["", "images"], rows)] if rows else [drawn]


def _images(count: int) -> Cell:
    return Cell(str(int(count)), int(count))


def _picture(share: np.ndarray, caption: str) -> Picture:
    figure, axes = new_axes("predicted class", "true class", 5.2, 5.2)
    axes.grid(False)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, interpolation="none")
    return Picture(
        data_uri(figure), alt="Confusion matrix, a dark diagonal where the classes are right", caption=caption
    )
