"""Figures of a rotation that is fitted to samples, after every validation epoch and after the test."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from jaxtyping import Float

from stnrot.callbacks.figures import Pixels, new_figure, to_pixels
from stnrot.callbacks.save_figures import save_figures
from stnrot.geometry.axis_matching import matched_axes


class RotationFigures(L.Callback):
    """Draw the found axes against the hidden axes, and the found heights of the function against the hidden heights.

    Args:
        folder: receives `epoch_007/rotation.png` and so on, and `test/`.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Draw after a validation epoch."""
        self._draw(trainer, pl_module, "val")

    def on_test_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Draw after the test."""
        self._draw(trainer, pl_module, "test")

    def _draw(self, trainer: Any, task: Any, part: str) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        product = task.relative_rotation()
        order, sign = matched_axes(product)
        found = task.model.f.log_height.detach().float().cpu()[order].exp().numpy()
        hidden = trainer.datamodule.truth.f.log_height.exp().numpy()
        cosine = (product[order] * sign[:, None]).numpy()
        save_figures(trainer, self.folder, part, {"rotation": rotation_figure(cosine, found, hidden)})


def rotation_figure(
    cosine: Float[np.ndarray, "d d"], found: Float[np.ndarray, "d"], hidden: Float[np.ndarray, "d"]
) -> Pixels:
    """Draw the cosines between found and hidden axes, and the found against the hidden heights of the function.

    Args:
        cosine: a row for each found axis, in the order of the hidden axes; the identity if all are found.
        found: height of the function along each axis.
        hidden: the height to be found.
    """
    figure = new_figure(8.6, 3.8)
    left, right = figure.subplots(1, 2)
    shown = left.imshow(cosine, cmap="RdBu", vmin=-1, vmax=1)
    left.set(xlabel="hidden axis", ylabel="found axis", title="cosine")
    figure.colorbar(shown, ax=left, shrink=0.8)
    right.plot([0, hidden.max() * 1.1], [0, hidden.max() * 1.1], color="grey", linewidth=0.8)
    right.plot(hidden, found, "o", markersize=4)
    right.set(xlabel="hidden height", ylabel="found height", title="height of the function along each axis")
    return to_pixels(figure)
