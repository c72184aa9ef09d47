"""A resumed run continues its events; TensorBoard's own reader is the oracle."""

import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stnrot.runs.tensorboard_log import TensorBoardLog

LATER = 4_000_000_000  # seconds since 1970


def process(folder: Path, position: list[int] | None, steps: range) -> list[int]:
    """Log steps as one process of a run does; return the position at its end."""
    log = TensorBoardLog(str(folder), "", "")
    log.rewind(position)
    for step in steps:
        log.log_metrics({"loss": float(step)}, step)
    end = log.position()
    log.log_metrics({"loss": -1.0}, steps.stop)  # is lost
    log.finalize("success")
    return end


@pytest.mark.parametrize("times", [(LATER,), (LATER, LATER + 1), (1, LATER, LATER), (LATER, 1)])
def test_a_clock_that_was_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: tuple[int, ...]) -> None:
    """TensorBoard reads files in the order of their names, which begin with the time at which they were opened."""
    position = None
    for number, opened in enumerate([*times, time.time()]):
        monkeypatch.setattr(time, "time", lambda opened=opened: opened)
        position = process(tmp_path, position, range(2 * number, 2 * number + 2))
    TensorBoardLog(str(tmp_path), "", "").rewind(position)
    read = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [(each.step, each.value) for each in read] == [(step, step) for step in range(2 * len(times) + 2)]
