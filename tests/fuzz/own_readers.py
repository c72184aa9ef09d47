"""What reads files that this project writes, and that may come from anyone: studies, states of trainings, runs."""

import io
import json
import shutil
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
import yaml
from readers import OLD, Reader, tried


def study() -> Reader:
    """A report, and a search that continues, of SQLite and of a journal."""
    import optuna

    from stnrot.search.heartbeat import StaleTrials, machine
    from stnrot.search.report import report
    from stnrot.search.study import SearchSpec, find_study, join_study
    from stnrot.search.trials import REASON, RETRY_OF, WORKER, counted

    spec = SearchSpec("minimize", "val/nll", {"x": "1 to 9"}, ["model=cnn"])

    def draw(trial: optuna.Trial) -> None:
        trial.suggest_float("x", 1, 9, log=True)
        trial.suggest_int("n", 1, 9)
        trial.suggest_categorical("act", ["relu", 1, True])

    files, folder = {}, tempfile.TemporaryDirectory()
    for name in ("a.db", "a.journal"):
        path = Path(folder.name, name)
        location = f"sqlite:///{path}" if path.suffix == ".db" else str(path)
        found = join_study(location, "one", spec)
        found.sampler = optuna.samplers.RandomSampler(seed=0)
        for k in range(6):
            trial = found.ask()
            draw(trial)
            trial.set_user_attr(WORKER, {"machine": machine(), "process": 2**22 + 1, "alive": 1.5, "seconds": 60.0})
            trial.report(0.5, 1)
            if k < 3:
                found.tell(trial, k / 2)
            elif k == 3:
                trial.set_user_attr(REASON, "x=1: expected 2")
                found.tell(trial, state=optuna.trial.TrialState.FAIL)
        found.enqueue_trial({"x": 2.0}, user_attrs={RETRY_OF: 3})
        files[name] = path.read_bytes()

    def read(path: Path) -> None:
        location = f"sqlite:///{path}" if path.suffix == ".db" else str(path)
        found = find_study(location, None)
        if found is not None:
            with redirect_stdout(io.StringIO()):
                report(found, path.parent)
        found = join_study(location, "one", spec)
        found.sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=2)
        StaleTrials(found).retry()
        draw(found.ask())
        counted(found.trials)

    return Reader(files, read)


def resumed() -> Reader:
    """The training state of a checkpoint, in the smallest training: it resumes, and takes the rest of an epoch."""
    from functools import partial

    import lightning as L
    from torch import nn
    from torch.utils.data import DataLoader
    from torchmetrics import MeanMetric

    from stnrot.callbacks.best_checkpoint import BestCheckpoint
    from stnrot.callbacks.last_checkpoint import LastCheckpoint
    from stnrot.runs.checkpoints import AtomicCheckpointIO, read_checkpoint, weights_of
    from stnrot.runs.resumable import restoring, steps_taken
    from stnrot.tasks.base import Task

    class Small(Task):
        def __init__(self) -> None:
            schedule = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1)
            super().__init__(nn.Linear(2, 1), partial(torch.optim.AdamW, lr=0.1), schedule)
            self.mean = MeanMetric()

        def training_step(self, batch: Any, k: int) -> Any:
            loss = self.model(batch).square().mean()
            self.mean(loss)
            self.log("train/mean", self.mean, on_epoch=True, on_step=False)
            self.log("train/loss", loss, on_epoch=True)
            return loss

        def measure(self, batch: Any, split: Any) -> Any: ...

        def report(self, *arguments: Any) -> None: ...

        def validation_step(self, batch: Any, k: int) -> None:
            self.log("val/loss", self.model(batch).square().mean())

    config = {name: {} for name in ("model", "task", "data", "data_spec")}
    config |= {"seed": 1, "trainer": {"_target_": "lightning.Trainer"}}

    def train(last: LastCheckpoint, path: str | None = None) -> None:
        best = BestCheckpoint(str(last.path.parent), "best", monitor="val/loss")
        options: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
        trainer = L.Trainer(
            accelerator="cpu", max_epochs=2, callbacks=[last, best], plugins=[AtomicCheckpointIO()], **options
        )
        task = Small()
        if path is not None:
            saved = read_checkpoint(path)
            weights_of(saved, task, path)
            steps_taken(trainer, saved, path)
        loaders = [DataLoader([torch.ones(2)] * 4, batch_size=1) for _ in range(2)]
        with restoring(path):
            trainer.fit(task, *loaders, ckpt_path=path, weights_only=True)

    files: dict[str, bytes] = {}

    class Kept(LastCheckpoint):
        """Keeps the newest file of each place."""

        def save(self, trainer: L.Trainer, place: Any) -> None:
            super().save(trainer, place)
            file = io.BytesIO()
            torch.save(torch.load(self.path, weights_only=True) | {"config": config}, file)
            files[f"{place}.ckpt"] = file.getvalue()

    with tempfile.TemporaryDirectory() as folder:
        train(Kept(folder, 2, None))
    return Reader(files, lambda path: train(LastCheckpoint(str(path.parent / "run"), 2, None), str(path)))


def run_folder() -> Reader:
    """The files of a run: its report, and what a resumed run reads of them."""
    from stnrot.report.page import page
    from stnrot.report.run_folder import read_run
    from stnrot.runs.metrics_table import MetricsTable
    from stnrot.runs.resume import choices_of, resumed_config

    rows = [f"{k},{k % 10},{(k + k // 4) % 10},0.{k + 10},{k}.5,{k}.25,0.25\n" for k in range(20)]
    columns = ("index", "class", "predicted_class", "confidence", "angle_deg", "predicted_angle_deg", "angle_error_deg")
    epochs = [f"{k},{k * 9},1.5,0.{k}\n" for k in range(5)]
    options = ["model=cnn", "trainer.max_epochs=3"]
    runtime = {"cwd": "/old", "choices": {"model": "cnn", "data": "rotated_digits", "hydra/launcher": "basic"}}
    places = {
        "config.yaml": ("", (OLD.parent / "before_0_4" / "config.yaml").read_text()),
        "overrides.yaml": (".hydra", yaml.safe_dump(options)),
        "hydra.yaml": (".hydra", yaml.safe_dump({"hydra": {"runtime": runtime, "overrides": {"task": options}}})),
        "metrics.csv": ("csv/version_0", "epoch,step,train/loss,val/nll\n" + "".join(epochs)),
        "metrics.json": ("", json.dumps({"test/accuracy": 0.75, "test/nll": 1.25, "val/nll": 0.5})),
        "predictions.csv": ("", ",".join(columns) + "\n" + "".join(rows)),
    }

    def read(path: Path) -> None:
        folder = path.parent / "run"
        shutil.rmtree(folder, ignore_errors=True)
        for name, (below, text) in places.items():
            (folder / below).mkdir(parents=True, exist_ok=True)
            (folder / below / name).write_bytes(path.read_bytes() if path.name.endswith(name) else text.encode())
        for call in (
            lambda: page([read_run(folder)]),
            lambda: resumed_config([f"resume={folder}", "trainer.max_epochs=9"]),
            lambda: choices_of(folder),
            lambda: MetricsTable(str(folder), "csv").rewind({"rows": 3, "columns": ["epoch", "step", "val/nll"]}),
        ):
            tried(call)

    return Reader({name: text.encode() for name, (_, text) in places.items()}, read)


OWN_READERS = {each.__name__: each for each in (study, resumed, run_folder)}
