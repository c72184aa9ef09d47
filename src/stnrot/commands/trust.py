"""The option `--trust` of the commands that build a model."""

from typing import Annotated, TypeAlias

import typer

Trust: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        rich_help_panel="Model",
        metavar="PACKAGE",
        help="Package whose classes the model may build, beside stnrot, torch.nn, torchvision and timm. Its code runs "
        "with your permissions. Repeat the option for several packages.",
    ),
]
