"""Optuna's figures of a study, as PNG files."""

import warnings
from pathlib import Path
from typing import Any

import matplotlib
import optuna

from stnrot.runs.atomic_write import atomic_write


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the functions are experimental; an axis with one value gives a warning
            figure: Any = plot(study, target_name=metric).get_figure()
        figure.set_size_inches(12, 6)
        paths.append(folder / f"{name}.png")
        with atomic_write(paths[-1]) as new:
            figure.savefig(new, format="png", bbox_inches="tight")
        pyplot.close(figure)
    return paths
