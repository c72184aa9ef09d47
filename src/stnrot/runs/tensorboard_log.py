"""The log of a run for TensorBoard, which a resumed run continues."""

import os
import re
import time
from itertools import zip_longest
from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger

TIME = re.compile(r"(events\.out\.tfevents\.)(\d+)(\..*)", re.DOTALL)  # the name of a file of events


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

    def position(self) -> list[int]:
        """Write all events, and return the size of each file in bytes, in the order of their names."""
        self.experiment.flush()
        return [path.stat().st_size for path in self._files()]

    def rewind(self, position: list[int] | None) -> None:
        """Cut off the events that were written after a position.

        A size is that of whole events, so the rest of the file stays readable. TensorBoard can hide later events by
        their step instead (`purge_step`), but the figures of an epoch have the step at which the next epoch begins.
        """
        for path, size in zip_longest(self._files(), position or []):
            if path is None:  # someone has deleted it
                continue
            if size is None:
                path.unlink()
            elif size < path.stat().st_size:
                os.truncate(path, size)
        self._precede(int(time.time()))
        self.continues = bool(position)

    def _files(self) -> list[Path]:
        return sorted(Path(self.log_dir).glob("events.*"))

    def _precede(self, now: int) -> None:
        """Rename files from the future, so that the next one, whose name begins with the time, follows them.

        TensorBoard reads the files in the order of their names. After a clock was set back the next file would be the
        first, and a TensorBoard that runs would not read it at all.
        """
        latest = now - 1
        for path in reversed(self._files()):
            found = TIME.match(path.name)
            if found is None:
                continue
            if int(found[2]) > latest:
                path.rename(path.with_name(f"{found[1]}{latest:010d}{found[3]}"))
            latest = min(int(found[2]), latest) - 1
