"""Test a trained run, or an ensemble of runs: python evaluate.py ckpt=PATH|latest data=..."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from stnrot.config_files import CONFIGS
from stnrot.errors import InputError, check_choice
from stnrot.runs.atomic_write import atomic_write
from stnrot.runs.command_line import nothing_left, one_line_errors
from stnrot.runs.earlier_run import check_results
from stnrot.runs.overrides import switch_groups_off
from stnrot.runs.postponed_imports import import_lightning
from stnrot.runs.processes.one_folder import only_the_first_logs
from stnrot.runs.processes.refused import tells_others

if TYPE_CHECKING:
    from stnrot.data.datamodule import DataModule
    from stnrot.tasks.register import Register

log = logging.getLogger("evaluate")


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Run one evaluation; Hydra has composed its configuration and created its folder."""
    only_the_first_logs()
    with one_line_errors(), nothing_left():
        evaluate(cfg)


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Rebuild the runs, test them, write metrics.json, predictions.csv and figures, and return the metrics."""
    # imported here and not above, so that --help and a mistyped option do not wait for torch and Lightning
    import_lightning()
    import torch

    from stnrot.callbacks.leak_check import LeakCheck
    from stnrot.runs.allowed_targets import check_targets
    from stnrot.runs.checkpoints import read_checkpoint, rebuild
    from stnrot.runs.config_checks import check_groups, check_root
    from stnrot.runs.find_checkpoints import check_differ_in_seed, find_checkpoints
    from stnrot.runs.processes.lost_process import lost_connections
    from stnrot.runs.trainer import build_trainer, switched_on
    from stnrot.runs.trainer_options import check_trainer

    check_results(Path(cfg.output_dir))
    check_groups(cfg, needed=("trainer",))
    check_trainer(cfg.trainer)
    check_choice("leak", cfg.leak, True, False)
    if cfg.trainer.get("limit_test_batches") == 0:
        raise InputError("trainer.limit_test_batches=0: there is nothing to test, expected more than 0")
    if OmegaConf.select(cfg, "ckpt") is None:
        raise InputError("ckpt is not set: expected latest or the path of a checkpoint")
    paths = find_checkpoints(cfg.ckpt)
    for path in paths:
        log.info("checkpoint: %s", path)
    checkpoints = [read_checkpoint(path) for path in paths]
    configs: list[dict[str, Any]] = [checkpoint["config"] for checkpoint in checkpoints]
    check_differ_in_seed(configs, paths)

    cfg.seed = configs[0]["seed"]
    if "_target_" not in cfg.data:  # no other data was chosen: take the data of the run, with the given keys changed
        check_targets(configs[0]["data"], "data", cfg.trust)
        check_root(configs[0]["data"], cfg.data)
        cfg.data = OmegaConf.merge(configs[0]["data"], cfg.data)
    data: DataModule = instantiate(cfg.data, _convert_="all")
    for path, config in zip(paths, configs, strict=True):
        data.check_trained_on(config["data_spec"], config["model"], path)

    tasks = [rebuild(checkpoint, path, cfg.trust) for checkpoint, path in zip(checkpoints, paths, strict=True)]
    task = tasks[0] if len(tasks) == 1 else ensemble(tasks)
    task = task.to(memory_format=torch.channels_last)  # as in training, so that results are equal to the last bit
    if cfg.trainer.get("precision") == "auto":
        cfg.trainer.precision = configs[0]["trainer"].get("precision")  # that of the run's own test
    callbacks = switched_on(cfg, "callbacks")
    if cfg.leak:
        callbacks.append(LeakCheck(cfg.output_dir))
    trainer = build_trainer(cfg, callbacks)
    with lost_connections():
        metrics = trainer.test(task, datamodule=data)[0]
    if trainer.is_global_zero:
        tested = {"ckpt": [str(path) for path in paths], "data": OmegaConf.to_container(cfg.data, resolve=True)}
        with atomic_write(Path(cfg.output_dir) / "config.yaml") as new:
            OmegaConf.save(OmegaConf.create(configs[0] | tested), new)
    log.info("results: %s", cfg.output_dir)
    return dict(metrics)


def ensemble(tasks: list[Any]) -> "Register":
    """Return the first task with an ensemble of all models in the place of its model."""
    from stnrot.models.ensemble import Ensemble
    from stnrot.tasks.register import Register

    task = tasks[0]
    if not isinstance(task, Register):
        raise InputError(
            f"ckpt matches {len(tasks)} runs of {type(task).__name__}: expected one checkpoint, because only models of "
            "images form an ensemble"
        )
    task.model = Ensemble([each.model for each in tasks], same_upright=not task.angle_error.relative).eval()
    return task


def command() -> None:
    """Run the command line `sys.argv`."""
    sys.argv = switch_groups_off(sys.argv, CONFIGS)
    with tells_others(), one_line_errors():
        main()


if __name__ == "__main__":  # Lightning starts the other processes of `stnrot evaluate` by this file
    command()
