"""No step of a task computes with subnormal numbers, and none computes a constant again."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import made_once
from PIL import Image
from sklearn.datasets import load_sample_image
from step_watch import ConstantWatch, Steps, SubnormalWatch
from torch import nn
from torch.utils._pytree import tree_leaves

from stnrot.alignment.aligner import Aligner, align
from stnrot.geometry import constants, rotate
from stnrot.geometry.euler import euler_to_matrix
from stnrot.geometry.splat import Camera, render
from stnrot.layers.maps import METHODS
from stnrot.models.encoders.polar import PolarEncoder
from stnrot.pose.fit import fit_pose
from stnrot.pose.point_clouds import torus

PAIRS = ("task=register", "data=image_pairs", "data/degrade=hard", "task.consistency_weight=0.1")
JOBS = {
    "rot_stn": ("data/augment=deform", "task.angle_spread_deg=3"),
    "encoder=cnn": ("model/encoder=cnn",),
    "affine_stn": ("model=affine_stn",),
    "cnn": ("model=cnn",),
    "pairs": (*PAIRS, "model.encoder.shift=0.07", "model.encoder.radii=8", "model.encoder.angles=32"),
    **{each: ("experiment=conjugate", f"model.rotation.method={each}") for each in METHODS if each != "angle"},
    "pose": ("experiment=torus_pose", "data.camera.height=64", "data.camera.width=64"),
}
COLOUR = ("data=image_folder", "data.source.image_size=[32,32]", "data.source.channels=3")
CAMERA = Camera(height=32, width=32, sigma=1.5)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small photographs in colour, in two classes."""

    def write(folder: Path) -> None:
        whole = Image.fromarray(load_sample_image("china.jpg"))
        for k in range(60):
            path = folder / str(k % 2) / f"{k}.png"
            path.parent.mkdir(exist_ok=True)
            whole.crop((5 * k, 3 * k, 5 * k + 64, 3 * k + 64)).resize((32, 32)).save(path)

    return made_once(tmp_path_factory, "photographs", write)


def sharpened(steps: Steps) -> None:
    """Make the network as certain as after long training: scores and logits differ by hundreds."""
    for name, each in steps.task.model.named_parameters():
        with torch.no_grad():
            if name.endswith("log_scale"):
                each += 3
            if name.startswith("classifier.linear"):
                each *= 100


def kept() -> list[torch.Tensor]:
    """Return the constants; those that other tests made on the meta device have no values."""
    return [
        each for each in tree_leaves([list(store.values()) for store in constants._kept.values()]) if not each.is_meta
    ]


