"""The images and the model of the commands that predict for image files."""

from typing import Annotated, TypeAlias

import typer

Images: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGES...",
        help="Image files, folders (with all images below them), patterns in quotes, or - for a list of files on "
        "standard input.",
    ),
]
ImageModel: TypeAlias = Annotated[
    str,
    typer.Option(
        help="The model: the folder of a run of train.py, a folder that stnrot publish wrote, a checkpoint, a file of "
        "stnrot export (.onnx, .safetensors), photos (finds the upright of photographs) or digits (reads handwritten "
        "digits)."
    ),
]
