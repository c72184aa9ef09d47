"""The log of a run for TensorBoard."""

import os

from lightning.pytorch.loggers import TensorBoardLogger


class TensorBoardLog(TensorBoardLogger):
    """Lightning's logger, in the folder that it is given.

    Lightning replaces `$NAME` and `~` in the path by their values. The other outputs of a run do not, so the log would
    be in another folder than they are.
    """

    @property
    def log_dir(self) -> str:
        """Return the folder of the log."""
        version = self.version if isinstance(self.version, str) else f"version_{self.version}"
        return os.path.join(self.root_dir, version, self.sub_dir or "")
