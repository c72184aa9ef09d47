"""`stnrot demo`: a page in the browser that shows what a model finds in a picture."""

import threading
from typing import Annotated

import typer

from stnrot.commands.trust import Trust
from stnrot.errors import check_number

EXAMPLES = """
Examples:

- `stnrot demo photos`

- `stnrot demo outputs/train/2026-11-29/12-00-00 --port 8000`
"""


def demo(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="The model: the folder of a run of train.py, a folder that stnrot publish wrote, a checkpoint, or "
            "a model that is shipped: digits, or photos, which finds the upright of photographs.",
        ),
    ],
    port: Annotated[int | None, typer.Option(help="Port. Default: the first free one from 7860.")] = None,
    trust: Trust = None,
) -> int:
    """Serve a page, to this machine alone, on which one drops a picture and turns it.

    It shows the angle with its posterior on a dial, the picture rotated upright, and its class if the model has
    classes. A second tab aligns two pictures. Ctrl-C ends it; uploaded pictures are then removed.
    """
    if port is not None:
        check_number("port", port, 1, 65_535)
    from stnrot.demo.page import served
    from stnrot.prediction.predictor import load

    with served(load(model, trust=trust or ()), model, port) as url:
        print(f"open {url} in a browser; Ctrl-C ends", flush=True)
        threading.Event().wait()
    return 0
