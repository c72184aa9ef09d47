"""Where turned images go: below a folder here, in the place of the originals in `record`."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from stnrot.turning.places import copy_file, is_there, output_places, write_file


class Destination(AbstractContextManager["Destination"]):
    """Where turned images go. A context, while it is written to.

    Attributes:
        takes_all: whether images that are not turned go there, too.
    """

    takes_all: bool

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Release what is locked."""

    @abstractmethod
    def places(self, images: Sequence[Path]) -> list[tuple[Path, Path]]:
        """Return each image that can go there with its place."""

    @abstractmethod
    def has(self, image: Path, place: Path) -> bool:
        """Return whether there is a result that stays."""

    @abstractmethod
    def put(self, image: Path, place: Path, content: bytes | None, numbers: Mapping[str, object]) -> None:
        """Write the file of an image; no content copies the image.

        Args:
            image: path of the original.
            place: path of the result.
            content: of the new file.
            numbers: what is recorded about it.
        """


class InFolder(Destination):
    """Below a folder.

    Args:
        out: the folder.
        overwrite: replace results that exist.
    """

    takes_all = True

    def __init__(self, out: Path, overwrite: bool) -> None:
        self.out, self.overwrite = out, overwrite

    def places(self, images: Sequence[Path]) -> list[tuple[Path, Path]]:
        """Return the images with their places, which keep the folders below the common folder of the images.

        Raises:
            InputError: if `out` is a file, or a place is an image itself.
        """
        return list(zip(images, output_places(images, self.out, "out"), strict=True))

    def has(self, image: Path, place: Path) -> bool:
        """Return whether a result exists and is not overwritten."""
        return not self.overwrite and is_there(place)

    def put(self, image: Path, place: Path, content: bytes | None, numbers: Mapping[str, object]) -> None:
        """Write a file with the permissions of the original; a copy also has its time."""
        if content is None:
            copy_file(image, place)
        else:
            write_file(content, place, like=image)
