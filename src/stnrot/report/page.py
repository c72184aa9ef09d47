"""The page: its sections, and the template that draws them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version

from jinja2 import Environment, PackageLoader, StrictUndefined

from stnrot.report import by_angle, confusion, curves, overview, reliability, samples, saved_figures
from stnrot.report.blocks import Block, Gallery, Note, Section
from stnrot.report.predictions import Predictions, read_predictions
from stnrot.report.run_folder import Run
from stnrot.report.svg import style

DRAWN = {"alignment", "angle_error", "accuracy_by_angle", "confusion"}  # figures that the page draws itself
WITHOUT_PREDICTIONS = ("EstimatePose", "FindRotation")  # tasks that write no predictions.csv


def page(runs: Sequence[Run], after_run: Callable[[], object] = lambda: None) -> str:
    """Return the report on one or several runs, as one HTML page that needs no other file.

    `after_run` is called after the sections of each run, which take the most time.
    """
    names = overview.names_of(runs)
    read = {name: read_predictions(run) for name, run in zip(names, runs, strict=True)}
    with style():
        sections = [*_of_all(runs, names, read), *_of_each(runs, names, read, after_run)]
    environment = Environment(
        loader=PackageLoader("stnrot.report", "page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    title = f"{len(runs)} runs" if len(runs) > 1 else str(runs[0].folder)
    return environment.get_template("report.html").render(
        title=title, sections=[each for each in sections if each and each.blocks], version=version("stnrot")
    )


def _of_all(runs: Sequence[Run], names: Sequence[str], read: Mapping[str, Predictions | str]) -> list[Section | None]:
    found = {name: each for name, each in read.items() if isinstance(each, Predictions)}
    return [
        overview.what_ran(runs),
        overview.numbers(runs),
        overview.differences(runs),
        curves.section(runs, names),
        by_angle.section(found, names),
        reliability.section(found, names),
    ]


def _of_each(
    runs: Sequence[Run], names: Sequence[str], read: Mapping[str, Predictions | str], after_run: Callable[[], object]
) -> Iterator[Section]:
    for run, name in zip(runs, names, strict=True):
        yield _of_a_run(run, name, read[name])
        after_run()


def _of_a_run(run: Run, name: str, found: Predictions | str) -> Section:
    """Return confusion matrix, samples, worst cases and figures of a run."""
    title = f"{name[0].upper()}{name[1:]}: {run.folder}"
    if isinstance(found, Predictions):
        blocks = confusion.blocks(run, found) + samples.blocks(run, found)
        with_images = any(isinstance(each, Gallery) for each in blocks)
        return Section(title, blocks + saved_figures.blocks(run, DRAWN if with_images else DRAWN - {"alignment"}))
    blocks = saved_figures.blocks(run, ())
    return Section(title, blocks if run.task in WITHOUT_PREDICTIONS else [_without_predictions(run, found), *blocks])


def _without_predictions(run: Run, reason: str) -> Block:
    lost = "so by angle, reliability, confusion matrix and worst cases are left out"
    if not run.finished:
        return Note(f"The run is not finished: {reason} yet, {lost}.")
    return Note(f"{reason[0].upper()}{reason[1:]}: {lost}. To get them, report on what this writes:", run.to_evaluate())
