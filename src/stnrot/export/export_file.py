"""Export a model to a file, and compare it with the original before the file gets its name."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from stnrot.export.graph import write_onnx, write_pt2
from stnrot.export.int8 import check_agreement, quantise
from stnrot.export.parity import agreement, check_parity, real_images
from stnrot.prediction.find_model import find_model
from stnrot.prediction.onnx_predictor import OnnxPredictor
from stnrot.prediction.predictions import Predictions
from stnrot.prediction.predictor import Predictor, load
from stnrot.runs.atomic_write import atomic_write
from stnrot.runs.checkpoints import read_checkpoint, rebuild
from stnrot.runs.publish import write_single


def export_file(
    run: str, file_format: str, out: Path, names: Sequence[str] | None, fixed: bool, int8: bool, trust: Iterable[str]
) -> Iterator[str]:
    """Write the file; yield what to print.

    Args:
        run: what `load` takes.
        file_format: onnx, pt2 or safetensors.
        out: the file.
        names: of images to compare with; None takes validation images of the run.
        fixed: whether the shapes of an ONNX file depend on the number of images alone.
        int8: whether the convolutions of an ONNX file are int8.
        trust: packages whose classes the model may build.

    Raises:
        InputError: if the file would differ from the original, or there are no images to compare.
    """
    path = find_model(run)
    checkpoint = read_checkpoint(path)
    predictor = Predictor(rebuild(checkpoint, path, trust, "add --trust {0}"), checkpoint["config"], path)
    predictor.model, predictor.device = predictor.model.cpu(), torch.device("cpu")
    images, what = real_images(predictor, checkpoint["config"], names, trust)
    expected = predictor.predict(images)
    with TemporaryDirectory() as scratch:
        new = Path(scratch) / out.name
        if file_format == "onnx":
            write_onnx(predictor, new, fixed)
        elif file_format == "pt2":
            write_pt2(predictor, new)
        else:
            write_single(checkpoint, new)
        yield check_parity(_answers(new, file_format, images, predictor.portion, trust), expected, what)
        if int8:
            small = Path(scratch) / f"int8-{out.name}"
            quantise(new, small, images.numpy())
            yield check_agreement(agreement(OnnxPredictor(small).predict(images.numpy()), expected), what)
            new = small
        with atomic_write(out) as target:
            target.write_bytes(new.read_bytes())
    yield f"written: {out} ({out.stat().st_size / 2**20:.1f} MB)"


@torch.inference_mode()
def _answers(
    file: Path, file_format: str, images: Float[Tensor, "N C H W"], portion: int, trust: Iterable[str]
) -> Predictions[Any]:
    """Return what a file says about images."""
    if file_format == "onnx":
        return OnnxPredictor(file).predict(images.numpy())
    if file_format == "safetensors":
        return load(file, trust=trust).predict(images)
    program = torch.export.load(file).module()
    parts = [program(part) for part in images.split(portion)]
    values: dict[str, Any] = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return Predictions((), **values)
