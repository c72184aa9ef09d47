"""Train one model: python train.py model=rot_stn data=rotated_digits trainer=cpu key=value ..."""

import logging
import math
import shlex
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from stnrot.config_files import CONFIGS
from stnrot.errors import InputError
from stnrot.runs.atomic_write import atomic_write, sweep
from stnrot.runs.command_line import nothing_left, one_line, one_line_errors, remove_new
from stnrot.runs.overrides import as_override, switch_groups_off
from stnrot.runs.postponed_imports import import_lightning
from stnrot.runs.processes.launched import launched
from stnrot.runs.processes.meeting import meet
from stnrot.runs.processes.one_folder import only_the_first_logs
from stnrot.runs.processes.refused import tells_others
from stnrot.runs.processes.slurm import announcing_signal, has_run_in, is_preempted, note_job, requeue, requeued_run
from stnrot.runs.resume import LENGTH, OPTION, choices_of, log_as_hydra, resumed_config, to_resume
from stnrot.runs.run_lock import alone_in
from stnrot.runs.stop_signals import REQUEST, Stopped, is_first_process, stops_at_signals

if TYPE_CHECKING:
    import lightning as L

    from stnrot.data.datamodule import DataModule

log = logging.getLogger("train")


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="train")
def main(cfg: DictConfig) -> float:
    """Run one job; Hydra has composed its configuration and created its folder."""
    only_the_first_logs()
    if in_search(cfg):
        return train(cfg)  # the search records errors
    with (
        one_line_errors(),
        nothing_left(),
        alone_in(Path(cfg.output_dir)),
        stops_at_signals(announcing_signal(), partial(_say_how_to_resume, cfg)),
    ):
        try:
            # SLURM runs a job of a multirun again by submitit; `command` is not called then
            return train(cfg, resume=has_run_in(Path(cfg.output_dir)))
        except Exception as error:
            if HydraConfig.get().mode != RunMode.MULTIRUN:
                raise
            line = one_line(error)
            log.error("this job failed, the other jobs run: %s", line or error, exc_info=line is None)
            return math.nan


@dataclass(frozen=True)
class Job:
    """What a training consists of, ready to start.

    Args:
        checkpoint: path of the checkpoint that it continues.
        stands_at: the place at which that checkpoint was saved, see `LastCheckpoint`.
        steps: that it has taken.
        pruning: the callback that ends a trial of a search.
        config: the whole configuration, with its interpolations resolved.
    """

    trainer: "L.Trainer"
    task: "L.LightningModule"
    data: "DataModule"
    checkpoint: str | None
    stands_at: dict[str, Any]
    steps: int
    pruning: Any
    config: dict[str, Any]


def train(cfg: DictConfig, resume: bool = False) -> float:
    """Train, test the best checkpoint, and return the best value of the monitored metric on the validation set.

    Args:
        cfg: configuration of the job.
        resume: continue the run in the folder `cfg.output_dir`, whose own configuration this is.
    """
    # imported here and not above, so that --help and a mistyped option do not wait for torch and Lightning
    import_lightning()
    from stnrot.runs.log_position import rewind_logs
    from stnrot.runs.processes.lost_process import lost_connections
    from stnrot.runs.resumable import from_checkpoint

    folder = Path(cfg.output_dir)
    job = _built(cfg, folder, resume)
    before = set(folder.iterdir())
    if resume:
        log.info("resumes %s from %s", folder, job.checkpoint or "the beginning")
        if job.trainer.is_global_zero:
            (folder / "metrics.json").unlink(missing_ok=True)  # of the end that is no longer the end
        with from_checkpoint(job.checkpoint or folder):
            rewind_logs(job.trainer, job.stands_at["processes"][0]["logs"] if job.stands_at else {})
    if job.trainer.is_global_zero:
        with atomic_write(folder / "config.yaml") as new:
            OmegaConf.save(OmegaConf.create(job.config), new)
        note_job(folder)
    try:
        with lost_connections():
            _fit(job)
    except Exception as error:
        at_start = job.trainer.global_step in (0, job.steps) and job.trainer.is_global_zero
        if at_start and not resume and one_line(error) is not None:
            remove_new(folder, before)  # before its first step: there is nothing to look at
        raise
    with lost_connections():
        return _test(job, folder)