def check(steps: list[Callable[[Any], None]], made: list[int]) -> None:
    """Take steps for a second time; find neither subnormal numbers nor constants, and none that was written to."""
    for step in steps:
        step(nullcontext())  # after another one, whose constants may have taken the place of these
        before = [(each, each.clone()) for each in kept()]
        made.clear()
        subnormal, constant = SubnormalWatch(), ConstantWatch()
        step(subnormal)
        assert subnormal.operations > 10
        assert not subnormal.found
        step(constant)
        assert not constant.found
        assert not made, "constants that were kept are made again"
        assert all(torch.equal(now, then) for now, then in before)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows with each constant that is made."""
    found: list[int] = []
    make = constants._made
    monkeypatch.setattr(constants, "_made", lambda function: (found.append(1), make(function))[1])
    return found


@pytest.mark.parametrize("job", JOBS)
def test_steps_of_a_task(job: str, made: list[int]) -> None:
    """At the start, and when the network is certain."""
    steps = Steps(*JOBS[job])
    for _ in range(20 if job == "pairs" else 0):  # which draws the centres that it samples about
        steps.train()
    for change in (lambda: None, partial(sharpened, steps)):
        change()
        check([steps.train, steps.infer], made)


@pytest.mark.parametrize("job", ["rot_stn", "pose"])
def test_steps_in_16_bits(job: str, made: list[int]) -> None:
    steps = Steps(*JOBS[job], bf16=True)
    sharpened(steps)
    check([steps.train, steps.infer], made)


def test_steps_on_photographs(photographs: Path, made: list[int]) -> None:
    steps = Steps(*COLOUR, f"data.root={photographs}")
    check([steps.train, steps.infer], made)


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("job", [*JOBS, "photographs"])
def test_steps_after_training(job: str, bf16: bool, photographs: Path, made: list[int]) -> None:
    steps = Steps(*JOBS.get(job, (*COLOUR, f"data.root={photographs}")), bf16=bf16)
    for _ in range(300):
        steps.train()

    check([steps.train, steps.infer], made)


def watched(call: Callable[[], Any]) -> Callable[[Any], None]:
    def run(watch: Any) -> None:
        with watch:
            call()

    return run


def test_align(made: list[int]) -> None:
    image = torch.from_numpy(np.asarray(Image.fromarray(load_sample_image("flower.jpg")).resize((64, 64))) / 255.0)
    image = image.permute(2, 0, 1).float()
    reference = rotate(image, 0.3)
    learned = Aligner()
    learned.encoder = PolarEncoder(3, width=8, radii=8, angles=32, blur=0.8, dropout=0, dropout_circles=0, shift=0)
    nn.init.constant_(learned.encoder.log_scale, 8.0)  # a certain network
    learned.encoder.eval()
    learned.channels = 3

    def run(model: Aligner | None) -> None:
        found = align(image, reference, model=model)
        assert found.aligned.shape == (1, 3, 64, 64)
        assert not found.mirrored

    calls = [watched(partial(run, model)) for model in (None, learned)]
    check([*calls, watched(lambda: align(image, reference, motion="rigid"))], made)


def test_fit_pose(made: list[int]) -> None:
    points = torus()[::5]
    images = render(points, euler_to_matrix(torch.tensor([[0.3, -0.8], [2.0, 1.0]]), "XZ"), CAMERA)[:, None]
    start = torch.tensor([[0.5, -0.6], [1.8, 0.9]])
    calls = [
        partial(fit_pose, images, points, camera=CAMERA, start=start),
        partial(fit_pose, images, points, "X", camera=CAMERA),
    ]
    check([watched(call) for call in calls], made)


def test_the_watches_find_what_there_is() -> None:
    """The numbers are of the same kind that steps had: tails of a Gaussian, gradients of a softmax, grids."""
    x, score = torch.linspace(0, 14, 50), torch.tensor([0.0, -95.0, 3.0], requires_grad=True)
    with SubnormalWatch() as subnormal:
        (-0.5 * x**2).exp()
        score.log_softmax(0)[0].backward()
    assert [name.split()[0] for name in subnormal.found] == [
        "aten.exp.default",
        "aten._log_softmax_backward_data.default",
    ]
    with SubnormalWatch() as subnormal:
        x.double().mul(-50).exp()  # as small, but a normal number of float64
    assert not subnormal.found
    grid = constants.counting(7, torch.device("cpu"))
    data = torch.rand(7)
    with ConstantWatch() as constant:
        torch.arange(7) * 2 + torch.ones(7)
        grid.clone() / 2
        data * grid[:, None]
        torch.zeros(3)
        filled = torch.ones(7).mul_(data)
        filled * grid
    assert constant.found == {
        f"aten.{name} [[7]]": 1 for name in ("arange.default", "mul.Tensor", "add.Tensor", "div.Tensor")
    }


def test_a_network_and_its_pickle_hold_no_constant(tmp_path: Path) -> None:
    encoder = PolarEncoder(1, width=4, radii=4, angles=16, blur=0.8, dropout=0, dropout_circles=0, shift=0).eval()
    image = torch.rand(2, 1, 12, 12)
    expected = encoder(image, image, 1).angle
    torch.save(encoder, tmp_path / "encoder.pt")
    assert (tmp_path / "encoder.pt").stat().st_size < 30_000
    again = torch.load(tmp_path / "encoder.pt", weights_only=False)
    assert torch.equal(again(image, image, 1).angle, expected)
