"""By default `stnrot export` writes a model that is at least as fast in ONNX Runtime as in PyTorch, on one CPU core.

    python benchmarks/export_speed.py [--json PATH]

One minute on one core of an AMD EPYC. Prints the images a second of the shipped models: `digits`, of the default kind,
and `photos`; one image at a time, 32 and 256. Both runtimes have one thread and compute the same numbers, which is
checked before. The digits are validation images of the run, turned by any angle; the photographs are tiles of two
photographs. `fixed shapes` is the file of `stnrot export --fixed-shapes`, which reads all hypotheses. The time
is that of the process, so other processes change it little.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

from harness.environment import environment
from harness.report import Options, Row, Table, report
from harness.timing import alternate, speedup
from stnrot.export.graph import write_onnx
from stnrot.export.parity import check_parity, real_images
from stnrot.prediction.find_model import find_model
from stnrot.prediction.onnx_predictor import OnnxPredictor
from stnrot.prediction.predictor import Predictor
from stnrot.runs.checkpoints import read_checkpoint, rebuild
from stnrot.runs.command_line import one_line_errors


def opened(source: str) -> tuple[Predictor, Tensor]:
    """Return a model on the CPU, and images for it."""
    path = find_model(source)
    saved = read_checkpoint(path)
    predictor = Predictor(rebuild(saved, path), saved["config"], path)
    predictor.model, predictor.device = predictor.model.cpu(), torch.device("cpu")
    if predictor.classes:
        return predictor, real_images(predictor, saved["config"], None, ())[0]
    side = predictor.spec.height
    pixels = np.stack([np.asarray(image[: 12 * side, : 20 * side]) for image in load_sample_images().images])
    tiles = torch.from_numpy(pixels).unfold(1, side, side).unfold(2, side, side).flatten(0, 2)
    return predictor, tiles[:256] / 255


def by_onnx(exported: OnnxPredictor, images: Tensor) -> object:
    """Run an exported model."""
    return exported.predict(images.numpy())


def rates(name: str, predictor: Predictor, images: Tensor, rounds: int, folder: Path) -> list[Row]:
    """Return the images a second in both runtimes."""
    answers: dict[str, Callable[[Tensor], object]] = {"PyTorch": predictor.predict}
    files = {"ONNX Runtime": False, "ONNX Runtime, fixed shapes": True}
    for title, fixed in files.items() if predictor.classes else [("ONNX Runtime", False)]:
        file = folder / f"{name}-{fixed}.onnx"
        write_onnx(predictor, file, fixed)
        exported = OnnxPredictor(file, threads=1)
        print(check_parity(exported.predict(images.numpy()), predictor.predict(images), f"{len(images)} images"))
        answers[title] = partial(by_onnx, exported)
    rows: list[Row] = []
    for count in (1, 32, 256):
        parts = images[: max(32, count)].split(count)

        def each(answer: Callable[[Tensor], object], parts: Sequence[Tensor] = parts) -> None:
            for part in parts:
                answer(part)

        methods = {title: partial(each, answer) for title, answer in answers.items()}
        times = alternate(methods, rounds, lead_in=0, calls=1, device="cpu", clock=time.process_time)
        total = sum(map(len, parts))
        rows += [
            {
                "model": name,
                "images at a time": count,
                "runtime": title,
                "images a second": total / median(times[title]),
                "speed-up over PyTorch": speedup(times, title, "PyTorch"),
            }
            for title in methods
        ]
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Export both models, time them and report."""
    options = Options(__file__, __doc__, rounds=1)
    options.add_rounds(5)
    args = options.read(arguments)
    torch.set_num_threads(1)
    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        for name in ("digits",) if args.quick else ("digits", "photos"):
            rows += rates(name, *opened(name), args.rounds, Path(folder))
    facts = environment("cpu") | {"onnxruntime": onnxruntime.__version__}
    report(args, facts, Table("images a second, one thread", rows))


if __name__ == "__main__":
    with one_line_errors():
        main()
