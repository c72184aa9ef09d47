"""Defaults that depend on the data."""

import pytest
from conftest import composed

from stnrot.jobs.defaults import choose_defaults


@pytest.mark.parametrize(
    ("options", "blur"),
    [
        ((), 0.8),
        (("data.train_turns=never",), 1.6),
        (("data.train_turns=never", "model.encoder.blur=1.2"), 1.2),
        (("experiment=upright_only",), 1.6),
        (("data=image_pairs", "task=register"), 0.8),
    ],
)
def test_the_blur_is_wider_if_the_training_images_are_never_rotated(options: tuple[str, ...], blur: float) -> None:
    cfg = composed("train", *options)
    choose_defaults(cfg)
    assert cfg.model.encoder.blur == blur


def test_a_model_without_the_search_encoder_gets_no_blur() -> None:
    for options in (("model=cnn",), ("model/encoder=cnn",)):
        cfg = composed("train", "experiment=upright_only", *options)
        choose_defaults(cfg)
        assert "blur" not in (cfg.model.get("encoder") or {})
