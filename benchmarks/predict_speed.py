"""`stnrot predict` reads large files faster than a loop that only decodes them, and 1,200 small PNG files a second.

    python benchmarks/predict_speed.py [--files 10000] [--json PATH]

Eight minutes on two cores of an AMD EPYC. The files are digits of 28 x 28 pixels, and one in twenty-five as many
photographs of 1024 x 1024, as PNG and as JPEG. All are turned by any angle. Prints the files a second of the whole
command but its start, from the files to the table, with the shipped models `digits` and `photos` in PyTorch and in ONNX
Runtime. The bare loop opens and decodes each file with Pillow, one after another, and does nothing else. `decoded` does
what the command does before the model reads: decode, convert and shrink in threads. The last column divides the
time of the bare loop by that of the row.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from harness.environment import environment
from harness.report import Options, Row, Table, at_least_one, report
from harness.timing import alternate, speedup
from stnrot.export.graph import write_onnx
from stnrot.prediction.image_predictor import ImagePredictor
from stnrot.prediction.open_model import open_model
from stnrot.prediction.predict_files import predict_table
from stnrot.prediction.predictor import load
from stnrot.prediction.read_and_predict import read_and_predict
from stnrot.runs.command_line import one_line_errors

DIGIT, PHOTOGRAPH = 28, 1024  # pixels
FEWER = 25  # photographs, one for so many digits
BARE = "bare loop"


def write_digits(folder: Path, count: int) -> list[Path]:
    """Write digits as PNG files, as bright as the model knows them."""
    pixels = (load_digits().images / 16 * 255).astype(np.uint8)
    files = [folder / f"{number:05d}.png" for number in range(count)]
    for number, file in enumerate(files):
        digit = Image.fromarray(pixels[number % len(pixels)]).resize((20, 20), Image.Resampling.BICUBIC)
        image = Image.new("L", (DIGIT, DIGIT))
        image.paste(digit, (4, 4))
        image.rotate(137.5 * number, Image.Resampling.BICUBIC).save(file)
    return files


def write_photographs(folder: Path, count: int, suffix: str) -> list[Path]:
    """Write parts of two photographs, enlarged to the size of a small photograph."""
    photographs = [Image.fromarray(each) for each in load_sample_images().images]
    files = [folder / f"{number:05d}{suffix}" for number in range(count)]
    for number, file in enumerate(files):
        left = 13 * number % 200
        part = photographs[number % 2].crop((left, 0, left + 427, 427))
        part = part.resize((PHOTOGRAPH, PHOTOGRAPH), Image.Resampling.BICUBIC)
        part.rotate(137.5 * number, Image.Resampling.BICUBIC).save(file, quality=90)
    return files


def bare(files: Sequence[Path]) -> None:
    """Decode each file."""
    for file in files:
        with Image.open(file) as image:
            image.load()


def decoded(predictor: ImagePredictor, files: Sequence[Path]) -> None:
    """Decode all files for a model, as the command does."""
    for _ in read_and_predict(predictor, files, lambda images: images):
        pass


def predicted(predictor: ImagePredictor, files: Sequence[Path], out: Path) -> None:
    """Write a new table."""
    out.unlink(missing_ok=True)
    if predict_table(predictor, files, out):
        raise RuntimeError(f"{out} has errors")


def rates(name: str, model: str, files: Sequence[Path], rounds: int, folder: Path) -> list[Row]:
    """Return the files a second of each way."""
    exported = folder / f"{model}.onnx"
    if not exported.exists():
        write_onnx(load(model), exported, every_hypothesis=False)
    predictor = open_model(model)
    methods: dict[str, Callable[[], object]] = {
        BARE: partial(bare, files),
        "decoded": partial(decoded, predictor, files),
        "predict, PyTorch": partial(predicted, predictor, files, folder / "torch.csv"),
        "predict, ONNX Runtime": partial(predicted, open_model(exported), files, folder / "onnx.csv"),
    }
    times = alternate(methods, rounds, lead_in=0, calls=1, device="cpu")
    return [
        {
            "files": f"{len(files):,} {name}",
            "method": method,
            "files a second": len(files) / median(each),
            "share of the bare loop": speedup(times, method, BARE),
        }
        for method, each in times.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files, read them and report."""
    options = Options(__file__, __doc__, files=50, rounds=1)
    options.add_rounds(3)
    options.add_argument("--files", type=at_least_one, default=10_000, help="small files")
    args = options.read(arguments)
    facts = environment("cpu")
    few = max(2, args.files // FEWER)
    rows: list[Row] = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("digits", "png", "jpg"):
            (folder / part).mkdir()
        rows += rates(f"PNG, {DIGIT} px", "digits", write_digits(folder / "digits", args.files), args.rounds, folder)
        for suffix in ("png", "jpg"):
            files = write_photographs(folder / suffix, few, f".{suffix}")
            model = "digits" if args.quick else "photos"
            rows += rates(f"{suffix.upper()}, {PHOTOGRAPH} px", model, files, args.rounds, folder)
    report(args, facts, Table("files a second", rows))


if __name__ == "__main__":
    with one_line_errors():
        main()
