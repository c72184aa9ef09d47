"""Time several methods in alternation, so that other load on the machine falls on all of them alike."""

import time
from collections.abc import Callable, Mapping
from statistics import median

import torch

Times = dict[str, list[float]]  # seconds a call, one value a round, by method


def alternate(
    methods: Mapping[str, Callable[[], object]],
    rounds: int,
    lead_in: int,
    calls: int,
    device: str,
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """Return the seconds that one call of each method takes, one value a round.

    In each round every method is called `lead_in` times without timing and then `calls` times with timing. A first
    round is discarded.

    Args:
        methods: calls by name.
        rounds: how often each method is timed.
        lead_in: calls without timing.
        calls: calls with timing.
        device: cpu or cuda.
        clock: in seconds. `time.process_time` leaves out what other processes take, and adds up all threads.
    """
    seconds: Times = {name: [] for name in methods}
    for _ in range(1 + rounds):
        for name, method in methods.items():
            for _ in range(lead_in):
                method()
            start = _now(device, clock)
            for _ in range(calls):
                method()
            seconds[name].append((_now(device, clock) - start) / calls)
    return {name: each[1:] for name, each in seconds.items()}


def speedup(times: Times, ours: str, other: str) -> float:
    """Return the time of the other method divided by the time of ours: the median of the rounds' ratios."""
    return median(b / a for a, b in zip(times[ours], times[other], strict=True))


def _now(device: str, clock: Callable[[], float]) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return clock()
