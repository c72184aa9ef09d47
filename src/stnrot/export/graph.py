"""Write a trained model to one file, for ONNX Runtime and other runtimes, or for torch alone."""

import logging
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stnrot.errors import needs_extra
from stnrot.models.rot_stn import RotSTN
from stnrot.prediction.image_spec import KEY
from stnrot.prediction.predictor import Predictor

OPSET = 18  # the first that reduces along axes that are inputs; OpenVINO and TensorRT know GridSample from 16 on
MOST_BYTES = 2**26  # of a constant that is computed in advance


class Graph(nn.Module):
    """What is exported: images to the numbers of `Predictions`, with the mask of the disc and all post-processing.

    Args:
        predictor: on the CPU.
    """

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.model, self._numbers = predictor.model, predictor.numbers

    def forward(self, image: Float[Tensor, "B C H W"]) -> dict[str, Tensor]:
        """Return the numbers by their names, without the posterior."""
        numbers = self._numbers(image)
        numbers.pop("log_posterior", None)
        return numbers


def exported_program(predictor: Predictor, every_hypothesis: bool) -> torch.export.ExportedProgram:
    """Return the graph of a model, for any number of images. The model stays as it was.

    Args:
        predictor: on the CPU.
        every_hypothesis: read all K hypotheses of each image, in fixed shapes. Else the graph reads the likely ones, as
            the model does, which is faster; their number depends on the images.
    """
    images = torch.rand(2, *predictor.spec.shape)
    shapes = ({0: torch.export.Dim("batch")},)
    models = [module for module in predictor.model.modules() if isinstance(module, RotSTN)]
    before = [model.exports_every_hypothesis for model in models]
    try:
        for model in models:
            model.exports_every_hypothesis = every_hypothesis
        with torch.no_grad():
            return torch.export.export(Graph(predictor).eval(), (images,), dynamic_shapes=shapes)
    finally:
        for model, value in zip(models, before, strict=True):
            model.exports_every_hypothesis = value


def write_pt2(predictor: Predictor, file: Path) -> None:
    """Write a program for `torch.export.load`, with the metadata in the extra file stnrot.json."""
    torch.export.save(exported_program(predictor, True), file, extra_files={"stnrot.json": predictor.spec.metadata()})


def write_onnx(predictor: Predictor, file: Path, every_hypothesis: bool) -> None:
    """Write an ONNX file. What depends on weights and sizes alone is computed in advance, and stored once."""
    with needs_extra("an export to ONNX", "export"):
        import onnx  # noqa: F401  # torch imports the three when it needs them
        import onnxruntime  # noqa: F401
        import onnxscript.optimizer
        from onnx_ir.passes.common import DeduplicateInitializersPass

    program = exported_program(predictor, every_hypothesis)
    names = list(Graph(predictor)(torch.zeros(1, *predictor.spec.shape)))
    for name in ("onnxscript", "onnx_ir", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written: Any = torch.onnx.export(
            program,
            input_names=["image"],
            output_names=names,
            opset_version=OPSET,
            dynamo=True,
            optimize=False,
            verbose=False,
        )
        model = written.model
        onnxscript.optimizer.optimize(model, 2, input_size_limit=MOST_BYTES, output_size_limit=MOST_BYTES)
        DeduplicateInitializersPass(size_limit=MOST_BYTES)(model)
    _name_batch(model)
    model.metadata_props[KEY] = predictor.spec.metadata()
    written.save(file)


def _name_batch(model: Any) -> None:
    """Give the number of images the name batch in all shapes; torch numbers it, as s40."""
    import onnx_ir

    name = re.compile(rf"\b{model.graph.inputs[0].shape[0]}\b")
    for value in (*model.graph.inputs, *(output for node in model.graph for output in node.outputs)):
        if value.shape is not None:
            sides = [side if isinstance(side, int) else name.sub("batch", str(side)) for side in value.shape]
            value.shape = onnx_ir.Shape(sides)
