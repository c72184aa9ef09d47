"""Train one model: python train.py model=rot_stn data=rotated_digits trainer=cpu key=value ..."""

import logging
import math
import shlex
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from stnrot.config_files import CONFIGS
from stnrot.errors import InputError
from stnrot.jobs.build import Job, build, in_search
from stnrot.runs.atomic_write import atomic_write
from stnrot.runs.command_line import nothing_left, one_line, one_line_errors, remove_new
from stnrot.runs.overrides import as_override, switch_groups_off
from stnrot.runs.postponed_imports import import_lightning
from stnrot.runs.processes.launched import launched
from stnrot.runs.processes.meeting import meet
from stnrot.runs.processes.one_folder import only_the_first_logs
from stnrot.runs.processes.refused import tells_others
from stnrot.runs.processes.slurm import announcing_signal, has_run_in, is_preempted, note_job, requeue, requeued_run
from stnrot.runs.resume import LENGTH, OPTION, log_as_hydra, resumed_config, to_resume
from stnrot.runs.run_lock import alone_in
from stnrot.runs.stop_signals import REQUEST, is_first_process, stops_at_signals

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
    job = build(cfg, folder, resume)
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


def _fit(job: Job) -> None:
    """Train."""
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from stnrot.runs.resumable import restoring

    try:
        with restoring(job.checkpoint):
            job.trainer.fit(job.task, datamodule=job.data, ckpt_path=job.checkpoint, weights_only=True)
    except SIGTERMException as stopped:
        raise SystemExit(143) from stopped  # Lightning would exit with 0, as after a complete run
    REQUEST.check()  # in the last steps: all is saved
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


def resume_run(cfg: DictConfig) -> None:
    """Continue a run in its folder, without Hydra, which would compose another configuration and make another folder.

    The run's own files say whether it has ended: metrics.json is the last of them.
    """
    folder = Path(cfg.output_dir)
    sys.argv[1:] = [each if not each.startswith(OPTION) else as_override("resume", folder) for each in sys.argv[1:]]
    if (started := launched(cfg.trainer)) is not None:
        first = meet(started, str(folder))
        if first != str(folder):
            raise InputError(
                f"this process would resume {folder}, and the first process of the job {first}: expected one run for "
                "all; give the folder instead of latest, resume=FOLDER"
            )
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
        started = None
        with suppress(InputError):  # one process in a reservation of several
            started = launched(cfg.trainer)
        by = "" if started is None else f", started {'' if started.by == 'by hand' else 'by '}{started.by} as before"
        log.info("stopped; this command resumes the run%s:", by)
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
