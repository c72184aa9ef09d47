"""Every option of Lightning's Trainer works in a job, or is refused in one line."""

import inspect
import math
from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
from conftest import NO_FIGURES, SMALL, composed, metrics_of, rows

from stnrot.runs.command_line import one_line
from stnrot.tasks.classify import Classify

Job = Callable[..., tuple[float, Path]]
SMALLEST = ("model=cnn", "model.classifier.width=4", "data.batch_size=50", NO_FIGURES)  # two steps an epoch
TWO_EPOCHS = "trainer.max_epochs=2"

# options that must not change a number of the run
NEUTRAL: dict[str, list[str]] = {
    "accelerator": ["trainer.accelerator=auto", "~trainer.accelerator"],
    "strategy": ["+trainer.strategy=auto", "+trainer.strategy=single_device"],
    "devices": ["trainer.devices=1", "trainer.devices=auto", "~trainer.devices"],
    "num_nodes": ["+trainer.num_nodes=1"],
    "precision": ["trainer.precision=32", "trainer.precision='32'", "trainer.precision=null", "~trainer.precision"],
    "logger": ["+trainer.logger=null"],
    "callbacks": ["+trainer.callbacks=null"],
    "fast_dev_run": ["+trainer.fast_dev_run=false"],
    "min_epochs": ["+trainer.min_epochs=1"],
    "max_steps": ["+trainer.max_steps=-1"],
    "min_steps": ["+trainer.min_steps=2"],
    "max_time": ["+trainer.max_time=01:00:00:00", "+trainer.max_time={hours:1}"],
    "limit_train_batches": ["+trainer.limit_train_batches=1.0", "+trainer.limit_train_batches=2"],
    "limit_val_batches": ["+trainer.limit_val_batches=1.0"],
    "limit_test_batches": ["+trainer.limit_test_batches=1.0"],
    "limit_predict_batches": ["+trainer.limit_predict_batches=0", "+trainer.limit_predict_batches=0.5"],
    "overfit_batches": ["+trainer.overfit_batches=0"],
    "check_val_every_n_epoch": ["+trainer.check_val_every_n_epoch=1", "+trainer.check_val_every_n_epoch=null"],
    "num_sanity_val_steps": ["trainer.num_sanity_val_steps=2", "trainer.num_sanity_val_steps=-1"],
    "log_every_n_steps": ["trainer.log_every_n_steps=1", "trainer.log_every_n_steps=0"],
    "enable_checkpointing": ["+trainer.enable_checkpointing=true"],
    "enable_progress_bar": ["+trainer.enable_progress_bar=false", "+trainer.enable_progress_bar=true"],
    "enable_model_summary": ["+trainer.enable_model_summary=false", "+trainer.enable_model_summary=true"],
    "accumulate_grad_batches": ["+trainer.accumulate_grad_batches=1"],
    "gradient_clip_val": ["trainer.gradient_clip_val=null"],
    "gradient_clip_algorithm": ["+trainer.gradient_clip_algorithm=norm"],
    "deterministic": ["+trainer.deterministic=true", "+trainer.deterministic=warn"],
    "benchmark": ["+trainer.benchmark=true"],
    "inference_mode": ["+trainer.inference_mode=false"],
    "use_distributed_sampler": ["trainer.use_distributed_sampler=false"],
    "profiler": ["+trainer.profiler=simple", "+trainer.profiler=advanced", "+trainer.profiler=pytorch"],
    "detect_anomaly": ["+trainer.detect_anomaly=true"],
    "barebones": ["+trainer.barebones=false"],
    "plugins": ["trainer.plugins=null", "trainer.plugins=[]", "~trainer.plugins"],
    "sync_batchnorm": ["+trainer.sync_batchnorm=false"],
    "reload_dataloaders_every_n_epochs": ["+trainer.reload_dataloaders_every_n_epochs=1"],
    "default_root_dir": ["trainer.default_root_dir=null"],
    "enable_autolog_hparams": ["+trainer.enable_autolog_hparams=false"],
    "model_registry": ["+trainer.model_registry=null"],
}
# options that change the run, which must end
WORKS: dict[str, list[str]] = {
    "precision": [
        *(
            f"trainer.precision={name}"
            for name in ("16-mixed", "bf16-mixed", "bf16-true", "64-true", "16", "bf16", "64")
        )
    ],
    "max_epochs": [
        "trainer.max_epochs=-1 +trainer.max_steps=3",
        "trainer.max_epochs=null +trainer.max_steps=3",
        "trainer.max_epochs=-1 +trainer.max_time=00:00:00:01 task.scheduler=null",
    ],
    "min_epochs": ["+trainer.min_epochs=3"],
    "limit_train_batches": ["+trainer.limit_train_batches=1", "+trainer.limit_train_batches=0.5"],
    "limit_val_batches": ["+trainer.limit_val_batches=1", "+trainer.limit_val_batches=0.5"],
    "limit_test_batches": ["+trainer.limit_test_batches=1", "+trainer.limit_test_batches=0.5"],
    "overfit_batches": ["+trainer.overfit_batches=1", "+trainer.overfit_batches=0.5"],
    "val_check_interval": [
        "+trainer.val_check_interval=0.5",
        "+trainer.val_check_interval=1",
        "+trainer.val_check_interval=2",
        "+trainer.val_check_interval=3 +trainer.check_val_every_n_epoch=null",
    ],
    "accumulate_grad_batches": ["+trainer.accumulate_grad_batches=2", "+trainer.accumulate_grad_batches=3"],
    "gradient_clip_algorithm": ["trainer.gradient_clip_val=0.5 +trainer.gradient_clip_algorithm=value"],
    "sync_batchnorm": ["+trainer.sync_batchnorm=true trainer.plugins=[]"],
    "enable_progress_bar": ["+trainer.enable_progress_bar=true callbacks.progress=null"],
}
# options that are refused, and words of the message
REFUSED: dict[str, dict[str, str]] = {
    "accelerator": {
        "trainer.accelerator=gpu": "no GPU was found",
        "trainer.accelerator=tpu": "torch_xla",
        "trainer.accelerator=nonsense": "'nonsense'",
        "trainer.accelerator=null": "trainer.accelerator=None: expected a string",
    },
    "strategy": {
        "+trainer.strategy=fsdp_cpu_offload": "trainer.strategy=fsdp_cpu_offload: expected one of auto, ddp, ",
        "+trainer.strategy=deepspeed_stage_2": "trainer.strategy=deepspeed_stage_2: expected one of auto, ddp, ",
        "+trainer.strategy=ddp_spawn": "trainer.strategy=ddp_spawn: expected one of auto, ddp, ",
        "+trainer.strategy=ddp_notebook": "trainer.strategy=ddp_notebook: expected one of auto, ddp, ",
        "+trainer.strategy=nonsense": "'nonsense'",
        "+trainer.strategy=null": "trainer.strategy=None: expected a string",
    },
    "devices": {
        "trainer.devices=0": "devices=0",
        "trainer.devices=-1": "should be an int > 0",
        "trainer.devices=nonsense": "should be an int > 0",
        "trainer.devices=null": "trainer.devices=None: expected a list or a string or a whole number",
    },
    "num_nodes": {
        "+trainer.num_nodes=0": "trainer.num_nodes=0: expected a whole number of at least 1",
        "+trainer.num_nodes=2": "srun or torchrun",
    },
    "precision": {
        "trainer.precision=16-true": "expected 16-mixed or bf16-true",
        "trainer.precision=transformer-engine": "transformer_engine",
        "trainer.precision=transformer-engine-float16": "transformer_engine",
        "trainer.precision=nonsense": "trainer.precision=nonsense: expected 64 or 32 or 16 or ",
    },
    "logger": {"+trainer.logger=false": "give logger=null", "+trainer.logger=true": "give logger=null"},
    "callbacks": {"+trainer.callbacks=[]": "give callbacks=null"},
    "fast_dev_run": {"+trainer.fast_dev_run=-1": "-1", "+trainer.fast_dev_run=nonsense": "expected a whole number or"},
    "max_epochs": {
        "trainer.max_epochs=0": "trainer.max_epochs=0: expected a whole number of at least 1",
        "trainer.max_epochs=-1": "or a limit of trainer.max_steps or trainer.max_time",
        "~trainer.max_epochs": "trainer.max_epochs=None: expected a whole number of at least 1",
        "trainer.max_epochs=-1 +trainer.max_time=00:00:00:01": "needs the length of the run",
    },
    "min_epochs": {"+trainer.min_epochs=nonsense": "expected a whole number or null"},
    "max_steps": {
        "+trainer.max_steps=0": "trainer.max_steps=0: expected at least 1; -1 sets no limit",
        "+trainer.max_steps=2.5": "trainer.max_steps=2.5: expected a whole number",
    },
    "min_steps": {"+trainer.min_steps=-1": "trainer.min_steps=-1: expected a whole number of at least 0"},
    "max_time": {
        "+trainer.max_time=nonsense": "DD:HH:MM:SS",
        "+trainer.max_time=5": "trainer.max_time=5: expected a string or a dict such as {minutes: 30} or null",
        "+trainer.max_time={nonsense:1}": "'nonsense'",
    },
    "limit_train_batches": {
        "+trainer.limit_train_batches=0": "expected at least one batch",
        "+trainer.limit_train_batches=0.01": "0.01",
        "+trainer.limit_train_batches=true": "trainer.limit_train_batches=True: expected a",
    },
    "limit_val_batches": {
        "+trainer.limit_val_batches=-1": "invalid value -1",
        "+trainer.limit_val_batches=0.01": "0.01",
        "+trainer.limit_val_batches=nonsense": "trainer.limit_val_batches=nonsense: expected a",
    },
    "overfit_batches": {"+trainer.overfit_batches=nonsense": "trainer.overfit_batches=nonsense: expected a"},
    "val_check_interval": {
        "+trainer.val_check_interval=0": "set trainer.limit_val_batches=0",
        "+trainer.val_check_interval=3": "`val_check_interval` (3) must be less than or equal to",
        "+trainer.val_check_interval=nonsense": "'nonsense'",
    },
    "check_val_every_n_epoch": {
        "+trainer.check_val_every_n_epoch=0": "expected a whole number of at least 1",
        "+trainer.check_val_every_n_epoch=-1": "trainer.check_val_every_n_epoch=-1: expected a whole number of",
    },
    "num_sanity_val_steps": {"trainer.num_sanity_val_steps=nonsense": "expected a whole number or null"},
    "log_every_n_steps": {"trainer.log_every_n_steps=-1": "expected a whole number of at least 0"},
    "accumulate_grad_batches": {
        "+trainer.accumulate_grad_batches=0": "expected a whole number of at least 1",
        "+trainer.accumulate_grad_batches=null": "expected a whole number",
    },
    "gradient_clip_val": {"trainer.gradient_clip_val=nonsense": "trainer.gradient_clip_val=nonsense: expected a"},
    "gradient_clip_algorithm": {"+trainer.gradient_clip_algorithm=nonsense": "nonsense is invalid"},
    "deterministic": {"+trainer.deterministic=nonsense": "expected true or false or warn or null"},
    "benchmark": {"+trainer.benchmark=nonsense": "trainer.benchmark=nonsense: expected true or false or null"},
    "inference_mode": {"+trainer.inference_mode=nonsense": "expected true or false"},
    "detect_anomaly": {"+trainer.detect_anomaly=nonsense": "expected true or false"},
    "use_distributed_sampler": {"trainer.use_distributed_sampler=true": "the data splits each batch"},
    "profiler": {"+trainer.profiler=nonsense": "['simple', 'advanced', 'pytorch', 'xla']"},
    "barebones": {"+trainer.barebones=true": "give logger=null callbacks=null"},
    "plugins": {"trainer.plugins=nonsense": "trainer.plugins=nonsense: expected a list or null"},
    "sync_batchnorm": {"+trainer.sync_batchnorm=true": "trainer.plugins computes batch norm over all processes"},
    "reload_dataloaders_every_n_epochs": {"+trainer.reload_dataloaders_every_n_epochs=-1": "got -1"},
    "model_registry": {"+trainer.model_registry=mine": "checkpoints stay in the folder of the run"},
}


