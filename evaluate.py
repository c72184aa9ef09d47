"""Test a trained run again, or on other data: python evaluate.py ckpt=PATH|latest data=rotated_mnist ..."""

import logging
from pathlib import Path
from typing import Any

import hydra
import lightning as L
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from stnrot.checkpoint import AtomicCheckpointIO, check_targets, read_checkpoint, rebuild
from stnrot.command_line import one_line_errors, quiet_libraries
from stnrot.data.image_data import ImageData
from stnrot.errors import InputError

log = logging.getLogger("evaluate")


@hydra.main(version_base="1.3", config_path="configs", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Run one evaluation; Hydra has composed its configuration and made its folder."""
    with one_line_errors():
        evaluate(cfg)


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Rebuild the run from its checkpoint, test it, write metrics.json, predictions.csv and pictures."""
    if (Path(cfg.output_dir) / "metrics.json").exists():
        raise InputError(f"{cfg.output_dir} holds the results of another run: choose another hydra.run.dir")
    path = latest() if cfg.ckpt == "latest" else Path(cfg.ckpt)
    checkpoint = read_checkpoint(path)
    run: dict[str, Any] = checkpoint["config"]
    log.info("checkpoint: %s", path)

    cfg.seed = run["seed"]
    if "_target_" not in cfg.data:  # the run's own data, with what the command line changed of it
        check_targets(run["data"])
        cfg.data = OmegaConf.merge(run["data"], cfg.data)
    data: ImageData = instantiate(cfg.data, _convert_="all")
    check_images(run, data.facts(), path)

    task = rebuild(checkpoint, path).to(memory_format=torch.channels_last)  # as in training, to the last bit
    if cfg.trainer.precision == "auto":  # the precision that the run's own test had
        cfg.trainer.precision = run["trainer"]["precision"]
    trainer: L.Trainer = instantiate(
        cfg.trainer,
        callbacks=list(filter(None, instantiate(cfg.callbacks).values())),
        logger=False,
        plugins=[AtomicCheckpointIO()],
    )
    metrics = trainer.test(task, datamodule=data)[0]
    log.info("metrics.json, predictions.csv and pictures: %s", cfg.output_dir)
    return dict(metrics)


def latest() -> Path:
    """Return the best checkpoint of the newest run."""
    found = sorted(Path("outputs/train").glob("**/checkpoints/best.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError("ckpt=latest: no run below outputs/train has a best.ckpt; train one, or give a path")
    return found[-1]


def check_images(run: dict[str, Any], given: dict[str, Any], path: Path) -> None:
    """Refuse data whose pictures or classes are not those that the model knows."""
    trained, model = run["images"], run["model"]
    fixed = ("channels", "height", "width") if model.get("reference") == "learned" else ("channels",)
    for name in fixed:
        if trained[name] != given[name]:
            raise InputError(
                f"{path} was trained on pictures with {name}={trained[name]}, this data has {given[name]}: "
                "choose data of that shape, or set data.source.image_size and data.source.channels"
            )
    if model.get("classifier") is not None and trained["class_names"] != given["class_names"]:
        raise InputError(
            f"{path} was trained on the classes {trained['class_names']}, this data has {given['class_names']}"
        )


if __name__ == "__main__":
    quiet_libraries()
    with one_line_errors():
        main()
