"""Draft decoding takes a third of the CPU time for JPEG files from 1,024 pixels, and changes values by 1 of 255.

    python benchmarks/decoding.py [--sides 64 256 1024 4096] [--rounds 3] [--json PATH]

Two minutes on two cores of an AMD EPYC. Reads square JPEG files of several sides, parts of a photograph that
scikit-learn brings, at the default 64 x 64 pixels. The files are in the cache of the system.

*Pillow* decodes the whole file and resizes it (bicubic). *Pillow, draft* is what stnrot does: libjpeg decodes at 1/2,
1/4 or 1/8 of the size, at least twice the size that is needed, and Pillow resizes the rest. *torchvision.io* decodes
the whole file and resizes it with antialiasing (bicubic).

The first table has images a second of the loader alone, with 1 and 2 worker processes. The second has the CPU time of
one image in one process, and how far the values (0 to 255) are from those of *Pillow*; there *draft, 1x* takes the
smallest size that is not below the one that is needed, and *reducing gap* lets Pillow average whole pixels first.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from sklearn.datasets import load_sample_image
from torch.utils.data import DataLoader
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from harness.environment import environment
from harness.report import Options, Row, Table, at_least_one, report
from harness.timing import alternate
from stnrot.data.batch_samplers import EvaluationBatches
from stnrot.data.datamodule import as_fetched
from stnrot.data.sources.decoding import Decoding
from stnrot.data.sources.file_names import FileNames
from stnrot.data.sources.files import FileSet
from stnrot.runs.command_line import one_line_errors

SIZE = 64  # pixels, height and width of what is read
WORK = 2**26  # pixels that are decoded in one pass, about
BATCHES = 16  # at least, in one pass
WORKERS = 1, 2
Pixels = UInt8[np.ndarray, "3 h w"]


class Full(Decoding):
    """Pillow, without draft."""

    def read(self, path: Path, content: bytes | None = None) -> Pixels:
        """Decode the whole file."""
        with Image.open(path) as image:
            return self.fitted(image)


class Draft(Decoding):
    """Pillow, at the smallest size that is not below the one that is needed."""

    def read(self, path: Path, content: bytes | None = None) -> Pixels:
        """Decode at this size."""
        with Image.open(path) as image:
            image.draft(None, (SIZE, SIZE))
            return self.fitted(image)


class ReducingGap(Decoding):
    """Pillow, without draft, which averages blocks of whole pixels before it resizes."""

    def read(self, path: Path, content: bytes | None = None) -> Pixels:
        """Decode the whole file."""
        with Image.open(path) as image:
            small = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, reducing_gap=2.0)
            return np.asarray(small).transpose(2, 0, 1)


class Torchvision(Decoding):
    """torchvision.io, which decodes the whole file."""

    def read(self, path: Path, content: bytes | None = None) -> Pixels:
        """Decode the whole file."""
        image = decode_jpeg(read_file(str(path)), ImageReadMode.RGB)
        return resize(image, [SIZE, SIZE], InterpolationMode.BICUBIC, antialias=True).numpy()


OPTIONS: dict[str, Any] = {"image_size": (SIZE, SIZE), "fit": "crop", "channels": 3, "max_pixels": 2**28}
OPTIONS |= {"on_bad_image": "error", "memory_gb": 0.0}
LOADED = {"Pillow": Full(**OPTIONS), "Pillow, draft": Decoding(**OPTIONS), "torchvision.io": Torchvision(**OPTIONS)}
OTHERS = {"Pillow, draft, 1x": Draft(**OPTIONS), "Pillow, reducing gap": ReducingGap(**OPTIONS)}


def write_image(path: Path, side: int) -> None:
    """Write a photograph of this side: shrunk, or continued by its mirror images, as sharp as it is."""
    photograph = Image.fromarray(load_sample_image("china.jpg")).crop((106, 0, 533, 427))
    if side < photograph.width:
        pixels = np.asarray(photograph.resize((side, side), Image.Resampling.BICUBIC))
    else:
        beyond = side - photograph.width
        pixels = np.pad(np.asarray(photograph), ((0, beyond), (0, beyond), (0, 0)), "symmetric")
    Image.fromarray(pixels).save(path, quality=90)


def rates(file: Path, side: int, rounds: int, work: int) -> Row:
    """Return images a second of the loader, for each method and number of workers."""
    count = max(BATCHES, min(1024, work // side**2))
    loaders: dict[str, DataLoader] = {}
    for name, decoding in LOADED.items():
        images = FileSet((FileNames.of([str(file)] * count),), decoding)
        batches = EvaluationBatches(count, max(1, count // BATCHES), (0, 1))
        for workers in WORKERS:
            loaders[f"{name}, {workers}"] = DataLoader(
                images,  # type: ignore[arg-type]  # fetched through __getitems__ alone
                batch_sampler=batches,  # type: ignore[arg-type]
                collate_fn=as_fetched,
                num_workers=workers,
                persistent_workers=True,
            )
    passes = {name: lambda loader=loader: sum(1 for _ in loader) for name, loader in loaders.items()}
    times = alternate(passes, rounds, lead_in=0, calls=1, device="cpu")  # its first round starts the workers
    return {"side": side, "kB": file.stat().st_size / 1e3} | {n: count / median(each) for n, each in times.items()}


def costs(file: Path, side: int, rounds: int, work: int) -> list[Row]:
    """Return CPU time of one image and differences from full decoding, for each method."""
    methods = LOADED | OTHERS
    calls = max(1, min(200, work // 8 // side**2))
    reads = {name: lambda decoding=decoding: decoding.read(file) for name, decoding in methods.items()}
    times = alternate(reads, rounds, lead_in=0, calls=calls, device="cpu", clock=time.process_time)
    expected = methods["Pillow"].read(file).astype(int)
    rows: list[Row] = []
    for name, decoding in methods.items():
        difference = np.abs(decoding.read(file) - expected)
        row: dict[str, str | float] = {"side": side, "method": name, "CPU ms": 1e3 * median(times[name])}
        rows.append(row | {"mean difference": float(difference.mean()), "largest": int(difference.max())})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Time the decoders and report."""
    options = Options(__file__, __doc__, rounds=1, sides=[256], work=2**14)
    options.add_rounds(3)
    options.add_argument("--sides", type=at_least_one, nargs="+", default=[64, 256, 1024, 4096], help="of the files")
    options.set_defaults(work=WORK)
    args = options.read(arguments)
    torch.set_num_threads(1)  # as in a worker process
    loaded: list[Row] = []
    decoded: list[Row] = []
    with TemporaryDirectory() as name:
        for side in args.sides:
            file = Path(name, f"{side}.jpg")
            write_image(file, side)
            loaded.append(rates(file, side, args.rounds, args.work))
            decoded += costs(file, side, args.rounds, args.work)
    report(
        args,
        environment("cpu") | {"load average": round(os.getloadavg()[0])},
        Table(f"images a second of the loader, read at {SIZE} x {SIZE}, by method and number of workers", loaded),
        Table("CPU time of one image, and differences from Pillow's full decoding (0 to 255)", decoded),
    )


if __name__ == "__main__":
    with one_line_errors():
        main()
