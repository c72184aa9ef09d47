"""The log of a run for TensorBoard, which a resumed run continues."""

import os
from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger


class TensorBoardLog(TensorBoardLogger):
    """Lightning's logger, in the folder that it is given.

    Lightning replaces `$NAME` and `~` in the path by their values. The other outputs of a run do not, so the log would
    be in another folder than they are.
    """

    continues = False  # whether it is the log of a run that was resumed

    @property
    def log_dir(self) -> str:
        """Return the folder of the log."""
        version = self.version if isinstance(self.version, str) else f"version_{self.version}"
        return os.path.join(self.root_dir, version, self.sub_dir or "")

    def position(self) -> dict[str, int]:
        """Write all events, and return the size of each file in bytes."""
        self.experiment.flush()
        return {path.name: path.stat().st_size for path in self._files()}

    def rewind(self, position: dict[str, int] | None) -> None:
        """Cut off the events that were written after a position.

        A size is that of whole events, so the rest of the file stays readable. TensorBoard can hide later events by
        their step instead (`purge_step`), but the figures of an epoch have the step at which the next epoch begins.
        """
        for path in self._files():
            size = (position or {}).get(path.name)
            if size is None:
                path.unlink()
            elif size < path.stat().st_size:
                os.truncate(path, size)
        self.continues = bool(position)

    def _files(self) -> list[Path]:
        return sorted(Path(self.log_dir).glob("events.*"))
