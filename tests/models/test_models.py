import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import model
from torch import nn

from stnrot.errors import InputError
from stnrot.geometry import rotate, rotation_theta
from stnrot.models.encoders.cnn import CNNEncoder
from stnrot.models.outputs import Orientation, Prediction
from stnrot.models.rot_stn import RotSTN


@pytest.mark.parametrize("options", [("rot_stn",), ("rot_stn", "model/encoder=cnn"), ("affine_stn",), ("cnn",)])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 45, 32), (2, 224, 224)])
def test_every_model_takes_every_size(options: tuple[str, ...], shape: tuple[int, int, int]) -> None:
    built = model(*options, shape=shape, classes=4)
    prediction = built(torch.rand(2, *shape), None)
    assert prediction.log_probability.shape == (2, 4)
    torch.testing.assert_close(prediction.log_probability.exp().sum(1), torch.ones(2))


@pytest.mark.parametrize("head", ["scalar", "vector"])
@pytest.mark.parametrize("size", [(28, 28), (224, 224), (9, 30)])
def test_encoder_starts_at_the_identity(head: str, size: tuple[int, int]) -> None:
    orientation = CNNEncoder(1, head)(torch.rand(3, 1, *size), torch.rand(3, 1, *size), 1)
    assert torch.equal(orientation.angle, torch.zeros(3, 1))
    assert torch.equal(orientation.log_weight, torch.zeros(3, 1))


@pytest.mark.parametrize("options", [("rot_stn", "model/encoder=cnn"), ("affine_stn",)])
def test_models_start_at_the_identity(options: tuple[str, ...]) -> None:
    image = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(model(*options).eval()(image, None).aligned, image, atol=1e-5, rtol=0)


def test_classifiers_are_equal() -> None:
    shapes = [
        [tuple(p.shape) for p in model(name).classifier.parameters()] for name in ("rot_stn", "affine_stn", "cnn")
    ]
    assert shapes[0] == shapes[1] == shapes[2]


@pytest.mark.parametrize(
    "options",
    [
        ("model/encoder=cnn", "model.encoder.head=scalar"),
        ("model/encoder=cnn", "model.encoder.head=vector"),
        ("model.hypotheses=1",),
    ],
)
def test_the_loss_reaches_the_first_weight_through_the_angle_alone(options: tuple[str, ...]) -> None:
    """With one hypothesis the classifier reads only the rotated image: the encoder's gradient comes by the angle."""
    torch.manual_seed(0)
    built = model("rot_stn", *options)
    image, label = torch.rand(8, 1, 28, 28), torch.arange(8)
    optimizer = torch.optim.SGD(built.parameters(), lr=0.01)
    for _ in range(2):  # the head's zero weights stop the first step's gradient before the stack
        optimizer.zero_grad()
        F.nll_loss(built(image, None).log_probability, label).backward()
        optimizer.step()
    first = next(p for p in built.encoder.parameters() if p.ndim == 4)
    assert first.grad.abs().max() > 0

    # and it is the derivative: a finite difference in float64 along one direction
    built = built.double().eval()
    image = image.double()
    direction = torch.randn_like(first)

    def loss() -> torch.Tensor:
        return F.nll_loss(built(image, None).log_probability, label)

    built.zero_grad()
    loss().backward()
    expected = (first.grad * direction).sum()
    step = 1e-9  # smaller than the distance to the next kink of pooling and interpolation
    with torch.no_grad():
        first += step * direction
        above = loss()
        first -= 2 * step * direction
        below = loss()
    difference = (above - below) / (2 * step)
    assert abs(difference - expected) < 1e-3 * abs(expected) + 1e-9


def test_the_transform_is_always_a_rotation() -> None:
    """For any weights, the rotated image equals the image sampled by an orthogonal matrix."""
    for seed in range(5):
        torch.manual_seed(seed)
        built = model("rot_stn", shape=(1, 20, 30)).eval()
        for p in built.parameters():
            nn.init.normal_(p, std=0.5)
        image = torch.rand(4, 1, 20, 30)
        prediction = built(image, None)
        theta = rotation_theta(prediction.orientation.angle[:, 0], 20, 30)
        stretch = torch.tensor([[1.0, 30 / 20], [20 / 30, 1.0]])
        pixel = (theta[..., :2] * stretch).double()
        torch.testing.assert_close(pixel @ pixel.mT, torch.eye(2).double().expand(4, 2, 2), atol=1e-6, rtol=0)
        assert (torch.linalg.det(pixel) > 0).all()
        grid = F.affine_grid(theta, [4, 1, 20, 30], align_corners=False)
        expected = F.grid_sample(image, grid, align_corners=False)
        torch.testing.assert_close(prediction.aligned, expected, atol=1e-5, rtol=0)
        assert prediction.orientation.angle.abs().max() > 0.01


