"""`stnrot report`: a page about runs."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stnrot.commands.new_file import check_new_file
from stnrot.errors import InputError, needs_extra
from stnrot.printed import printable

if TYPE_CHECKING:
    from stnrot.report.run_folder import Run

EXAMPLES = """
Examples:

- `stnrot report outputs/train/2026-11-29/12-00-00`

- `stnrot report outputs/train/2026-11-29/12-00-00-multirun/*/ --out seeds.html`

- `stnrot report outputs/evaluate/2026-11-29/12-30-00 --out report.html --overwrite`

- `stnrot report outputs/train/2026-11-29/*/ --json`
"""


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders of runs of train.py or evaluate.py, finished or not."),
    ],
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics of the runs as JSON.")] = False,
) -> int:
    """Write one HTML page about one or several runs, side by side.

    The page has the numbers, the curves, accuracy and error by angle, a reliability diagram, and of each run the
    confusion matrix, a sample of aligned images, the worst cases and its figures. Images are inside the file. It loads
    nothing, so it can be sent, printed, and read offline and on a phone.
    """
    check_new_file(out, overwrite)
    with needs_extra("stnrot report"):
        from stnrot.report.page import page
        from stnrot.report.run_folder import read_run
        from stnrot.runs.atomic_write import atomic_write
        from stnrot.runs.tables.growing_table import progress_bar

        found = [read_run(run) for run in runs]
        try:
            with progress_bar(len(found), 0, "report") as progress:
                text = page(found, after_run=lambda: progress.advance(progress.task_ids[0]))
        except OSError as error:
            raise InputError(f"a file of a run cannot be read: {error}") from error
    for run in found:
        if not (run.finished or as_json):
            print(printable(f"{run.folder} is not finished: the report has what there is"))
    try:
        with atomic_write(out) as new:
            new.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of files
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error}; choose another") from error
    if as_json:
        print(json.dumps({"report": str(out), "runs": [_numbers(run) for run in found]}))
    else:
        print(printable(f"written: {out}"))
    return 0


def _numbers(run: "Run") -> dict[str, Any]:
    from stnrot.report.curves import metrics_so_far

    metrics = {name: value if math.isfinite(value) else None for name, value in metrics_so_far(run).items()}
    return {"folder": str(run.folder), "finished": run.finished, "metrics": metrics}
