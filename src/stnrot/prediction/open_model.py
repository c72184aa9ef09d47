"""From what a person names to a model; torch is imported for models that need it alone."""

from collections.abc import Iterable
from pathlib import Path

from stnrot.prediction.image_predictor import ImagePredictor
from stnrot.prediction.onnx_predictor import SUFFIX, OnnxPredictor


def open_model(source: str | Path, trust: Iterable[str] = ()) -> ImagePredictor:
    """Return a model of single images, which uses one core: `read_and_predict` calls it in as many threads as cores.

    Args:
        source: an ONNX file of `stnrot export`, or what `load` takes.
        trust: as for `load`. An ONNX file names no classes.

    Raises:
        InputError: if there is no such model.
    """
    if Path(source).suffix == SUFFIX:
        return OnnxPredictor(source, threads=1)
    import torch

    from stnrot.prediction.predictor import load

    torch.set_num_threads(1)
    return load(source, trust=trust)
