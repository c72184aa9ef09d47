"""Compare the training step and the inference of this code with those of another commit, in turn."""

import argparse
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from harness.jobs import PROJECT
from harness.report import Row

WORKER = Path(__file__).with_name("commit_worker.py")
CODE = ("src", "configs", "benchmarks", "train.py")
CLASSES, PHOTOGRAPHS, SIDE = 4, 64, 32  # of the folder of photographs


class Worker:
    """A process that loads the code of one tree. It works only when it is asked, so that two can take turns.

    Args:
        tree: folder with `src`, `configs` and `benchmarks`.
        device: cpu or cuda.
        steps: of training before the first measurement.
        overrides: of train.py.
    """

    def __init__(self, tree: Path, device: str, steps: int, overrides: Sequence[str]) -> None:
        self.command = [sys.executable, str(WORKER), device, str(steps), *overrides]
        environ = os.environ | {"PYTHONPATH": f"{tree / 'benchmarks'}{os.pathsep}{tree / 'src'}"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(self.command, env=environ, text=True, stdin=pipe, stdout=pipe)
        _, train, infer = self.answer().split()
        self.images = {"train": int(train), "infer": int(infer)}

    def answer(self, request: str | None = None) -> str:
        """Send a request, wait for the answer and return it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if request is not None:
            print(request, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"failed: {' '.join(self.command)}")
        return line

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def known_commit(text: str) -> str:
    """Read the name of a commit of this repository, and return its abbreviated hash."""
    command = ["git", "-C", str(PROJECT), "rev-parse", "--short", "--verify", f"{text}^{{commit}}"]
    found = subprocess.run(command, capture_output=True, check=False, text=True)
    if found.returncode:
        raise argparse.ArgumentTypeError(f"expected a commit of this repository, such as HEAD~1, got {text}")
    return found.stdout.strip()


def tree_of(commit: str, folder: Path) -> Path:
    """Write the code of a commit into a folder, and return it."""
    command = ["git", "-C", str(PROJECT), "archive", "--format=tar", commit, *CODE]
    archive = subprocess.run(command, capture_output=True, check=False)
    if archive.returncode:
        raise SystemExit(f"error: commit {commit} cannot be compared: {archive.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def photographs(folder: Path) -> Path:
    """Write a folder of images in colour for each class: smooth colours with noise, 32 x 32 pixels."""
    draw = np.random.default_rng(0)
    for name in range(CLASSES):
        (folder / str(name)).mkdir(parents=True)
        for k in range(PHOTOGRAPHS):
            coarse = Image.fromarray(draw.integers(256, size=(4, 4, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
            noisy = (smooth + draw.normal(scale=8, size=smooth.shape)).clip(0, 255)
            Image.fromarray(noisy.astype(np.uint8)).save(folder / str(name) / f"{k}.png")
    return folder


def compare(
    commit: str, data: dict[str, list[str]], device: str, steps: int, rounds: int, calls: int, folder: Path
) -> list[Row]:
    """Return for each data set the rates of both, their ratio (the median of the rounds' ratios) and their memory.

    Args:
        commit: the code to compare with.
        data: overrides of train.py by the name of the data set.
        device: cpu or cuda.
        steps: of training before the first measurement.
        rounds: each process works once a round, and the other process waits; the order alternates.
        calls: of each process in a round.
        folder: receives the code of the commit.
    """
    rows: list[Row] = []
    trees = (tree_of(commit, folder), PROJECT)
    for name, overrides in data.items():
        with ExitStack() as stack:
            workers = []
            for tree in trees:  # one after the other: they would disturb each other's first steps
                workers.append(Worker(tree, device, steps, overrides))
                stack.callback(workers[-1].close)
            for what, title in (("train", "training"), ("infer", "inference")):
                seconds: tuple[list[float], list[float]] = ([], [])
                for k in range(1 + rounds):
                    for side in (0, 1) if k % 2 else (1, 0):
                        seconds[side].append(float(workers[side].answer(f"{what} {calls}")))
                old, new = (each[1:] for each in seconds)  # without a first round
                rates = [workers[side].images[what] / median(each) for side, each in enumerate((old, new))]
                ratio = median(a / b for a, b in zip(old, new, strict=True))
                memory = [float(worker.answer("memory")) for worker in workers]
                speed = {f"{commit}, images/s": rates[0], "now, images/s": rates[1]}
                megabytes = {f"{commit}, MB": memory[0], "now, MB": memory[1]}
                rows.append({"default model": f"{title}, {name}", **speed, "ratio": ratio, **megabytes})
    return rows
