"""`stnrot --help` takes less than 0.3 s, `train.py --help` less than 3 s, a job of ten training steps less than 6 s.

    python benchmarks/startup.py [--rounds 9] [--against COMMIT] [--json PATH]

Four minutes on two cores, ten with `--against`. Starts each command as a process of its own, by turns, and waits for
its end. Prints medians: the seconds, and the seconds of CPU time, on which other load of the machine has less effect.
The job trains on digits that scikit-learn brings, then validates and tests on one batch each; its time includes
figures, checkpoints, tables and the log for TensorBoard.

With `--against COMMIT` each command also runs with the code of another commit. A ratio is the time of the commit
divided by that of this code: the median of the rounds' ratios.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from harness.environment import environment
from harness.jobs import PROJECT
from harness.report import Options, Row, Table, report
from harness.timing import alternate, speedup
from harness.two_commits import known_commit, tree_of
from stnrot.runs.command_line import one_line_errors

STNROT = ("-c", "from stnrot.cli import main; main()")
JOB = (
    "trainer=cpu",
    "trainer.max_epochs=1",
    "+trainer.limit_train_batches=10",
    "+trainer.limit_val_batches=1",
    "+trainer.limit_test_batches=1",
)


def commands(tree: Path, folder: Path) -> dict[str, list[str]]:
    """Return the arguments of Python by the name of the command, for the code in a tree."""
    train = str(tree / "train.py")
    images = [str(folder / f"{name}.png") for name in ("image", "reference")]
    return {
        "import torch": ["-c", "import torch"],
        "import stnrot": ["-c", "import stnrot"],
        "from stnrot import align": ["-c", "from stnrot import align"],
        "stnrot --help": [*STNROT, "--help"],
        "stnrot align IMAGE REFERENCE": [*STNROT, "align", *images],
        "train.py --help": [train, "--help"],
        "train.py, ten training steps": [train, *JOB],
    }


class Process:
    """Runs Python in a folder with the code of a tree, waits for its end and records the CPU seconds that it used."""

    def __init__(self, arguments: Sequence[str], tree: Path, folder: Path) -> None:
        self.command = [sys.executable, *arguments]
        self.environ, self.folder = os.environ | {"PYTHONPATH": str(tree / "src")}, folder
        self.cpu: list[float] = []

    def __call__(self) -> None:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(self.command, cwd=self.folder, env=self.environ, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise SystemExit(f"failed: {' '.join(self.command)}: {done.stderr[-500:]}")
        self.cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def write_images(folder: Path) -> None:
    """Write a smooth image and the same, turned by 90 degrees."""
    coarse = Image.fromarray(np.random.default_rng(0).integers(256, size=(8, 8), dtype=np.uint8))
    image = coarse.resize((128, 128), Image.Resampling.BICUBIC)
    image.save(folder / "reference.png")
    image.rotate(90).save(folder / "image.png")


def main(arguments: Sequence[str] | None = None) -> None:
    """Time the processes and report."""
    options = Options(__file__, __doc__, rounds=1)
    options.add_rounds(9)
    options.add_argument("--against", type=known_commit, metavar="COMMIT", help="compare with this commit")
    args = options.read(arguments)
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder)
        trees = {"now": PROJECT}
        if args.against is not None:
            trees = {args.against: tree_of(args.against, folder / "code"), "now": PROJECT}
        processes = {
            (title, side): Process(commands(tree, folder)[title], tree, folder)
            for title in commands(PROJECT, folder)
            for side, tree in trees.items()
        }
        methods = {f"{title}, {side}": call for (title, side), call in processes.items()}
        times = alternate(methods, args.rounds, lead_in=0, calls=1, device="cpu")  # its first round does not count
    rows: list[Row] = []
    for title in commands(PROJECT, folder):
        row: dict[str, str | float] = {"process": title}
        for side in trees:
            row[f"{side}, s"] = median(times[f"{title}, {side}"])
            row[f"{side}, CPU s"] = median(processes[title, side].cpu[1:])
        if args.against is not None:
            row["ratio"] = speedup(times, f"{title}, now", f"{title}, {args.against}")
        rows.append(row)
    report(args, environment("cpu"), Table("whole processes, from start to end", rows))


if __name__ == "__main__":
    with one_line_errors():
        main()
