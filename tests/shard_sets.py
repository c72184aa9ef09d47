"""A set of photographs, as a folder and as shards of it, for the tests of shards."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from stnrot.data.batch_samplers import TrainingBatches
from stnrot.data.image_set import Splits
from stnrot.data.sources.image_folder import ImageFolder
from stnrot.data.sources.image_shards import ImageShards
from stnrot.data.sources.shards.shard_set import ShardSet
from stnrot.data.sources.shards.write import write_shards

DECODING = {
    "image_size": (24, 32),
    "fit": "crop",
    "channels": None,
    "max_pixels": 10**8,
    "on_bad_image": "error",
    "memory_gb": 0,
    "val_fraction": 0.2,
    "test_fraction": 0.2,
}
SIZE = 31_000  # bytes of a shard: about six images


def folder_splits(root: Path, **options: Any) -> Splits:
    return ImageFolder(**DECODING | options)(root, 0)


def shard_splits(root: Path | str, **options: Any) -> Splits:
    return ImageShards(**DECODING | {"open_shards": 4, "cache_gb": 1.0} | options)(Path(root), 0)


def write_both(base: Path) -> None:
    """Write 60 crops of photographs in two classes, of several modes and formats, and shards of them."""
    photographs = [Image.fromarray(each) for each in load_sample_images().images]
    for k in range(60):
        path = base / "folder" / ("temple", "flower")[k % 2] / f"{k:02d}.v1.{('jpg', 'png', 'JPEG')[k % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        crop = photographs[k % 2].crop((5 * k, 3 * k, 5 * k + 40, 3 * k + 50))
        exif = crop.getexif()
        exif[0x0112] = 1 + k % 8  # orientation
        crop.convert("RGBA" if k % 3 == 1 and k % 4 == 1 else "RGB").save(path, exif=exif)
    deep = Image.fromarray(np.arange(2500, dtype=np.uint16).reshape(50, 50) * 26)
    deep.save(base / "folder" / "temple" / "deep.png")
    (base / "shards").mkdir()
    write_shards(base / "folder", folder_splits(base / "folder"), base / "shards", SIZE, 0, lambda: None)


def everything(part: Any) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Return the pixels, classes and names of a set, ordered by name."""
    raw = part.__getitems__(torch.arange(len(part)))
    order = sorted(range(len(part)), key=lambda i: part.names[i].rpartition("folder/")[2])
    return raw.image[order], raw.label[order], [part.names[i].rpartition("folder/")[2] for i in order]


def copied(both: Path, tmp_path: Path) -> Path:
    root = tmp_path / "copy"
    root.mkdir()
    for path in (both / "shards").iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    return root


def sampler(
    part: ShardSet, process: tuple[int, int] = (0, 1), done: int = 0, epoch: int = 0, batch: int = 8
) -> TrainingBatches:
    return TrainingBatches(len(part), batch, 1, 0, lambda: epoch, process, lambda: done, part.order)


def training(part: ShardSet, processes: int, done: int = 0) -> list[list[torch.Tensor]]:
    return [list(sampler(part, (rank, processes), done)) for rank in range(processes)]
