"""The second start on a folder of 200,000 images opens none of them and takes at most a tenth of the first's CPU time.

    python benchmarks/folder_start.py [--files 200000] [--json PATH]

Two minutes on two cores of an AMD EPYC. Writes small JPEG files into class folders of 1,000 and starts on them as a job
does, up to the splits: without an index, with the index of the first start, and after one file was replaced. The files
are in the cache of the system. Prints seconds, CPU seconds, on which other load of the machine has less effect, how
many images were opened, and the peak of the memory beyond that before the start.
"""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.environment import environment
from harness.jpeg_folder import IN_CLASS, write_images
from harness.memory import peak_mib
from harness.report import Options, Row, Table, at_least_one, report
from stnrot.data.image_set import Splits
from stnrot.data.sources.headers import SETTLED
from stnrot.data.sources.image_folder import ImageFolder
from stnrot.runs.command_line import one_line_errors

SIDE = 64  # pixels
SOURCE = ImageFolder(
    image_size=(SIDE, SIDE),
    fit="crop",
    channels=None,
    max_pixels=10**8,
    on_bad_image="error",
    memory_gb=0,
    val_fraction=0.15,
    test_fraction=0.15,
)


def training_names(splits: Splits) -> list[str]:
    """Return the names of the training images, in order."""
    assert splits.train.names is not None
    return list(splits.train.names)


def main(arguments: Sequence[str] | None = None) -> None:
    """Time the starts and report."""
    options = Options(__file__, __doc__, files=IN_CLASS + 200)
    options.add_argument("--files", type=at_least_one, default=200_000, help=f"an index takes at least {IN_CLASS}")
    args = options.read(arguments)
    facts = environment("cpu") | {"load average": round(os.getloadavg()[0])}
    opened: list[None] = []

    def count(event: str, details: tuple[object, ...]) -> None:
        if event == "open" and str(details[0]).endswith(".jpg"):
            opened.append(None)

    sys.addaudithook(count)
    rows: list[Row] = []
    cache = os.environ.get("XDG_CACHE_HOME")
    with TemporaryDirectory() as name:
        root = Path(name, "images")
        write_images(root, args.files, SIDE)
        time.sleep(SETTLED / 1e9)  # an index leaves out files that are younger
        os.environ["XDG_CACHE_HOME"] = str(Path(name, "cache"))
        found: list[Splits] = []
        for title in ("first", "second", "after one file was replaced"):
            if title.startswith("after"):
                (root / "class0000" / "0000000.jpg").write_bytes((root / "class0000" / "0000001.jpg").read_bytes())
            opened.clear()
            wall, cpu = time.perf_counter(), time.process_time()
            peak = peak_mib(lambda: found.append(SOURCE(root, 0)), "cpu")
            row: Row = {
                "start": title,
                "s": time.perf_counter() - wall,
                "CPU s": time.process_time() - cpu,
                "images opened": len(opened),
                "memory, MiB": peak,
            }
            rows.append(row)
            if training_names(found[-1]) != training_names(found[0]):
                raise SystemExit("the starts do not give the same training set")
    if cache is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = cache
    report(args, facts, Table(f"starts on {args.files} images", rows))


if __name__ == "__main__":
    with one_line_errors():
        main()
