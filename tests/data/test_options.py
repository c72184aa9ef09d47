"""Every option of every data configuration: a bad value is one line that names the option, never a traceback."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import composed, made_once
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from stnrot.data.batch_samplers import TrainingBatches
from stnrot.data.datamodule import DataModule
from stnrot.data.rng import Split
from stnrot.errors import InputError
from stnrot.runs.command_line import one_line

BAD = (0, -1, 2.5, "abc", "", None, True, [], [1], {}, math.nan, math.inf, 10**30)
CONFIGS = {  # all classes of datamodules and sources
    "image_folder": ("data.root=folder", "data.source.image_size=[8,8]", "data/augment=deform"),
    "image_pairs": ("data.root=pairs.csv", "data.source.image_size=[8,8]", "data/source=manifest"),
    "rendered": ("data.camera.height=8", "data.camera.width=8", "data.samples=20"),
    "conjugate": ("data.dim=2", "data.samples=20"),
}


def write_images(folder: Path) -> None:
    """Write two classes of ten images, and a manifest of ten pairs."""
    for k in range(20):
        path = folder / "folder" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(k).integers(0, 255, (8, 9), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    pairs = [f"folder/a/{k}.png,folder/b/{k + 1}.png,{k},x" for k in range(0, 20, 2)]
    (folder / "pairs.csv").write_text("\n".join(["image,reference,angle_deg,label", *pairs]))


@pytest.fixture
def images(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of images."""
    monkeypatch.chdir(made_once(tmp_path_factory, "options", write_images))


def options(section: DictConfig, above: str = "") -> Iterator[str]:
    """Yield the names of the options of a section, with those of the sections below it."""
    for key in section:
        if str(key) not in ("_target_", "_partial_"):
            yield f"{above}{key}"
            if OmegaConf.is_dict(section._get_node(key)):
                yield from options(section[key], f"{above}{key}.")


def use(data: DataModule) -> None:
    """Make a batch of each set as a job does."""
    data.spec()
    data.check_processes(1)
    for split in Split:
        dataset = data.dataset(split)
        batches = TrainingBatches(len(dataset), data.batch_size, data.repeats, data.seed, lambda: 0, (0, 1))
        data.view(dataset.__getitems__(next(iter(batches))[:3]), split)


def outcome(plain: dict[str, Any], option: str, value: Any) -> str | None:
    """Return the line that refuses a value, or None if the value works. Any other error is raised."""
    config = OmegaConf.create({"data": plain})
    OmegaConf.update(config, f"data.{option}", value, merge=False)
    try:
        use(instantiate(config.data, _convert_="all"))
    except Exception as error:
        chain = [error]
        while chain[-1].__cause__ is not None:
            chain.append(chain[-1].__cause__)
        if not any(isinstance(each, InputError) or "InputError(" in str(each) for each in chain):
            raise
        return one_line(error)
    return None


@pytest.mark.usefixtures("images", "unchecked")
@pytest.mark.parametrize("name", CONFIGS)
def test_no_value_of_an_option_ends_in_a_traceback(name: str) -> None:
    config = composed("train", f"data={name}", *CONFIGS[name])
    OmegaConf.resolve(config.data)
    plain: dict[str, Any] = OmegaConf.to_container(config.data)  # type: ignore[assignment]
    for option in options(config.data):
        lines = [outcome(plain, option, value) for value in BAD]
        assert any(lines), option
        for value, line in zip(BAD, lines, strict=True):
            if line is not None:
                assert "\n" not in line
                assert option.rpartition(".")[2] in line, (option, value)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["mnist", "mnist_pooled"])
@pytest.mark.parametrize("value", [0, "abc", None])
def test_an_option_of_a_source_that_is_a_function(name: str, value: Any) -> None:
    config = composed("train", "data=rotated_mnist", f"data/source={name}")
    config.data.source.fit_validation = value
    with pytest.raises(InputError, match=f"^data.source.fit_validation={value}: expected true or false$"):
        instantiate(config.data, _convert_="all").setup()