def test_the_tables_have_every_option_of_the_installed_trainer() -> None:
    """A new release of Lightning with a new option fails here: add the option to the tables, and to the documents."""
    assert set(NEUTRAL) | set(WORKS) == set(inspect.signature(L.Trainer).parameters)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """The metrics of two epochs."""

    from train import train

    folder = tmp_path_factory.mktemp("expected")
    train(composed("train", *SMALL, *SMALLEST, TWO_EPOCHS, f"output_dir={folder}"))
    return metrics_of(folder)


@pytest.mark.slow
@pytest.mark.parametrize("option", [each for options in NEUTRAL.values() for each in options])
def test_an_option_without_influence_on_the_numbers(job: Job, expected: dict[str, float], option: str) -> None:
    metric, folder = job(*SMALLEST, TWO_EPOCHS, option)
    assert metrics_of(folder) == expected
    assert metric == expected["val/nll"]
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


@pytest.mark.ci
@pytest.mark.parametrize("options", [each for options in WORKS.values() for each in options])
def test_an_option_that_changes_the_run(job: Job, options: str) -> None:
    metric, folder = job(*SMALLEST, TWO_EPOCHS, *options.split())
    metrics = metrics_of(folder)
    logged = [float(row["val/nll"]) for row in rows(folder / "csv" / "version_0" / "metrics.csv") if row["val/nll"]]
    assert metric == metrics["val/nll"] == pytest.approx(min(logged))
    assert {"test/nll", "test/accuracy"} <= metrics.keys()
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


