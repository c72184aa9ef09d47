"""Aligned images as files: each image, turned upright by the predicted angle, at its own size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stnrot.errors import InputError
from stnrot.prediction.image_predictor import ImagePredictor
from stnrot.runs.tables.growing_table import error_text
from stnrot.turning.places import is_there, output_places, write_file
from stnrot.turning.turn_file import turned_file


class AlignedFiles:
    """Write aligned images below a folder, in the folders that they have below their common folder.

    A file that exists is kept.

    Args:
        predictor: its model has to predict an angle.
        images: paths of the images.
        out: the folder.

    Raises:
        InputError: if an image would be overwritten, or the model does not predict an angle.
    """

    def __init__(self, predictor: ImagePredictor, images: Sequence[Path], out: Path) -> None:
        names = map(str, images)
        self._places = dict(zip(names, output_places(images, out, "save_aligned"), strict=True))
        self.kept = 0  # files that were there
        if predictor.predict_pixels(np.zeros((1, *predictor.spec.shape), np.uint8)).angle is None:
            raise InputError(
                f"model={predictor.path} does not predict an angle: expected one such as model=rot_stn, or no "
                "--save-aligned"
            )

    def lacks(self, image: str) -> bool:
        """Return whether an image is one of these and has no aligned file."""
        return image in self._places and not is_there(self._places[image])

    def write(self, image: str, angle_deg: float) -> str | None:
        """Write the aligned file of an image; return the reason if that is not possible."""
        place = self._places[image]
        if is_there(place):
            self.kept += 1
            return None
        try:
            write_file(turned_file(Path(image), angle_deg, "same"), place, like=Path(image))
        except InputError as error:
            return error_text(error)
        except OSError as error:
            return error_text(
                InputError(f"cannot write {place}: {error}; make room on the disk, or allow writing there")
            )
        return None
