"""Ctrl-C whose KeyboardInterrupt is lost, as that of a signal during a garbage collection."""

from collections.abc import Callable

import pytest

from stnrot.runs.stop_signals import REQUEST, stops_at_signals


def test_a_lost_interrupt_stops_the_job_at_its_end(lost_interrupt: Callable[[], None]) -> None:
    with pytest.raises(SystemExit) as stopped, stops_at_signals():
        lost_interrupt()
    assert stopped.value.code == 130
    REQUEST.check()  # does not stop the next job
