"""A counter-based random number generator: a number depends on its key and counter, not on what was drawn before.

A key of integers (seed, split, purpose) and a counter give the same values for any composition of the batch and any
number of workers and processes. Integers and uniform numbers are also the same on every device and release of torch.
The generator is splitmix64: G. Steele, D. Lea, C. Flood, Fast splittable pseudorandom number generators, 2014.
"""

from enum import IntEnum
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stnrot.geometry.constants import constant

GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
MIX_2 = 0x94D049BB133111EB - (1 << 64)

Key = tuple[int, ...]


class Split(IntEnum):
    """The part of the data that a batch comes from. Its number is part of every random key."""

    TRAIN = 0
    VAL = 1
    TEST = 2


class Purpose(IntEnum):
    """What a random number is for. Its number is part of every random key."""

    SUBSET = 0
    ROTATION = 1
    REFERENCE_ROTATION = 2
    PARTNER = 3
    DEGRADE = 4
    NOISE = 5
    SHOWN = 6
    ORDER = 7
    DEFORM = 8
    CONSISTENCY = 9
    STEP = 10
    UNRELATED = 11
    POSE = 12
    QUARTER_TURNS = 13
    SHARD = 14
    CONGEALED = 15


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Shift int64 right and fill with zeros."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift_right(z, 30)) * MIX_1
    z = (z ^ _shift_right(z, 27)) * MIX_2
    return z ^ _shift_right(z, 31)


@lru_cache
def _state(key: Key) -> int:  # cached: torch takes as long for one number as for a thousand
    state = torch.zeros((), dtype=torch.int64)
    for part in key:
        state = _mix(state * GOLDEN + part + 1)
    return int(state)


def bits(key: Key, counter: Int[Tensor, "B"], count: int) -> Int[Tensor, "B {count}"]:
    """Return `count` random 64-bit integers for each counter."""
    start = _mix(counter * GOLDEN + _state(key))
    return _mix(start[:, None] + _steps(count, counter.device))


@constant
def _steps(count: int, device: torch.device) -> Int[Tensor, "{count}"]:
    return torch.arange(1, count + 1, device=device) * GOLDEN


def uniform(key: Key, counter: Int[Tensor, "B"], count: int) -> Float[Tensor, "B {count}"]:
    """Return `count` numbers in (0, 1) for each counter, from 23 bits each."""
    return (_shift_right(bits(key, counter, count), 41).float() + 0.5) * 2.0**-23


def normal(key: Key, counter: Int[Tensor, "B"], count: int) -> Float[Tensor, "B {count}"]:
    """Return `count` standard normal numbers for each counter, by the inverse of the distribution function."""
    return torch.special.ndtri(uniform(key, counter, count))


def permutation(key: Key, count: int) -> Int[Tensor, "{count}"]:
    """Return a random order of `range(count)`."""
    return bits(key, torch.arange(count), 1)[:, 0].argsort(stable=True)
