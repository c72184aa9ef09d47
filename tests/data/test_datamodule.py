"""Each datamodule refuses a model that was trained on data of another kind, and accepts its own."""

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import composed
from hydra.utils import instantiate

from stnrot.data.datamodule import DataModule
from stnrot.errors import InputError
from stnrot.runs.command_line import one_line

CHECKPOINT = Path("run/best.ckpt")
CLASSIFIER = {"reference": "upright", "classifier": {}}


def data(*overrides: str) -> DataModule:
    return instantiate(composed("train", *overrides).data, _convert_="all")


IMAGES, POINTS = data("data=rotated_digits"), data("data=conjugate")
POSES = data("data=rendered", "data.camera.height=16", "data.camera.width=16")


@pytest.mark.parametrize("module", [IMAGES, POINTS, POSES], ids=["images", "points", "poses"])
def test_its_own_spec_is_accepted_and_another_kind_refused(module: DataModule) -> None:
    module.check_trained_on(module.spec(), CLASSIFIER, CHECKPOINT)
    with pytest.raises(InputError, match=r"best.ckpt was trained on data with sound, this has .*: choose data of the"):
        module.check_trained_on({"sound": 1}, CLASSIFIER, CHECKPOINT)


@pytest.mark.parametrize(
    ("module", "model", "change", "line"),
    [
        (IMAGES, CLASSIFIER, {"channels": 3}, "images with channels=3, this data has 1: choose data of that shape"),
        (IMAGES, {"reference": "learned"}, {"width": 30}, "images with width=30, this data has 28"),
        (IMAGES, CLASSIFIER, {"class_names": ["a", "b"]}, r"classes \['a', 'b'\], this data has \['0', '1'"),
        (POINTS, {}, {"dim": 5}, "points with dim=5, this data has 32"),
        (POSES, {}, {"axes": "XY"}, "poses with axes=XY, this data has XZ"),
        (POSES, {}, {"points_digest": "0"}, r"poses with points=torus, this data has torus \(other points\)"),
    ],
)
def test_a_difference_that_matters_is_refused(
    module: DataModule, model: dict[str, Any], change: dict[str, Any], line: str
) -> None:
    with pytest.raises(InputError, match=f"best.ckpt was trained on (the )?{line}"):
        module.check_trained_on(module.spec() | change, model, CHECKPOINT)


def test_a_difference_that_does_not_matter_is_accepted() -> None:
    IMAGES.check_trained_on(IMAGES.spec() | {"width": 30}, CLASSIFIER, CHECKPOINT)
    IMAGES.check_trained_on(IMAGES.spec() | {"class_names": ["a"]}, {"reference": "batch"}, CHECKPOINT)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (("data.batch_size=0",), "batch_size=0: expected a whole number of at least 1"),
        (("data.repeats=0",), "repeats=0: expected a whole number of at least 1"),
        (("data.num_workers=-1",), "num_workers=-1: expected a whole number from 0 to 1024"),
        (("data.border=round",), "border=round: expected disc or keep"),
        (("data.train_turns=twice",), "train_turns=twice: expected every_epoch, once or never"),
        (("data=image_pairs", "data.border=round"), "border=round: expected disc, cut or keep"),
        (("data=image_pairs", "data.degrade.gain=2"), "degrade.gain=2: expected a number from 0 to 1"),
        (("data=image_folder", "data.source.fit=fill"), "source.fit=fill: expected crop or pad"),
        (
            ("data=image_folder", "data.source.image_size=[64]"),
            r"source.image_size=[64]: expected a height and a width",
        ),
        (("data=image_folder", "data.source.channels=2"), "source.channels=2: expected 1, 3 or null"),
    ],
)
def test_bad_values_are_one_line_with_their_place(overrides: tuple[str, ...], line: str) -> None:
    with pytest.raises(Exception, match="expected") as raised:
        data(*overrides)
    assert str(one_line(raised.value)).startswith(f"data.{line}")


def test_a_misspelt_option_of_a_source_is_refused_where_it_stands() -> None:
    with pytest.raises(Exception, match="unexpected") as raised:
        data("data=image_folder", "+data.source.image_sise=3")
    assert re.match("data.source: .*unexpected keyword argument 'image_sise'", str(one_line(raised.value)))


@pytest.mark.parametrize("module", [IMAGES, POINTS, POSES], ids=["images", "points", "poses"])
@pytest.mark.parametrize("processes", [3, 1000])
def test_a_number_of_processes_that_does_not_divide_the_batch_is_refused(module: DataModule, processes: int) -> None:
    line = f"^data.batch_size={module.batch_size} counts .*: expected a multiple of their number, {processes}; change"
    with pytest.raises(InputError, match=line):
        module.check_processes(processes)
    module.check_processes(2)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ("data=conjugate", "data.samples=30"),
            "val set: expected at least 5, one for each process, got 3; raise data",
        ),
        (
            ("data=rendered", "data.samples=40"),
            "val set: expected at least 5, one for each process, got 4; raise data.",
        ),
        (("data=rotated_digits", "data.n_train=10"), "train set: expected at least 20, .*, got 10; add images or"),
    ],
)
def test_a_set_with_fewer_samples_than_processes_is_refused(overrides: tuple[str, ...], line: str) -> None:
    processes = 20 if "data=rotated_digits" in overrides else 5
    with pytest.raises(InputError, match=f"samples in the {line}"):
        data(*overrides, "data.batch_size=100").check_processes(processes)