def test_a_200_by_300_image_does_not_shear() -> None:
    """A disc beside the centre stays round: its two second moments are equal."""

    class FixedAngle(nn.Module):
        def forward(self, image: torch.Tensor, reference: torch.Tensor, hypotheses: int) -> Orientation:
            angle = torch.full((len(image), 1), math.radians(40))
            return Orientation(angle, torch.zeros_like(angle), None)

    y, x = np.mgrid[:200, :300]
    disc = torch.from_numpy(np.hypot(y - 70, x - 180) < 20).float()[None, None]
    built = RotSTN(FixedAngle(), None, 1, None, "batch", (1, 200, 300))
    rotated = built(disc, torch.zeros_like(disc)).aligned[0, 0].numpy()
    mass = rotated.sum()
    centre = np.array([(rotated * y).sum(), (rotated * x).sum()]) / mass
    spread = [
        [(rotated * (a - ca) * (b - cb)).sum() / mass for b, cb in ((y, centre[0]), (x, centre[1]))]
        for a, ca in ((y, centre[0]), (x, centre[1]))
    ]
    np.testing.assert_allclose(spread, np.eye(2) * 100, atol=1)  # radius^2 / 4
    # counter-clockwise, y down: (right, up) = (30.5, 29.5) rotates by 40 degrees
    c, s = math.cos(math.radians(40)), math.sin(math.radians(40))
    right, up = 180 - 149.5, 99.5 - 70
    np.testing.assert_allclose(
        [centre[1] - 149.5, 99.5 - centre[0]], [c * right - s * up, s * right + c * up], atol=0.1
    )


