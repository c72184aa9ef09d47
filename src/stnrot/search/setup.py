"""The start of a search: check the options, try one batch, then open the study."""

from pathlib import Path
from typing import Any

import lightning as L
import optuna
from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig

from stnrot.errors import InputError
from stnrot.runs.config_checks import check_processes
from stnrot.search.config import SearchConfig
from stnrot.search.space import Space
from stnrot.search.storage import file_of, without_password
from stnrot.search.study import SearchSpec, find_study, join_study


def prepare_study(search: SearchConfig, space: Space, job: DictConfig, loader: ConfigLoader) -> optuna.Study:
    """Find or create the study of a search.

    Args:
        search: the options of the search.
        space: the search space.
        job: the configuration of the jobs, without the overrides of a trial.
        loader: composes the configuration of a trial.

    Raises:
        InputError: if an option is wrong or the study belongs to another search; nothing has been written then.
    """
    _check(search, job)
    fixed = [override for override in space.fixed if not override.startswith("hparams_search=")]
    spec = SearchSpec(search.direction, job.monitor.metric, space.description(), fixed)
    study = find_study(search.storage, search.study_name)
    if study is not None:
        spec.check(study, search.storage)
    folder = Path(job.hydra.sweep.dir)
    if study is None or not study.get_trials(deepcopy=False):
        if any(folder.glob("*/checkpoints")):
            raise InputError(
                f"{folder} holds the trials of a study that is not in {without_password(search.storage)}: set "
                "hydra.sweeper.storage to the storage of that study, or choose another hydra.sweeper.study_name"
            )
        dry_run(space, job, loader)
    file = file_of(search.storage)
    if file is not None and file.parent.resolve() == folder.resolve():
        folder.mkdir(parents=True, exist_ok=True)
    return join_study(search.storage, search.study_name, spec)


def _check(search: SearchConfig, job: DictConfig) -> None:
    """Raise InputError if options contradict each other."""
    monitor = job.monitor
    if monitor.mode not in ("min", "max"):
        raise InputError(f"monitor.mode={monitor.mode}: expected min or max")
    if search.direction != f"{monitor.mode}imize":
        raise InputError(
            f"hydra.sweeper.direction={search.direction}: expected {monitor.mode}imize, as monitor.mode={monitor.mode}"
        )
    if not str(monitor.metric).startswith("val/"):
        raise InputError(f"monitor.metric={monitor.metric}: a search compares validation metrics, expected val/...")
    for key in ("ckpt_path", "start_from"):
        if (path := job[key]) is not None:
            raise InputError(f"{key}={path}: a search trains each trial from the start, expected no checkpoint")
    search.sampler_for(0)  # raises InputError if the sampler cannot be built


def dry_run(space: Space, job: DictConfig, loader: ConfigLoader) -> None:
    """Compose configurations that cover every choice of the space, and validate one batch with one of them.

    That is the first that can be built.

    Raises:
        InputError: if the validation does not report the metric of the search, or if no configuration can be built.
    """
    configs = [loader.load_sweep_config(job, [*overrides, "trial=0"]) for overrides in space.examples(job)]
    for config in configs:
        if isinstance(config.trainer.devices, int):
            check_processes(config.trainer.devices * config.trainer.get("num_nodes", 1), job.hydra.launcher)
    metric = job.monitor.metric
    failure: Exception | None = None
    for config in configs:
        try:
            reported = _reported_metrics(config)
        except (InputError, HydraException) as error:
            failure = failure or error
            continue
        if metric not in reported:
            raise InputError(f"monitor.metric={metric}: expected a metric of the validation, {', '.join(reported)}")
        return
    assert failure is not None
    raise failure


def _reported_metrics(config: DictConfig) -> list[str]:
    data: Any = instantiate(config.data, _convert_="all")
    config.data_spec = data.spec()
    task: L.LightningModule = instantiate(config.task, model=instantiate(config.model))
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        limit_val_batches=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.validate(task, datamodule=data, verbose=False)
    return sorted(trainer.callback_metrics)
