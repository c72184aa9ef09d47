"""Every scheduler of torch.optim works as `task.scheduler`, every optimizer as `task.optimizer`, or says why not."""

import inspect
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NO_FIGURES, composed, metrics_of
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.optim import lr_scheduler

from stnrot.errors import InputError
from stnrot.runs import trainer as trainer_of_runs
from stnrot.runs.command_line import one_line

Job = Callable[..., tuple[float, Path]]
SMALLEST = ("model=cnn", "model.classifier.width=4", "data.batch_size=50", NO_FIGURES)  # two steps an epoch
BY_ZERO = "integer modulo by zero" if sys.version_info >= (3, 11) else "integer division or modulo by zero"
POW = "{_target_: builtins.pow, _partial_: true, _args_: [0.5]}"  # the function 0.5 ** step
WARM_UP = "{_target_: torch.optim.lr_scheduler.LinearLR, _partial_: true, total_iters: 2}"
COSINE = "{_target_: torch.optim.lr_scheduler.CosineAnnealingLR, _partial_: true}"
LR, STEPS = 3e-3, 6

# options that a user has to give, and the oracle: the same schedule, built by hand
TABLE: dict[str, tuple[list[str], Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]]] = {
    "LambdaLR": ([f"+task.scheduler.lr_lambda={POW}"], lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.5**step)),
    "MultiplicativeLR": (
        [f"+task.scheduler.lr_lambda={POW}"],
        lambda o: lr_scheduler.MultiplicativeLR(o, lambda step: 0.5**step),
    ),
    "StepLR": (["+task.scheduler.step_size=2"], lambda o: lr_scheduler.StepLR(o, 2)),
    "MultiStepLR": (["+task.scheduler.milestones=[1,4]"], lambda o: lr_scheduler.MultiStepLR(o, [1, 4])),
    "ConstantLR": ([], lr_scheduler.ConstantLR),
    "LinearLR": ([], lr_scheduler.LinearLR),
    "ExponentialLR": (["+task.scheduler.gamma=0.9"], lambda o: lr_scheduler.ExponentialLR(o, 0.9)),
    "PolynomialLR": ([], lr_scheduler.PolynomialLR),
    "CosineAnnealingLR": ([], lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS)),
    "CosineAnnealingWarmRestarts": (
        ["+task.scheduler.T_0=2"],
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2),
    ),
    "CyclicLR": (["+task.scheduler.base_lr=1e-4"], lambda o: lr_scheduler.CyclicLR(o, 1e-4, LR)),
    "OneCycleLR": ([], lambda o: lr_scheduler.OneCycleLR(o, LR, total_steps=STEPS)),
    "SequentialLR": (
        [f"+task.scheduler.schedulers=[{WARM_UP},{COSINE}]", "+task.scheduler.milestones=[2]"],
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, total_iters=2), lr_scheduler.CosineAnnealingLR(o, STEPS - 2)], [2]
        ),
    ),
    "ChainedScheduler": (
        [f"+task.scheduler.schedulers=[{WARM_UP},{COSINE}]"],
        lambda o: lr_scheduler.ChainedScheduler(
            [lr_scheduler.LinearLR(o, total_iters=2), lr_scheduler.CosineAnnealingLR(o, STEPS)]
        ),
    ),
}
OPTIMIZERS = {
    name: found
    for name, found in vars(torch.optim).items()
    if inspect.isclass(found) and issubclass(found, torch.optim.Optimizer) and found is not torch.optim.Optimizer
}
REFUSED_OPTIMIZERS = {
    "LBFGS": "LBFGS cannot flatten the weights of a convolution",
    "SparseAdam": "SparseAdam needs sparse gradients",
    "Muon": "Muon only supports 2D parameters",
}


