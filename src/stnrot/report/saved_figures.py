"""The figures that a run has drawn itself, embedded as they are."""

import base64
from collections.abc import Collection
from pathlib import Path

from stnrot.regular_file import check_regular
from stnrot.report.blocks import Block, Note, Picture
from stnrot.report.run_folder import Run

CAPTIONS = {
    "alignment": "A fixed sample: input, reference, aligned image, difference. A red frame marks a wrong one.",
    "angle_posterior": "Around each image the posterior of the angle: blue the root of posterior / maximum, red the "
    "prediction, green the ground truth.",
    "angle_error": "Histogram of the angle error.",
    "angle_polar": "The angle error of each image, at its true angle. The black ring is an error of 0.",
    "accuracy_by_angle": "Accuracy by the rotation of the input.",
    "confusion": "Confusion matrix: rows are the true classes, columns the predicted.",
    "learned_reference": "The learned reference.",
    "poses": "A fixed sample: target, the solid at the estimated pose, difference.",
    "sphere": "The error of each pose at its direction on the sphere.",
    "rotation": "Found against hidden axes, and found against hidden heights of the function.",
}


def blocks(run: Run, drawn: Collection[str]) -> list[Block]:
    """Return the newest figures of a run, except those that the page draws itself, or how to get them."""
    folder, files = run.figures
    if not files:
        reason = "It has no figures: it was started with callbacks=null or a callback of figures=null."
        return [Note(f"{reason} To draw them:", run.to_evaluate()) if run.finished else Note("It has no figures yet.")]
    when = "the test" if folder == "test" else folder.replace("_", " ")
    return [
        Picture(
            f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}",
            alt=f"Figure {name} of {when}",
            caption=f"{CAPTIONS.get(name, name)} From {when}.",
            wide=True,
        )
        for name, path in files.items()
        if name not in drawn and _is_png(path)
    ]


def _is_png(path: Path) -> bool:
    check_regular(path)
    with path.open("rb") as file:
        return file.read(8) == b"\x89PNG\r\n\x1a\n"
