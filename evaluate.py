"""Test a trained run, or several as one, again or on other data: python evaluate.py ckpt=PATH|latest data=..."""

import glob
import logging
from pathlib import Path
from typing import Any

import hydra
import lightning as L
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from stnrot.data.datamodule import DataModule
from stnrot.errors import InputError
from stnrot.models.ensemble import Ensemble
from stnrot.runs.checkpoints import AtomicCheckpointIO, check_targets, read_checkpoint, rebuild
from stnrot.runs.command_line import check_groups, one_line_errors, quiet_libraries
from stnrot.tasks.register import Register

log = logging.getLogger("evaluate")


@hydra.main(version_base="1.3", config_path="configs", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Run one evaluation; Hydra has composed its configuration and made its folder."""
    with one_line_errors():
        evaluate(cfg)


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Rebuild runs from their checkpoints, test them, write metrics.json, predictions.csv and pictures."""
    if (Path(cfg.output_dir) / "metrics.json").exists():
        raise InputError(f"{cfg.output_dir} holds the results of another run: choose another hydra.run.dir")
    check_groups(cfg)
    paths = find(cfg.ckpt)
    checkpoints = [read_checkpoint(path) for path in paths]
    run: dict[str, Any] = checkpoints[0]["config"]
    for path in paths:
        log.info("checkpoint: %s", path)
    check_alike(checkpoints, paths)

    cfg.seed = run["seed"]
    if "_target_" not in cfg.data:  # the run's own data, with what the command line changed of it
        check_targets(run["data"])
        cfg.data = OmegaConf.merge(run["data"], cfg.data)
    data: DataModule = instantiate(cfg.data, _convert_="all")
    tasks = []
    for path, checkpoint in zip(paths, checkpoints, strict=True):
        data.check_trained_on(checkpoint["config"]["data_spec"], checkpoint["config"]["model"], path)
        tasks.append(rebuild(checkpoint, path))
    if len(tasks) > 1 and not isinstance(tasks[0], Register):
        raise InputError(f"ckpt={cfg.ckpt}: only models of pictures can be tested as one, expected a single checkpoint")
    if len(tasks) > 1:
        tasks[0].model = Ensemble([task.model for task in tasks], not tasks[0].angle_error.relative).eval()
    task = tasks[0].to(memory_format=torch.channels_last)  # as in training, to the last bit
    if cfg.trainer.precision == "auto":  # the precision that the run's own test had
        cfg.trainer.precision = run["trainer"]["precision"]
    trainer: L.Trainer = instantiate(
        cfg.trainer,
        callbacks=list(filter(None, instantiate(cfg.callbacks).values())),
        logger=False,
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=cfg.callbacks.get("progress") is not None,
    )
    metrics = trainer.test(task, datamodule=data)[0]
    log.info("results: %s", cfg.output_dir)
    return dict(metrics)


def find(ckpt: str) -> list[Path]:
    """Return the checkpoints that were asked for: one, or all that a pattern matches."""
    if ckpt == "latest":
        return [latest()]
    if Path(ckpt).exists() or glob.escape(ckpt) == ckpt:
        return [Path(ckpt)]
    found = sorted(Path(path) for path in glob.glob(ckpt))
    if not found:
        raise InputError(f"ckpt={ckpt} matches no file: expected checkpoints such as a sweep's */checkpoints/best.ckpt")
    return found


def latest() -> Path:
    """Return the best checkpoint of the newest run."""
    found = sorted(Path("outputs/train").glob("**/checkpoints/best.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError("ckpt=latest: no run below outputs/train has a best.ckpt; train one, or give a path")
    return found[-1]


def check_alike(checkpoints: list[dict[str, Any]], paths: list[Path]) -> None:
    """Refuse to average runs that differ in what was trained, on what and how, or not even in their seed."""
    seeds: list[int] = []
    first = _what_counts(checkpoints[0]["config"])
    for path, checkpoint in zip(paths, checkpoints, strict=True):
        other = _what_counts(checkpoint["config"])
        for name in sorted(first.keys() | other.keys()):
            if first.get(name) != other.get(name):
                raise InputError(
                    f"the runs differ in {name}: {first.get(name)} in {paths[0]}, {other.get(name)} in {path}: "
                    "expected runs that differ in their seed alone"
                )
        seeds.append(checkpoint["config"]["seed"])
        if seeds[-1] in seeds[:-1]:
            raise InputError(f"{path} has the seed {seeds[-1]} of a run before it: expected runs of other seeds")


def _what_counts(config: dict[str, Any]) -> dict[str, Any]:
    sections = {f"{part}.{name}": value for part in ("model", "data", "task") for name, value in config[part].items()}
    trained = {f"trainer.{name}": config["trainer"][name] for name in ("max_epochs", "precision")}
    return {n: v for n, v in sections.items() if n not in ("data.seed", "data.root", "data.num_workers")} | trained


if __name__ == "__main__":
    quiet_libraries()
    with one_line_errors():
        main()
