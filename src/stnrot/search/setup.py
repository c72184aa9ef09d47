"""How a search begins: what cannot work is refused before anything is written."""

from pathlib import Path
from typing import Any

import lightning as L
import optuna
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig

from hydra_plugins.stnrot_optuna import OptunaSweeper
from stnrot.errors import InputError
from stnrot.runs.command_line import check_processes
from stnrot.search.space import Space
from stnrot.search.storage import file_of, shown
from stnrot.search.study import SearchSpec, find_study, join_study


def prepare_study(sweeper: OptunaSweeper, space: Space) -> optuna.Study:
    """Return the study of the search, found again or made."""
    _check(sweeper)
    fixed = [override for override in space.fixed if not override.startswith("hparams_search=")]
    search = SearchSpec(sweeper.direction, sweeper.config.monitor.metric, space.description(), fixed)
    study = find_study(sweeper.storage, sweeper.study_name)
    if study is not None:
        search.check(study, sweeper.storage)
    folder = Path(sweeper.config.hydra.sweep.dir)
    if study is None or not study.get_trials(deepcopy=False):
        if any(folder.glob("*/checkpoints")):
            raise InputError(
                f"{folder} holds the trials of a study that is not in {shown(sweeper.storage)}: give its storage, or "
                "choose another hydra.sweeper.study_name"
            )
        _dry_run(sweeper, space)
    file = file_of(sweeper.storage)
    if file is not None and file.parent.resolve() == folder.resolve():
        folder.mkdir(parents=True, exist_ok=True)
    return join_study(sweeper.storage, sweeper.study_name, search)


def _check(sweeper: OptunaSweeper) -> None:
    """Refuse options that do not go together."""
    monitor = sweeper.config.monitor
    if monitor.mode not in ("min", "max"):
        raise InputError(f"monitor.mode={monitor.mode}: expected min or max")
    if sweeper.direction != f"{monitor.mode}imize":
        raise InputError(
            f"hydra.sweeper.direction={sweeper.direction}: expected {monitor.mode}imize, as monitor.mode={monitor.mode}"
        )
    if not monitor.metric.startswith("val/"):
        raise InputError(f"monitor.metric={monitor.metric}: a search chooses by the validation, expected val/...")
    for key in ("ckpt_path", "start_from"):
        if (path := sweeper.config[key]) is not None:
            raise InputError(f"{key}={path}: a search trains each trial anew, expected no checkpoint")
    sweeper.sampler_of(0)  # or it says why not


def _dry_run(sweeper: OptunaSweeper, space: Space) -> None:
    """Compose configurations that have between them every choice, and run a batch of one.

    Refuse a metric that the validation does not report, in the first that can be built. If none can, raise why.
    """
    load, config = sweeper.hydra_context.config_loader.load_sweep_config, sweeper.config
    configs = [load(config, [*overrides, "trial=0"]) for overrides in space.examples(config)]
    for each in configs:
        if isinstance(each.trainer.devices, int):
            check_processes(each.trainer.devices * each.trainer.get("num_nodes", 1), config.hydra.launcher)
    metric = config.monitor.metric
    failure: Exception | None = None
    for each in configs:
        try:
            known = _reported(each)
        except (InputError, HydraException) as error:
            failure = failure or error
            continue
        if metric not in known:
            raise InputError(f"monitor.metric={metric}: expected what the validation reports, {', '.join(known)}")
        return
    assert failure is not None
    raise failure


def _reported(config: DictConfig) -> list[str]:
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