class Rates(Callback):
    """Record the learning rate of every step; keep the checkpoint of the first epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_validation_end(self, trainer: Any, *args: Any) -> None:
        last = self.folder / "checkpoints" / "last.ckpt"
        if trainer.current_epoch == 1 and last.exists():  # the end of the first epoch has written it
            shutil.copy(last, self.folder / "first.ckpt")


@pytest.fixture
def rates(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[float]]:
    """Train a job of three epochs, six steps; returns the learning rate of each step."""
    built = trainer_of_runs.build_trainer

    def run(*options: str, folder: str = "run") -> list[float]:
        recorder = Rates(tmp_path / folder)
        monkeypatch.setattr(trainer_of_runs, "build_trainer", lambda cfg, callbacks: built(cfg, [*callbacks, recorder]))
        job(*SMALLEST, "trainer.max_epochs=3", *options, folder=tmp_path / folder)
        return recorder.rates

    return run


def target(name: str) -> str:
    return f"task.scheduler._target_=torch.optim.lr_scheduler.{name}"


def test_the_table_has_every_scheduler_of_torch() -> None:
    classes = {
        found.__name__
        for found in vars(lr_scheduler).values()
        if inspect.isclass(found) and issubclass(found, lr_scheduler.LRScheduler)
    }
    assert TABLE.keys() | {"ReduceLROnPlateau"} == classes - {"LRScheduler", "_LRScheduler"}


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_a_scheduler_of_torch_and_its_resume(rates: Callable[..., list[float]], tmp_path: Path, name: str) -> None:
    """The rates are those of the scheduler built by hand, also when the run is resumed after its first epoch."""
    options, by_hand = TABLE[name]
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = by_hand(optimizer)
    expected = []
    for _ in range(STEPS):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(target(name), *options) == pytest.approx(expected)
    resume = f"ckpt_path={tmp_path / 'run' / 'first.ckpt'}"
    assert rates(target(name), *options, resume, folder="on") == pytest.approx(expected[2:])
    assert metrics_of(tmp_path / "on") == metrics_of(tmp_path / "run")


def test_a_plateau_lowers_the_rate(rates: Callable[..., list[float]], tmp_path: Path) -> None:
    """With a threshold that no epoch reaches, every epoch but the first divides the rate by ten."""
    options = (target("ReduceLROnPlateau"), "+task.scheduler.patience=0", "+task.scheduler.threshold=0.9")
    found = rates(*options)
    assert found == pytest.approx([LR, LR, LR, LR, LR / 10, LR / 10])
    assert rates(*options, f"ckpt_path={tmp_path / 'run' / 'first.ckpt'}", folder="on") == found[2:]
    wrong_way = ("+task.scheduler.monitor=val/accuracy", "+task.scheduler.mode=max")
    assert rates(*options, *wrong_way, folder="other") == pytest.approx(found)
    mild = ("+task.scheduler.patience=5", target("ReduceLROnPlateau"))
    assert rates(*mild, folder="mild") == [LR] * 6


def test_steps_of_epochs(rates: Callable[..., list[float]], tmp_path: Path) -> None:
    epochs = (target("StepLR"), "+task.scheduler.step_size=1", "+task.scheduler.interval=epoch")
    found = rates(*epochs)
    assert found == pytest.approx([LR, LR, LR / 10, LR / 10, LR / 100, LR / 100])
    resume = f"ckpt_path={tmp_path / 'run' / 'first.ckpt'}"
    assert rates(*epochs, resume, folder="on") == found[2:]
    cosine = rates(target("CosineAnnealingLR"), "+task.scheduler.interval=epoch", folder="cosine")
    assert cosine[::2] == pytest.approx([LR, 0.75 * LR, 0.25 * LR])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([target("LRScheduler")], "LRScheduler cannot be built: NotImplementedError"),
        ([target("StepLR")], "StepLR cannot be built: StepLR.__init__() missing 1 required"),
        (
            [target("StepLR"), "+task.scheduler.step_size=0"],
            f"task.scheduler: {BY_ZERO}; expected the options",
        ),
        ([target("StepLR"), "+task.scheduler.step_size=1", "+task.scheduler.interval=day"], "expected step or epoch"),
        ([target("SequentialLR")], "SequentialLR cannot be built"),
        ([target("SequentialLR"), "+task.scheduler.schedulers=[1]"], "task.scheduler=1: expected a class"),
        (["task.scheduler=fast"], "task.scheduler=fast: expected a class in task.scheduler._target_, or null"),
        (["task.optimizer=5"], "task.optimizer=5: expected a class in task.optimizer._target_, or null"),
        (["+task.scheduler.total_steps=1"], "Tried to step 2 times"),
        ([target("ReduceLROnPlateau"), "+task.scheduler.monitor=val/none"], "val/none which is not available"),
        (
            [
                target("LambdaLR"),
                "+task.scheduler.lr_lambda={_target_: hydra.utils.get_method, path: math.cos}",
            ],
            "LambdaLR cannot be built",
        ),
        (["task.optimizer=null"], "task.optimizer=null: training needs one"),
        (["task.optimizer._target_=torch.optim.Rprop"], "leave it out with ~task.optimizer.weight_decay"),
        (["task.optimizer._target_=torch.optim.Optimizer", "~task.optimizer.weight_decay"], "~task.optimizer.lr"),
    ],
)
def test_what_is_refused(job: Job, options: list[str], words: str) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011  # of Lightning or the project
        job(*SMALLEST, *options)
    line = one_line(raised.value)
    assert line is not None
    assert words in line


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_of_torch_with_the_schedule(job: Job, name: str) -> None:
    """All work with the default schedule, which cycles the momentum only of those that have one."""
    options = [f"task.optimizer._target_=torch.optim.{name}"]
    if "weight_decay" not in inspect.signature(OPTIMIZERS[name]).parameters:
        options.append("~task.optimizer.weight_decay")
    if name in REFUSED_OPTIMIZERS:
        with pytest.raises(InputError, match=REFUSED_OPTIMIZERS[name]):
            job(*SMALLEST, *options)
    else:
        _, folder = job(*SMALLEST, *options)
        assert (folder / "metrics.json").exists()


def test_lbfgs_fits_a_rotation(tmp_path: Path) -> None:
    """Whose weights have no memory format."""
    from train import train

    options = ("experiment=conjugate", "debug=one_batch", "trainer=cpu", "data.dim=3", "data.samples=100")
    chosen = ("task.optimizer._target_=torch.optim.LBFGS", "~task.optimizer.weight_decay")
    train(composed("train", *options, *chosen, f"output_dir={tmp_path}", "callbacks.rotation_figures=null"))
    assert "test/axes_mean_deg" in metrics_of(tmp_path)
