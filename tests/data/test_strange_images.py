"""Whole jobs on images of unusual shapes: every metric is a number, every test image has one row."""

import math
from pathlib import Path

import numpy as np
import pytest
from conftest import NO_FIGURES, metrics_of, rows
from PIL import Image

SIZES = ((1, 1), (1, 500), (500, 1), (2, 3), (3, 3), (1, 40), (40, 1), (7, 5), (1, 1), (64, 2))  # height, width


@pytest.fixture
def strips(tmp_path: Path) -> Path:
    """Two classes of ten images each, of one pixel or with a large aspect ratio."""
    random = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / "strips" / name).mkdir(parents=True)
        for k, size in enumerate(SIZES):
            pixels = random.integers(0, 255, size, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "strips" / name / f"{k}.png")
    return tmp_path / "strips"


@pytest.mark.parametrize(
    "options",
    [
        ("data=image_folder", "data.source.image_size=[5,7]", "data.source.memory_gb=0", "data.num_workers=2"),
        ("data=image_folder", "data.source.image_size=[4,200]", "data.source.fit=pad", "data.batch_size=1"),
        ("data=image_pairs", "data/source=image_folder", "data.source.image_size=[4,60]", "data.border=cut",
         "task=register", "data.batch_size=1000"),
    ],
    ids=["streamed by two processes", "one image a batch", "a batch larger than the set"],
)  # fmt: skip
def test_a_job_on_strips_of_pixels(job, strips: Path, options: tuple[str, ...]) -> None:
    metric, folder = job(
        *options, f"data.root={strips}", "data.n_train=null", "+trainer.limit_train_batches=3", NO_FIGURES
    )
    assert math.isfinite(metric)
    assert all(math.isfinite(value) for value in metrics_of(folder).values())
    assert [row["index"] for row in rows(folder / "predictions.csv")] == ["0", "1"]
