"""Train on arrays: the default job of `train.py`, from Python."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from stnrot.arguments import described
from stnrot.config_files import CONFIGS
from stnrot.errors import InputError, check_number, needs_extra
from stnrot.prediction.predictor import Predictor

VIEWS = 8000  # of an epoch, at least: a small set is shown several times, each time at other angles
OPTIONS = (
    "data=rotated",
    "data.border=disc",  # corners that a rotation blackens would tell the angle
    "~logger",
    "+trainer.enable_model_summary=false",
    "+data.source._target_=stnrot.data.sources.arrays.arrays",
    "+data.source._partial_=true",
)


def fit(
    images: np.ndarray | torch.Tensor,
    labels: np.ndarray | torch.Tensor | Sequence[int],
    *,
    classes: Sequence[str] | np.ndarray | None = None,
    epochs: int = 10,
    seed: int = 1,
) -> Predictor:
    """Train the default model on upright images, so that it reads them at any angle.

    It is the job `python train.py`: the model `rot_stn`, with the options of `configs/`. In each class, 15 % of the
    images are kept for validation; the model of the epoch with the best `val/nll` is returned. An epoch shows each
    image once, or as often as 8,000 views take, each time rotated by another angle.

    Args:
        images: upright, with the object in the middle: [N, H, W] (grey) or [N, C, H, W] with 1 or 3 channels, also
            [N, H, W, C] in an array. uint8, or numbers from 0 to 1, which are rounded to 8 bits. Outside the inscribed
            disc they are not used.
        labels: class of each image, from 0. For names, `classes, labels = np.unique(names, return_inverse=True)`.
        classes: names of the classes; None: their numbers.
        epochs: number of epochs.
        seed: of the initial weights, the split, the order and the angles. The state of torch's generators stays as it
            is.

    Returns:
        The trained model. Its `metrics` are those of the validation images. `save` writes it to a folder.

    Raises:
        InputError: if the images or labels are of another kind, or a package of `stnrot[train]` is missing.

    >>> import torch, stnrot
    >>> images, labels = torch.rand(40, 1, 28, 28), torch.arange(40) % 2
    >>> predictor = stnrot.fit(images, labels, classes=["a", "b"], epochs=1)  # doctest: +SKIP
    >>> predictor.save("my-model")  # doctest: +SKIP
    """
    with needs_extra("stnrot.fit"):
        import hydra  # noqa: F401
        from lightning.fabric.utilities.seed import max_seed_value

        from stnrot.data.sources.arrays import split_arrays

    check_number("epochs", epochs, 1)
    check_number("seed", seed, 0, max_seed_value)
    splits = split_arrays(images, labels, None if classes is None else _names(classes), seed)
    repeats = max(1, round(VIEWS / len(splits.train)))
    chosen = [f"seed={seed}", f"data.split_seed={seed}", f"trainer.max_epochs={epochs}", f"data.repeats={repeats}"]
    with TemporaryDirectory() as folder, torch.random.fork_rng(), _quiet():
        torch.manual_seed(seed)
        return _trained(_composed([*OPTIONS, *chosen, f"output_dir='{folder}'"]), splits)


def _names(classes: object) -> tuple[str, ...]:
    names = tuple(classes) if isinstance(classes, Sequence | np.ndarray) and not isinstance(classes, str) else ()
    if not names or not all(isinstance(name, str) and name for name in names) or len({*names}) < len(names):
        raise InputError(f"classes: expected a list of different names, got {described(classes)}")
    return tuple(map(str, names))


def _composed(overrides: list[str]) -> Any:
    """Return the configuration of a job, also inside a program that uses Hydra itself."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    outer = GlobalHydra.instance()
    program, outer.hydra = outer.hydra, None
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return compose("train", overrides)
    finally:
        GlobalHydra.instance().hydra = program


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence notices of Lightning that the caller cannot act on."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*(treespec|many workers|logging interval)")
            yield
    finally:
        logger.setLevel(level)


def _trained(cfg: Any, splits: Any) -> Predictor:
    from hydra.utils import instantiate
    from lightning.pytorch.callbacks import LambdaCallback
    from omegaconf import OmegaConf

    from stnrot.callbacks.run_config import RunConfig
    from stnrot.jobs.defaults import choose_defaults
    from stnrot.runs.checkpoints import read_checkpoint, rebuild
    from stnrot.runs.tables.growing_table import progress_bar
    from stnrot.runs.trainer import build_trainer

    data = instantiate(cfg.data, _convert_="all")
    data.splits = splits
    cfg.data_spec = data.spec()
    choose_defaults(cfg)
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    task = instantiate(cfg.task, _convert_="all", model=instantiate(cfg.model)).to(memory_format=torch.channels_last)
    best, finite = instantiate(cfg.callbacks.best), instantiate(cfg.callbacks.finite, folder=None)
    with progress_bar(cfg.trainer.max_epochs, 0, "fit") as progress:
        advance = LambdaCallback(on_train_epoch_end=lambda *_: progress.advance(progress.task_ids[0]))
        trainer = build_trainer(cfg, [RunConfig(config, {}), best, finite, advance])
        trainer.fit(task, datamodule=data, weights_only=True)
    path = best.best_model_path
    (metrics,) = trainer.validate(task, datamodule=data, ckpt_path=path, weights_only=True, verbose=False)
    saved = read_checkpoint(path)
    return Predictor(rebuild(saved, path), saved["config"], Path("stnrot.fit"), dict(metrics))
