"""Two processes, one core each, train 1.4 to 1.6 times as fast as one with twice the batch, 1.1 to 1.4 with the same.

    python benchmarks/scaling.py [--batch 128] [--large-batch 4] [--images 10000000] [--json PATH]

Ten minutes on two cores, which must be idle; 5.5 with `--rounds 3`. Prints three tables, the source of docs/scaling.md:

- A training step of the default model on digits of 28 x 28 pixels, and of ResNet-50 behind the sampler at 224 x 224
  with one hypothesis, in one process and in two, each on one core. Two processes exchange gradients, and the sums of
  batch norm, through the local network interface. The share is the time that a step loses to that, divided by the
  whole step: the processes take the same step with and without it, in turn. The share of one process, which has nobody
  to exchange with, is the time of the arithmetic around it; its rate is that without. The speed-up is the rate of two
  processes divided by that of one process with the batch of the first row.
- What so many images in shards cost each process: seconds and memory of its start, which reads and checks the index,
  and of the order of an epoch.
- The rate at which `stnrot shards` writes JPEG files of 224 x 224 pixels.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from harness.data_parallel import EVERYTHING, GRADIENTS, NOTHING, exchanged, step_times
from harness.environment import environment
from harness.jpeg_folder import write_images
from harness.memory import peak_mib
from harness.report import Options, Row, Table, at_least_one, report
from harness.two_commits import photographs
from stnrot.data.image_set import Splits
from stnrot.data.rng import Purpose
from stnrot.data.sources.image_folder import ImageFolder
from stnrot.data.sources.image_shards import ImageShards
from stnrot.data.sources.shards.index import ROW, index_name, names_name
from stnrot.data.sources.shards.info import INFO, ShardInfo, SplitInfo
from stnrot.data.sources.shards.shard_set import ShardSet
from stnrot.data.sources.shards.write import write_shards
from stnrot.runs.command_line import one_line_errors

SIDE = 224  # pixels
IN_SHARD = 10_000  # images
SHARD = 256_000_000  # bytes
HOW: dict[str, Any] = {
    "image_size": (SIDE, SIDE),
    "fit": "crop",
    "channels": 3,
    "max_pixels": 10**8,
    "on_bad_image": "error",
    "memory_gb": 0,
}


def training(folder: Path, batch: int, large_batch: int, side: int, rounds: int, calls: int) -> list[Row]:
    """Time the step of both models in one process and in two."""
    large = ["model/classifier=torchvision", "model.classifier.name=resnet50", "model.classifier.pretrained=false"]
    large += ["model.hypotheses=1", "data=image_folder", f"data.root={photographs(folder / 'photographs')}"]
    models = {
        "default model": (["data=rotated_digits"], batch),
        f"ResNet-50 at {side} x {side}": ([*large, f"data.source.image_size=[{side},{side}]"], large_batch),
    }
    rows: list[Row] = []
    for name, (overrides, most) in models.items():
        alone = 0.0  # images a second of one process
        size, norms = exchanged(overrides)
        for processes, each in ((1, most), (2, most), (2, most // 2)):
            times = step_times([*overrides, f"data.batch_size={each}"], processes, rounds, calls)
            whole, gradients, nothing = (times[what] for what in (EVERYTHING, GRADIENTS, NOTHING))
            step = median(nothing if processes == 1 else whole)  # one process needs no exchange
            alone = alone or each / step
            lost = [(w - n) / w for w, n in zip(whole, nothing, strict=True)]
            by_norms = [(w - g) / w for w, g in zip(whole, gradients, strict=True)]
            rate = processes * each / step
            rows.append(
                {
                    "step": name,
                    "processes": processes,
                    "images of each": each,
                    "images/s": rate,
                    "speed-up": rate / alone,
                    "exchange, % of the step": 100 * median(lost),
                    "of it batch norm": 100 * median(by_norms),
                    "gradients, MB": size / 1e6,
                    "layers of batch norm": norms,
                }
            )
    return rows


def index_costs(folder: Path, images: int) -> list[Row]:
    """Start with a set in shards, whose validation and test set have an image each; make the order of an epoch."""
    splits = {}
    for name, count in (("train", images), ("val", 1), ("test", 1)):
        rows = np.zeros(count, ROW)
        rows["shard"], rows["size"] = np.arange(count) // IN_SHARD, 1
        rows.tofile(folder / index_name(name))
        lengths = tuple(np.bincount(rows["shard"]).tolist())
        shards = tuple(f"{name}-{k:06d}.tar" for k in range(len(lengths)))
        for shard in shards:
            (folder / shard).write_bytes(b"  ")
        (folder / names_name(name)).write_text("\n" * count)
        splits[name] = SplitInfo(name, shards, lengths, (2,) * len(lengths), count)
    (folder / INFO).write_text(ShardInfo(splits, ("one",), False, "0").to_json())
    del rows
    found: list[Splits] = []

    def start() -> None:
        found.append(ImageShards(**HOW, val_fraction=0.15, test_fraction=0.15, open_shards=16, cache_gb=1)(folder, 0))

    def order() -> None:
        train = found[0].train
        assert isinstance(train, ShardSet)
        train.order((0, Purpose.ORDER, 0), images)

    def cost(name: str, call: Callable[[], None]) -> Row:
        start = time.perf_counter()
        peak = peak_mib(call, "cpu")
        seconds = time.perf_counter() - start
        return {
            f"index of {images:,} images": name,
            "s": seconds,
            "bytes of memory an image": None if peak is None else peak * 2**20 / images,
            "bytes of file an image": ROW.itemsize,
        }

    return [cost("the start of a job", start), cost("the order of an epoch", order)]


def writing(folder: Path, files: int) -> list[Row]:
    """Write shards of a folder of JPEG files."""
    size = write_images(folder / "images", files, SIDE)
    splits = ImageFolder(**HOW, val_fraction=0.15, test_fraction=0.15)(folder / "images", 0)
    (folder / "shards").mkdir()
    start = time.perf_counter()
    write_shards(folder / "images", splits, folder / "shards", SHARD, 0, lambda: None)
    seconds = time.perf_counter() - start
    mean = size / files
    return [{"JPEG files": files, "kB of each": mean / 1e3, "images/s": files / seconds, "MB/s": size / seconds / 1e6}]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    quick = {"rounds": 1, "batch": 8, "large_batch": 2, "side": 64, "images": 1000, "files": 50}
    options = Options(__file__, __doc__, **quick)
    options.add_rounds(10)
    options.add_argument("--batch", type=at_least_one, default=128, help="digits that one process sees in a step")
    options.add_argument("--large-batch", type=at_least_one, default=4, help="the same for ResNet-50")
    options.add_argument("--side", type=at_least_one, default=SIDE, help="pixels, for ResNet-50")
    options.add_argument("--images", type=at_least_one, default=10_000_000, help="in the index")
    options.add_argument("--files", type=at_least_one, default=10_000, help="that are written to shards")
    args = options.read(arguments)
    with TemporaryDirectory() as name:
        folder = Path(name)
        tables = [
            Table(
                "training steps in one process and in two",
                training(folder, args.batch, args.large_batch, args.side, args.rounds, calls=1 if args.quick else 2),
            ),
            Table("the index of shards", index_costs(folder, args.images)),
            Table("writing shards", writing(folder, args.files)),
        ]
    report(args, environment("cpu"), *tables)


if __name__ == "__main__":
    with one_line_errors():
        main()
