"""Convolutions in whole numbers of 8 bits, calibrated on real images."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from stnrot.errors import InputError, needs_extra

LEAST = 0.99  # share of images on which both models agree
BATCH = 32


def quantise(model: Path, file: Path, images: Float[np.ndarray, "N C H W"]) -> None:
    """Write an ONNX file whose convolutions are static int8, with a scale for each channel.

    If the model rotates images, only the convolutions behind the rotation become int8, those of the classifier. With
    the encoder in int8, too, the angle moved by more than a degree for one image of a digit in eleven.

    Args:
        model: the ONNX file in float32.
        file: to write.
        images: that the ranges of the activations are taken from.
    """
    with needs_extra("--int8", "export"):
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Images(CalibrationDataReader):
        """Give the images in batches."""

        def __init__(self) -> None:
            self.batches = iter([images[start : start + BATCH] for start in range(0, len(images), BATCH)])

        def get_next(self) -> dict[str, Any] | None:
            """Return the next batch."""
            batch = next(self.batches, None)
            return None if batch is None else {"image": batch}

    nodes = list(onnx.load(model).graph.node)
    rotated = next((k for k, node in enumerate(nodes) if node.op_type == "GridSample"), 0)
    quantize_static(
        model,
        file,
        Images(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        op_types_to_quantize=["Conv"],
        nodes_to_exclude=[node.name for node in nodes[:rotated]],
    )


def check_agreement(shares: dict[str, float], what: str) -> str:
    """Return the shares in words.

    Raises:
        InputError: if one is too small.
    """
    words = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    if not all(share >= LEAST for share in shares.values()):
        raise InputError(
            f"--int8 does not hold the accuracy on {what}: {words}; expected at least {LEAST:.0%}; nothing is written; "
            "leave --int8 out"
        )
    return f"int8 against the original on {what}: {words}"
