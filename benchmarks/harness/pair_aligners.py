"""The aligners of this project that the pair benchmarks compare, with encoders trained by train.py."""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from harness.jobs import QUICK, trained
from harness.pair_sets import SIZES, write_parts
from harness.report import Options, absolute, at_least_one
from stnrot import Aligner, Alignment

FREE, LEARNED, REFINED = "stnrot, no training", "stnrot, learned", "stnrot, learned and refined"
RIGID, LEARNED_RIGID = "stnrot, no training, rigid", "stnrot, learned and refined, rigid"
RIGHT_DEG = 5.0


@dataclass(frozen=True)
class Estimate:
    """Results of one method for the pairs of one set and level."""

    pairs_of: str
    level: str
    method: str
    true: np.ndarray  # angles, radians
    error: np.ndarray  # degrees
    ms: float  # a pair
    confidence: np.ndarray | None = None

    @property
    def right(self) -> np.ndarray:
        """Return for each pair whether the error is at most 5 degrees; unrelated pairs are never right."""
        return (self.error <= RIGHT_DEG) & (self.level != "unrelated")


def estimate(
    what: str, level: str, name: str, angle: np.ndarray, true: np.ndarray, seconds: float, confidence: np.ndarray | None
) -> Estimate:
    """Return the record of a method that found these angles for the first pairs in that time."""
    true = true[: len(angle)]
    error = np.abs((np.degrees(angle - true) + 180) % 360 - 180)
    return Estimate(what, level, name, true, error, 1e3 * seconds / len(angle), confidence)


def align_all(what: str, level: str, pairs: tuple[np.ndarray, ...], args: argparse.Namespace) -> list[Estimate]:
    """Align pairs by each of our methods, all pairs in one call."""
    image, reference, true = pairs
    checkpoint = encoder(what, level, args)
    free, learned, refined = Aligner(), Aligner(checkpoint, refine=False), Aligner(checkpoint)
    ours: dict[str, Callable[..., Alignment]] = {FREE: free, LEARNED: learned, REFINED: refined}
    if level not in ("inverted", "other instance"):  # of which rigid motions compare nothing
        ours |= {RIGID: partial(free, motion="rigid"), LEARNED_RIGID: partial(refined, motion="rigid")}
    found = []
    for name, aligner in ours.items():
        aligner(batch(image[:50]), batch(reference[:50]))  # the first call plans its convolutions
        start = time.perf_counter()
        result = aligner(batch(image), batch(reference))
        seconds = time.perf_counter() - start
        found.append(estimate(what, level, name, result.angle.numpy(), true, seconds, result.confidence.numpy()))
    return found


def encoder(what: str, level: str, args: argparse.Namespace) -> Path:
    """Return the checkpoint of the encoder for a set and level; train it first if --folder lacks it."""
    root, experiment = args.root, "upright_angle" if level == "other instance" else "pairs_mnist"
    if what != "mnist":
        root, experiment = args.folder / "parts", "pairs_photos"
        if not root.exists():
            write_parts(root, 96, 200 if args.quick else 10800)
    return trained(args.folder / experiment, [f"experiment={experiment}", f"data.root={root}", *(QUICK * args.quick)])


def batch(pixels: np.ndarray) -> torch.Tensor:
    """Return bytes as a batch of one channel."""
    return torch.from_numpy(pixels)[:, None]


def add_options(options: Options) -> None:
    """Add the options that choose the pairs and the encoders."""
    options.add_root()
    options.add_argument("--only", nargs="+", choices=SIZES, default=list(SIZES), metavar="SET")
    options.add_argument("--pairs", type=at_least_one, default=500, help="of each set and level")
    options.add_argument("--folder", type=absolute, default=absolute("outputs/pairs"), help="of encoders and figures")
