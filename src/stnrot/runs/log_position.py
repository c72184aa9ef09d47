"""How far the logs of a run had been written when a checkpoint was saved, and the way back to it."""

from typing import Any, Protocol, runtime_checkable

import lightning as L


@runtime_checkable
class Rewinds(Protocol):
    """A log that can be cut back to an earlier position."""

    def position(self) -> Any:
        """Write out everything, and return the position as plain values."""

    def rewind(self, position: Any) -> None:
        """Cut off what was written after a position, and continue the log; None cuts off everything."""


def log_positions(trainer: L.Trainer) -> dict[str, Any]:
    """Return the position of each log, by its name. Only the first process writes logs."""
    if not trainer.is_global_zero:
        return {}
    return {str(each.name): each.position() for each in trainer.loggers if isinstance(each, Rewinds)}


def rewind_logs(trainer: L.Trainer, positions: dict[str, Any]) -> None:
    """Continue each log of a run at its position. A log without a position starts again."""
    if trainer.is_global_zero:
        for each in trainer.loggers:
            if isinstance(each, Rewinds):
                each.rewind(positions.get(str(each.name)))