@pytest.mark.parametrize(("options", "words"), [pair for options in REFUSED.values() for pair in options.items()])
def test_an_option_that_is_refused(job: Job, options: str, words: str) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011  # Hydra, Lightning or the project
        job(*SMALLEST, *options.split())
    line = one_line(raised.value)
    assert line is not None
    assert words in line
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize(
    "options",
    [
        "+trainer.fast_dev_run=true",
        "+trainer.fast_dev_run=3",
        "+trainer.limit_val_batches=0",
        "+trainer.check_val_every_n_epoch=2",
        "+trainer.enable_checkpointing=false",
        "+trainer.max_steps=1",
        "+trainer.max_time=00:00:00:00",
        "+trainer.val_check_interval=00:01:00:00",
        "callbacks.best=null",
    ],
)
def test_without_a_best_checkpoint_the_last_weights_are_tested(
    job: Job, options: str, caplog: pytest.LogCaptureFixture
) -> None:
    """`metrics.json` has no validation metric then, because none chose the tested weights."""
    with caplog.at_level("INFO"):
        metric, folder = job(*SMALLEST, *options.split())
    assert math.isnan(metric)
    metrics = metrics_of(folder)
    assert "test/nll" in metrics
    assert not [name for name in metrics if name.startswith("val/")]
    last = folder / "checkpoints" / "last.ckpt"
    assert last.exists() == (not options.startswith(("+trainer.fast", "+trainer.enable", "+trainer.max_time")))
    assert "there is no best checkpoint" in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        "experiment=conjugate data.samples=100 data.batch_size=50 data.dim=4",
        "data=rendered task=pose model=pose_net data.samples=10 data.batch_size=5 data.camera.height=24 "
        "data.camera.width=24",
    ],
    ids=["conjugate", "pose"],
)
def test_figures_of_the_other_tasks_in_bfloat16(tmp_path: Path, options: str) -> None:
    """NumPy, which draws them, has no bfloat16."""
    from train import train

    options += " trainer=cpu trainer.max_epochs=1 trainer.precision=bf16-true callbacks.progress=null ~logger"
    train(composed("train", *options.split(), f"output_dir={tmp_path}"))
    metrics = metrics_of(tmp_path)
    assert any(name.startswith("test/") for name in metrics)
    assert all(map(math.isfinite, metrics.values()))
    assert any((tmp_path / "pictures").iterdir())


def test_without_test_batches_the_run_is_finished(job: Job) -> None:
    metric, folder = job(*SMALLEST, "+trainer.limit_test_batches=0")
    assert metrics_of(folder) == {"val/nll": metric}
    assert not (folder / "predictions.csv").exists()


def test_validation_every_second_epoch_keeps_the_last_epoch(job: Job) -> None:
    _, folder = job(*SMALLEST, "trainer.max_epochs=3", "+trainer.check_val_every_n_epoch=2")
    saved = {
        name: torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["epoch"]
        for name in ("best", "last")
    }
    assert saved == {"best": 1, "last": 3}  # the best is of the second epoch; the last stands before a fourth


def test_overfit_batches_trains_on_the_same_samples_in_every_epoch(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    step = Classify.training_step

    def spy(self, batch, batch_idx):
        seen.append([*batch.index.tolist(), int(1e6 * batch.angle.sum())])
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Classify, "training_step", spy)
    job(*SMALLEST, "trainer.max_epochs=3", "+trainer.overfit_batches=1")
    assert len(seen) == 3
    assert seen[0] == seen[1] == seen[2]
