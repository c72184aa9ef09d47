"""A run that is killed every few seconds ends as the run that was not; memory and open files of a process stay flat.

    python benchmarks/soak.py [--epochs 320] [--calls 100000] [--png PATH] [--json PATH]

An hour and a half on one core of an AMD EPYC, an hour of it for the run that is killed. Needs Linux, whose /proc tells
the resident memory and the number of open files of a process.

- The same job trains twice, on digits that scikit-learn brings. The first run is left alone. The second is killed with
  kill -9 after a random time, between nothing and three times what the first took until its first checkpoint, and
  resumed with `resume=`, until it has finished. After each kill `last.ckpt` is read. The last table counts the kills,
  and compares the two runs: all weights and the state of the optimizer, the bytes of metrics.csv, the metrics of the
  test.
- `stnrot.align` is called on two pictures of 32 pixels again and again.

The first table has the medians over the first and the last third of the training, and of the calls after the first
hundredth; the difference is what a leak would have added. The figure shows all values.
"""

import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from matplotlib.figure import Figure

from harness.environment import environment
from harness.jobs import PROJECT
from harness.report import Options, Row, Table, at_least_one, new_file, report
from stnrot import align
from stnrot.runs.command_line import one_line_errors

JOB = ("trainer=cpu", "data.repeats=1", "callbacks.progress=null", "checkpoint.every_n_steps=5")
QUICK = ("data.n_train=100", "model=cnn", "model.classifier.width=4")
TABLE = Path("csv", "version_0", "metrics.csv")
COLUMNS = ("resident memory, MiB", "open files")
Sample = tuple[float, int]  # resident memory in MiB, open files


def sample(process: int) -> Sample | None:
    """Return what a process has, or None if it has ended."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20, len(os.listdir(f"/proc/{process}/fd"))
    except (OSError, IndexError):
        return None


def started(folder: Path, options: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a job whose messages go to a file beside its folder."""
    with folder.with_suffix(".txt").open("ab") as said:
        return subprocess.Popen([sys.executable, str(PROJECT / "train.py"), *options], stdout=said, stderr=said)


def whole_run(folder: Path, options: Sequence[str]) -> tuple[float, list[Sample]]:
    """Train without a stop; return the seconds until the first checkpoint, and a sample at each growth of the table."""
    start, first = time.monotonic(), None
    samples: list[Sample] = []
    checkpoint, rows, seen = folder / "checkpoints" / "last.ckpt", folder / TABLE, None
    process = started(folder, [*options, f"hydra.run.dir={folder}"])
    while process.poll() is None:
        time.sleep(0.02)
        if first is None and checkpoint.exists():
            first = time.monotonic() - start
        size = rows.stat().st_size if rows.exists() else None
        if size != seen and (found := sample(process.pid)) is not None:
            seen = size
            samples.append(found)
    if process.returncode or first is None:
        raise SystemExit(f"failed: see {folder.with_suffix('.txt')}")
    return first, samples


def killed_run(folder: Path, options: Sequence[str], longest: float) -> tuple[int, int]:
    """Train with kills until the run has finished; return their number and that of checkpoints that were unreadable."""
    chance, kills, unreadable, saved = random.Random(0), 0, 0, False
    last = folder / "checkpoints" / "last.ckpt"
    while True:
        resumes = (folder / "config.yaml").exists()
        process = started(folder, [f"resume={folder}"] if resumes else [*options, f"hydra.run.dir={folder}"])
        try:
            if process.wait(chance.uniform(0, longest)):
                raise SystemExit(f"failed: see {folder.with_suffix('.txt')}")
            return kills, unreadable
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        kills += 1
        saved = saved or last.exists()
        unreadable += saved and not is_readable(last)


def is_readable(checkpoint: Path) -> bool:
    """Return whether a checkpoint is there and whole."""
    try:
        torch.load(checkpoint, weights_only=True)
    except Exception:  # whatever a damaged file leads to
        return False
    return True


def tensors(node: object) -> list[torch.Tensor]:
    """Return all tensors of a checkpoint, in their order."""
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list | tuple):
        return [each for part in node for each in tensors(part)]
    return [node] if isinstance(node, torch.Tensor) else []


def same(one: Path, other: Path) -> dict[str, str]:
    """Compare two finished runs."""
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (one, other)]
    found: dict[str, bool] = {}
    for name in ("state_dict", "optimizer_states"):
        pairs = list(zip(*(tensors(state[name]) for state in states), strict=True))
        found[name] = all(torch.equal(a, b) for a, b in pairs)
    for path in (TABLE, Path("metrics.json")):
        found[path.name] = (one / path).read_bytes() == (other / path).read_bytes()
    return {name: "equal" if value else "differs" for name, value in found.items()}


def align_calls(calls: int, every: int) -> list[Sample]:
    """Align again and again; return a sample for every so many calls."""
    torch.manual_seed(0)
    image = torch.rand(1, 1, 32, 32)
    reference = image.rot90(1, (2, 3)).contiguous()
    samples = []
    for call in range(calls):
        align(image, reference)
        if (call + 1) % every == 0 and (found := sample(os.getpid())) is not None:
            samples.append(found)
    return samples


def flat(what: str, number: int, samples: Sequence[Sample]) -> Row:
    """Return the medians of the first and the last third."""
    third = max(1, len(samples) // 3)
    row: dict[str, str | int | float] = {"what": what, "number": number}
    for k, name in enumerate(COLUMNS):
        row[f"{name}, first third"] = f"{median(each[k] for each in samples[:third]):.1f}"
        row[f"{name}, last third"] = f"{median(each[k] for each in samples[-third:]):.1f}"
    return row


def draw(series: Mapping[str, Sequence[Sample]], path: Path) -> None:
    """Draw memory and open files of each series, from its start to its end."""
    figure = Figure(figsize=(7.2, 3.4), dpi=120, layout="tight")
    for k, name in enumerate(COLUMNS):
        axes = figure.add_subplot(1, 2, k + 1, xlabel="part of the epochs or calls, %", ylabel=name)
        for label, samples in series.items():
            axes.plot([100 * n / len(samples) for n in range(len(samples))], [each[k] for each in samples], label=label)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, kill, align and report."""
    options = Options(__file__, __doc__, epochs=2, calls=200)
    options.add_argument("--epochs", type=at_least_one, default=320, help="of the job")
    options.add_argument("--calls", type=at_least_one, default=100_000, help="of align")
    options.add_argument("--png", type=new_file, metavar="PATH", help="draw memory and open files to this file")
    args = options.read(arguments)
    job = [*JOB, *(QUICK * args.quick), f"trainer.max_epochs={args.epochs}"]
    with TemporaryDirectory(prefix="stnrot-soak-") as name:
        one, other = Path(name, "whole"), Path(name, "killed")
        first, epochs = whole_run(one, job)
        start = time.monotonic()
        kills, unreadable = killed_run(other, job, 3 * first)
        minutes = (time.monotonic() - start) / 60
        equal = same(one, other)
    every = max(1, args.calls // 100)
    calls = align_calls(args.calls, every)[1:]  # the first have loaded what is needed
    series = {"training": epochs, "align": calls}
    rows = [flat("epochs of a training", args.epochs, epochs), flat("calls of align", args.calls, calls)]
    killed: Row = {"minutes": f"{minutes:.1f}", "kills": kills, "unreadable checkpoints": unreadable, **equal}
    table = Table("the run that was killed, beside the one that was not", [killed])
    report(args, environment("cpu"), Table("memory and open files", rows), table)
    if args.png is not None:
        draw(series, args.png)


if __name__ == "__main__":
    with one_line_errors():
        main()