@pytest.mark.parametrize("count", [4, 50])
def test_the_mixture_is_that_of_the_formula(count: int) -> None:
    """Compare with numpy in float64, for each hypothesis above the threshold, in a small and in a larger batch."""
    some = torch.tensor([[0.7, 0.2, 0.1], [0.895, 0.1, 0.005], [0.994, 0.003, 0.003], [0.34, 0.33, 0.33]])
    weight = some.repeat(count // 4 + 1, 1)[:count]
    angle = torch.rand(count, 3) * 6

    class Three(nn.Module):
        def forward(self, image: torch.Tensor, reference: torch.Tensor, hypotheses: int) -> Orientation:
            return Orientation(angle, weight.log(), None)

    built = model("rot_stn").eval()
    built.encoder = Three()
    with torch.no_grad():
        built.classifier.linear.weight *= 30  # a classifier that influences the weights
    image = torch.rand(count, 1, 28, 28)
    prediction: Prediction = built(image, None)
    logits = np.stack([built.classifier(rotate(image, angle[:, k])).detach().double().numpy() for k in range(3)], 1)
    joint = np.where(weight > 0.01, weight.double(), 0)[..., None] * np.exp(logits)
    joint /= joint.sum((1, 2), keepdims=True)
    np.testing.assert_allclose(prediction.log_probability.detach().exp(), joint.sum(1), atol=1e-4)
    best = joint.sum(2).argmax(1)
    torch.testing.assert_close(prediction.aligned, rotate(image, angle[range(count), best]))
    torch.testing.assert_close(prediction.orientation.angle[:, 0], angle[range(count), best])
    weights_then = np.sort(joint.sum(2), 1)[:, ::-1]
    np.testing.assert_allclose(prediction.orientation.log_weight.detach().exp(), weights_then, atol=1e-4)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_one_hypothesis_is_the_plain_rotation_stn(interpolation: str) -> None:
    built = model("rot_stn", "model.hypotheses=1", f"model.interpolation={interpolation}").eval()
    image, read = torch.rand(4, 1, 28, 28), []
    hook = built.classifier.register_forward_pre_hook(lambda _, inputs: read.append(len(inputs[0])))
    prediction: Prediction = built(image, None)
    hook.remove()
    assert read == [4]
    grid = F.affine_grid(rotation_theta(prediction.orientation.angle[:, 0], 28, 28), [4, 1, 28, 28], False)
    rotated = F.grid_sample(image, grid, interpolation, align_corners=False)
    plain = built.classifier(rotated).log_softmax(-1)
    torch.testing.assert_close(prediction.log_probability, plain, atol=1e-5, rtol=0)
    torch.testing.assert_close(prediction.orientation.log_weight, torch.zeros(4, 1), atol=1e-6, rtol=0)


def test_training_augments_by_the_interpolation_of_the_model() -> None:
    built = model("rot_stn", "model.hypotheses=1", "model.interpolation=lanczos").train()
    modes: list[str] = []

    class Recorder(nn.Module):
        count = 1

        def forward(self, image: torch.Tensor, angle: torch.Tensor, numbers: torch.Tensor, mode: str) -> torch.Tensor:
            modes.append(mode)
            return rotate(image, angle, mode)

    built.augment = Recorder()
    image = torch.rand(4, 1, 28, 28)
    prediction = built(image, None)
    assert modes == ["lanczos"]
    bilinear = rotate(image, prediction.orientation.angle[:, 0])
    assert (prediction.aligned - bilinear).abs().max() > 0.01
    assert prediction.log_probability.isfinite().all()


@pytest.mark.parametrize("training", [False, True])
def test_the_classifier_reads_likely_hypotheses_and_in_training_deforms_them(training: bool) -> None:
    weight = torch.tensor([[0.9, 0.099, 0.001], [0.5, 0.4, 0.1], [0.998, 0.001, 0.001]]).repeat(41, 1)
    angle, image = torch.rand(123, 3) * 6, torch.rand(123, 1, 28, 28)
    seen = []

    class Three(nn.Module):
        def forward(self, image: torch.Tensor, reference: torch.Tensor, hypotheses: int) -> Orientation:
            return Orientation(angle, weight.log(), None)

    built = model("rot_stn").train(training)
    built.encoder = Three()
    built.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    torch.manual_seed(1)
    prediction = built(image, None)
    (read,) = seen
    whose, which = np.nonzero(weight.numpy() > 0.01)
    assert len(whose) == 123 + 123
    assert len(read) == 123 + 128  # 123 likely ones besides the best, rounded up
    if training:
        torch.manual_seed(1)
        numbers = torch.randn(len(read), 56)[: len(whose)]
        expected = built.augment(image[whose], angle[whose, which], numbers)
    else:
        expected = rotate(image[whose], angle[whose, which])
    torch.testing.assert_close(read[: len(whose)], expected)
    torch.testing.assert_close(prediction.aligned, rotate(image, prediction.orientation.angle[:, 0]))


def test_a_large_batch_is_padded_to_larger_multiples_and_classified_as_small_ones() -> None:
    weight = torch.tensor([[0.9, 0.099, 0.001], [0.998, 0.001, 0.001]]).repeat(
        320, 1
    )  # 320 besides the best, and 9 more
    weight[1:19:2] = weight[0]
    angle, counts = torch.rand(640, 3) * 6, []
    image = torch.rand(640, 1, 28, 28) / 2
    image[:, 0, 0, 0] = torch.arange(640) / 640  # the index of the image

    class Three(nn.Module):
        def forward(self, image: torch.Tensor, reference: torch.Tensor, hypotheses: int) -> Orientation:
            place = (image[:, 0, 0, 0] * 640).round().long()
            return Orientation(angle[place], weight[place].log(), None)

    built = model("rot_stn").eval()
    built.encoder = Three()
    hook = built.classifier.register_forward_pre_hook(lambda _, inputs: counts.append(len(inputs[0])))
    with torch.no_grad():
        whole = built(image, None).log_probability
        hook.remove()
        parts = torch.cat([built(part, None).log_probability for part in image.split(100)])
    assert counts[0] == 640 + 340  # 329 rounded up to a multiple of 640 / 32
    torch.testing.assert_close(whole, parts, atol=1e-4, rtol=0)


def test_the_learned_reference_is_one_for_all_images() -> None:
    built = model("rot_stn", "model.reference=learned")
    with torch.no_grad():
        built.reference.normal_()
    reference = built(torch.rand(5, 1, 28, 28), None).reference
    assert torch.equal(reference, built.reference.expand(5, -1, -1, -1))
    assert built.reference.requires_grad


def test_reference_and_data_must_agree() -> None:
    image = torch.rand(2, 1, 28, 28)
    with pytest.raises(InputError, match=r"model\.reference=batch"):
        model("rot_stn")(image, image)
    with pytest.raises(InputError, match=r"model\.reference=learned"):
        model("rot_stn", "model.reference=batch")(image, None)
    with pytest.raises(ValueError, match="expected features, learned or batch, got 'upright'"):
        RotSTN(CNNEncoder(1, "vector"), None, 1, None, "upright", (1, 28, 28))
    with pytest.raises(InputError, match="set reference=learned"):
        RotSTN(CNNEncoder(1, "vector"), None, 1, None, "features", (1, 28, 28))
    with pytest.raises(ValueError, match="expected scalar or vector, got 'bins'"):
        CNNEncoder(1, "bins")
