"""Random numbers that are functions of what they are for, not of how many were drawn before.

A key of integers (seed, split, purpose) and a draw number give the same values in every batch composition,
number of workers and processes; integers and uniform numbers also on every device and release of torch. The
generator is splitmix64: G. Steele, D. Lea, C. Flood, Fast splittable pseudorandom number generators, 2014.
"""

from enum import IntEnum
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
MIX_2 = 0x94D049BB133111EB - (1 << 64)

Key = tuple[int, ...]


class Split(IntEnum):
    """The part of the data that a batch comes from; its number is part of every random key."""

    TRAIN = 0
    VAL = 1
    TEST = 2


class Purpose(IntEnum):
    """What a random number is for; part of every random key."""

    SUBSET = 0
    TURN = 1
    REFERENCE_TURN = 2
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


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Shift int64 right, filling with zeros."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift_right(z, 30)) * MIX_1
    z = (z ^ _shift_right(z, 27)) * MIX_2
    return z ^ _shift_right(z, 31)


@lru_cache
def _state(key: Key) -> int:  # kept, as torch takes as long for one number as for a thousand
    state = torch.zeros((), dtype=torch.int64)
    for part in key:
        state = _mix(state * GOLDEN + part + 1)
    return int(state)


def bits(key: Key, draw: Int[Tensor, "B"], count: int) -> Int[Tensor, "B {count}"]:
    """Return `count` random 64-bit integers for each draw number."""
    start = _mix(draw * GOLDEN + _state(key))
    step = torch.arange(1, count + 1, device=draw.device) * GOLDEN
    return _mix(start[:, None] + step)


def uniform(key: Key, draw: Int[Tensor, "B"], count: int) -> Float[Tensor, "B {count}"]:
    """Return `count` numbers in (0, 1) for each draw number, from 23 bits each."""
    return (_shift_right(bits(key, draw, count), 41).float() + 0.5) * 2.0**-23


def normal(key: Key, draw: Int[Tensor, "B"], count: int) -> Float[Tensor, "B {count}"]:
    """Return `count` standard normal numbers for each draw number, by the inverse distribution."""
    return torch.special.ndtri(uniform(key, draw, count))


def permutation(key: Key, count: int) -> Int[Tensor, "{count}"]:
    """Return a random order of `range(count)`."""
    return bits(key, torch.arange(count), 1)[:, 0].argsort(stable=True)
