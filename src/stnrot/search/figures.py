"""Optuna's figures of a study, as PNG files."""

import warnings
from pathlib import Path
from typing import Any

import matplotlib
import optuna

from stnrot.runs.atomic_write import atomic_write

LARGEST = 40  # inches of a side


def save_figures(study: optuna.Study, folder: Path, metric: str) -> list[Path]:
    """Save the optimization history and the parallel coordinates of a study; return their paths.

    A study without a completed trial has no figures.
    """
    if not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)):
        return []
    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    paths = []
    for name, plot in (("history", plots.plot_optimization_history), ("parallel", plots.plot_parallel_coordinate)):
        # a name may hold a dollar sign, or be so long that the picture would grow with it beyond all bounds
        with warnings.catch_warnings(), matplotlib.rc_context({"text.parse_math": False}):
            warnings.simplefilter("ignore")  # the functions are experimental; an axis with one value gives a warning
            figure: Any = plot(study, target_name=metric).get_figure()
            figure.set_size_inches(12, 6)
            paths.append(folder / f"{name}.png")
            with atomic_write(paths[-1]) as new:
                small = max(figure.get_tightbbox().size) < LARGEST
                figure.savefig(new, format="png", bbox_inches="tight" if small else None)
        pyplot.close(figure)
    return paths