def _built(cfg: DictConfig, folder: Path, resume: bool) -> Job:
    """Check the configuration, and build the data, the task and the trainer."""
    import torch
    from lightning import seed_everything

    from stnrot.runs.allowed_targets import without_weights
    from stnrot.runs.checkpoints import read_checkpoint, weights_of
    from stnrot.runs.config_checks import check_folder, check_groups, check_model, check_options, check_processes
    from stnrot.runs.loop_state import KEY
    from stnrot.runs.precision import auto_precision
    from stnrot.runs.resumable import steps_taken
    from stnrot.runs.trainer import build_trainer

    check_groups(cfg, needed=("data", "model", "task", "trainer"))
    check_options(cfg)
    if cfg.trial is not None and not in_search(cfg):
        raise InputError(f"trial={cfg.trial}: only a search sets it; expected none, or -m hparams_search=...")
    if cfg.get("resume") is not None:
        raise InputError(f"resume={cfg.resume}: expected it on the command line of a single job, not in a file")
    ckpt_path = cfg.ckpt_path
    if resume:
        last = folder / "checkpoints" / "last.ckpt"
        ckpt_path = str(last) if last.is_file() else ckpt_path  # none before the first epoch: start again
    else:
        check_folder(folder, ckpt_path)
    sweep(folder)
    seed_everything(cfg.seed, workers=True, verbose=False)

    data: DataModule = instantiate(cfg.data, _convert_="all")
    cfg.data_spec = data.spec()
    check_model(cfg)
    if cfg.trainer.get("precision") == "auto":
        cfg.trainer.precision = auto_precision(cfg.trainer.get("accelerator", "auto"))
    log.info("precision: %s", cfg.trainer.get("precision"))
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]

    if not (ckpt_path is None and cfg.start_from is None):
        cfg.model = without_weights(config["model"])
    task: L.LightningModule = instantiate(cfg.task, _convert_="all", model=instantiate(cfg.model))
    task = task.to(memory_format=torch.channels_last)
    stands_at: dict[str, Any] = {}
    checkpoint: dict[str, Any] | None = None
    if ckpt_path is not None:
        checkpoint = read_checkpoint(ckpt_path)
        weights_of(checkpoint, task, ckpt_path)  # Lightning loads them; this checks them first
        stands_at = checkpoint.get(KEY) or {}
    elif cfg.start_from is not None:
        task.load_state_dict(weights_of(read_checkpoint(cfg.start_from), task, cfg.start_from))

    callbacks, pruning = _callbacks(cfg, config, choices_of(folder) if resume else chosen_options())
    trainer = build_trainer(cfg, callbacks)
    steps = 0 if checkpoint is None else steps_taken(trainer, checkpoint, ckpt_path)
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        check_processes(trainer.world_size, HydraConfig.get().launcher)
    data.check_processes(trainer.world_size)
    if trainer.world_size > 1:
        _log_batch(data, trainer)
    return Job(trainer, task, data, ckpt_path, stands_at, steps, pruning, config)


def _log_batch(data: "DataModule", trainer: "L.Trainer") -> None:
    """Say how many samples a step of the optimizer sees, and that the processes do not change the learning rate."""
    from stnrot.data.batch_samplers import full_batch
    from stnrot.data.rng import Split

    processes, samples = trainer.world_size, len(data.dataset(Split.TRAIN)) * data.repeats
    size = full_batch(data.batch_size, samples, processes)
    log.info(
        "%d processes, each with %d samples of a batch; a step of the optimizer sees %d samples; the learning rate is "
        "as given, because data.batch_size=%d counts the samples of all processes",
        processes,
        size // processes,
        min(size * trainer.accumulate_grad_batches, samples - samples % size),
        data.batch_size,
    )


def _callbacks(cfg: DictConfig, config: dict[str, Any], choices: dict[str, str]) -> tuple[list[Any], Any]:
    """Return the callbacks of the job, and among them the one that ends a trial of a search, or None."""
    from stnrot.callbacks.last_checkpoint import LastCheckpoint
    from stnrot.callbacks.run_config import RunConfig
    from stnrot.runs.trainer import switched_on

    callbacks = [RunConfig(config, choices), *switched_on(cfg, "callbacks")]
    if cfg.trainer.get("enable_checkpointing") is False:
        callbacks = [each for each in callbacks if not isinstance(each, LastCheckpoint)]
    if cfg.trial is None:
        return callbacks, None
    from stnrot.search.pruning import pruning_callback  # imports Optuna, which takes a second

    search = HydraConfig.get().sweeper
    pruning = pruning_callback(search.storage, search.study_name, cfg.trial, cfg.monitor.metric)
    return [*callbacks, pruning], pruning


