"""Options whose default depends on the device or on the data."""

from omegaconf import DictConfig

from stnrot.models.encoders.polar import BLUR, BLUR_OF_UPRIGHT
from stnrot.runs.precision import auto_precision


def choose_defaults(cfg: DictConfig) -> None:
    """Replace `trainer.precision=auto` and `model.encoder.blur=null` by their values, which the run keeps."""
    if cfg.trainer.get("precision") == "auto":
        cfg.trainer.precision = auto_precision(cfg.trainer.get("accelerator", "auto"))
    encoder = cfg.model.get("encoder")
    if encoder is not None and encoder.get("blur", BLUR) is None:
        encoder.blur = BLUR_OF_UPRIGHT if cfg.data.get("train_turns") == "never" else BLUR