def _fit(job: Job) -> None:
    """Train."""
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from stnrot.runs.resumable import restoring

    try:
        with restoring(job.checkpoint):
            job.trainer.fit(job.task, datamodule=job.data, ckpt_path=job.checkpoint, weights_only=True)
    except SIGTERMException as stopped:
        raise SystemExit(143) from stopped  # Lightning would exit with 0, as after a complete run
    if REQUEST.signal is not None:
        raise Stopped  # in the last steps: all is saved
    if job.pruning is not None:
        job.pruning.check_pruned()  # with several processes, only this call raises


def _test(job: Job, folder: Path) -> float:
    """Test the best checkpoint, or the last weights if there is none; return the best value in the validation."""
    from stnrot.runs.tables.multirun_table import FINISHED
    from stnrot.runs.trainer import has_tensorboard

    trainer = job.trainer
    best: Any = trainer.checkpoint_callback  # the first of the configuration, `best`; None without checkpoints
    chosen = getattr(best, "best_model_path", "") or None
    if chosen is None:
        log.info("there is no best checkpoint: the test uses the weights after step %d, the last", trainer.global_step)
    trainer.test(job.task, datamodule=job.data, ckpt_path=chosen, weights_only=True)
    log.info("%s: %s", FINISHED, folder)
    if has_tensorboard(trainer):
        log.info("to view them: tensorboard --logdir %s --samples_per_plugin images=1000", shlex.quote(str(folder)))
    score = getattr(best, "best_model_score", None)
    return math.nan if score is None else float(score)


def in_search(cfg: DictConfig) -> bool:
    """Return whether the job is a trial of a search."""
    return cfg.trial is not None and "storage" in HydraConfig.get().sweeper


def chosen_options() -> dict[str, str]:
    """Return the choice of each group of the configuration, such as model=rot_stn."""
    if not HydraConfig.initialized():
        return {}
    choices = HydraConfig.get().runtime.choices
    return {group: name for group, name in choices.items() if name and not group.startswith("hydra/")}


def resume_run(cfg: DictConfig) -> None:
    """Continue a run in its folder, without Hydra, which would compose another configuration and make another folder.

    The run's own files say whether it has ended: metrics.json is the last of them.
    """
    folder = Path(cfg.output_dir)
    sys.argv[1:] = [each if not each.startswith(OPTION) else as_override("resume", folder) for each in sys.argv[1:]]
    if (started := launched(cfg.trainer)) is not None:
        meet(started, str(folder))
    if is_first_process():
        log_as_hydra(folder)
    if (folder / "metrics.json").is_file() and not any(each.startswith(LENGTH) for each in sys.argv[1:]):
        log.info("%s has finished; to train it longer, add trainer.max_epochs=NUMBER", folder)
        return
    with alone_in(folder), stops_at_signals(announcing_signal(), partial(_say_how_to_resume, cfg)):
        train(cfg, resume=True)


def _say_how_to_resume(cfg: DictConfig) -> None:
    """Print the command that resumes the job, or let SLURM run it again."""
    folder = Path(cfg.output_dir)
    if is_first_process() and (folder / "config.yaml").is_file():
        if (REQUEST.requeues or is_preempted()) and requeue():
            log.info("SLURM has queued this job again: it will resume the run")
        log.info("stopped; this command resumes the run:")
        print(to_resume(folder), flush=True)


def command() -> None:
    """Run the command line `sys.argv`."""
    sys.argv = switch_groups_off(sys.argv, CONFIGS)
    with tells_others(), one_line_errors():
        if (before := requeued_run(sys.argv[1:])) is not None:
            sys.argv[1:] = [as_override("resume", before.resolve())]
        cfg = resumed_config(sys.argv[1:])
        if cfg is None:
            main()
        else:
            resume_run(cfg)


if __name__ == "__main__":  # Lightning starts the other processes of `stnrot train` by this file
    command()
