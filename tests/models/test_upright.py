"""`Upright`, with an encoder whose angle is exact: its reference is the upright image itself."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from conftest import composed, model
from sklearn.datasets import load_digits, load_sample_image
from torch import Tensor, nn
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn
from torchvision.models.segmentation import lraspp_mobilenet_v3_large
from torchvision.ops import box_iou

from stnrot import Upright
from stnrot.errors import InputError
from stnrot.geometry import angular_distance, circular_mean, inscribed_disc, rotate
from stnrot.models.confidence import confidence
from stnrot.models.encoders.cnn import CNNEncoder
from stnrot.models.encoders.polar import PolarEncoder
from stnrot.models.upright import UPRIGHT_WITHIN, photograph_encoder

SIDE = 96
PIXELS = load_sample_image("china.jpg")[100 : 100 + 2 * SIDE : 2, 150 : 150 + 2 * SIDE : 2]
IMAGE = torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)[None].float() / 255


def exact(network: nn.Module, image: Tensor = IMAGE, hypotheses: int = 1, **options: bool) -> Upright:
    model = Upright(network, photograph_encoder(3), hypotheses, **options).eval()
    model.reference = nn.Parameter(image.clone())
    return model


def classifier() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(72, 5)
    )


@torch.inference_mode()
def test_a_segmentation_of_torchvision_turns_with_the_image() -> None:
    torch.manual_seed(0)
    network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4).eval()
    model = exact(network)
    expected = model(IMAGE)["out"]
    inside = inscribed_disc((SIDE, SIDE), margin=4)

    def error(found: Tensor, wanted: Tensor) -> float:
        return ((found - wanted) * inside).abs().max() / wanted[..., inside].std(-1).max()

    for turns in (1, 2, 3):
        turned = torch.rot90(IMAGE, turns, (2, 3))
        assert error(model(turned)["out"], torch.rot90(expected, turns, (2, 3))) < 0.01
        assert error(network(turned)["out"], torch.rot90(expected, turns, (2, 3))) > 1
    image = IMAGE * inscribed_disc((SIDE, SIDE))  # between quarter turns the corners are lost
    model = exact(network, image)
    upright = model(image)["out"]
    for radians in (0.5, 2.0):  # everything is sampled twice: so much changes what the network reads
        angle = torch.tensor([radians])
        turned, expected = rotate(image, angle, "bicubic"), rotate(upright, angle)
        sampled_twice = rotate(network(rotate(turned, -angle, "bicubic"))["out"], angle)
        resampling, found, bare = (
            ((each - expected) * inside).square().mean().sqrt()
            for each in (sampled_twice, model(turned)["out"], network(turned)["out"])
        )
        assert found < 1.3 * resampling
        assert found < 0.5 * bare


@torch.inference_mode()
def test_a_detection_of_torchvision_turns_with_the_image() -> None:
    options = {"min_size": 128, "max_size": 128, "box_score_thresh": 0.0, "box_detections_per_img": 20}
    network = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=3, **options)
    model = exact(network.eval())
    (first,) = model(IMAGE)
    (second,) = model(torch.rot90(IMAGE, 1, (2, 3)))
    left, top, right, bottom = first["boxes"].unbind(1)
    expected = torch.stack((top, SIDE - right, bottom, SIDE - left), 1)
    assert len(expected) == 20
    assert box_iou(expected, second["boxes"]).amax(1).min() > 0.99
    assert (second["oriented_boxes"][:, 2:4].prod(1) <= (second["boxes"][:, 2:] - second["boxes"][:, :2]).prod(1)).all()


@pytest.mark.parametrize("frozen", [True, False])
def test_logits_are_mixed_as_in_a_plain_loop(frozen: bool) -> None:
    network, images = classifier(), torch.rand(4, 3, SIDE, SIDE)
    model = exact(network, hypotheses=3, frozen=frozen)
    orientation = model.orient(images)
    total = torch.zeros(4, 5)
    for angle, weight in zip(orientation.angle.T, orientation.log_weight.exp().T, strict=True):
        logits = network(rotate(images, angle, "bicubic"))
        total += weight[:, None] * (logits.softmax(1) if frozen else logits.exp())
    torch.testing.assert_close(model(images), (total / total.sum(1, keepdim=True)).log())
    assert orientation.log_weight.exp()[:, 0].max() < 0.999  # there is something to mix


def test_one_hypothesis_is_one_pass_with_the_logits_of_the_network() -> None:
    network, images, sizes = classifier(), torch.rand(4, 3, SIDE, SIDE), []
    network.register_forward_hook(lambda module, given, out: sizes.append(len(given[0])))
    model = exact(network)
    aligned, orientation = model.align(images)
    assert torch.equal(model(images), network(aligned))
    assert torch.equal(aligned, rotate(images, orientation.angle[:, 0], "bicubic"))
    assert sizes == [4, 4]


@torch.inference_mode()
def test_an_image_of_low_confidence_stays_as_it_is() -> None:
    images = torch.cat((rotate(IMAGE, 1.0, "bicubic"), torch.full_like(IMAGE, 0.5)))
    model = exact(nn.Identity())
    model.encoder.log_scale.data += 6  # as sharp as after training
    every = model.orient(images)
    sure, unsure = confidence(every, UPRIGHT_WITHIN)[:, 0].tolist()
    assert unsure < 0.26 < 0.3 < sure  # grey looks the same after each quarter turn
    model.min_confidence = 0.28
    aligned, orientation = model.align(images)
    assert orientation.angle[:, 0].tolist() == [every.angle[0, 0], 0]
    torch.testing.assert_close(aligned[1], images[1])
    torch.testing.assert_close(model(images)[1], images[1])
    assert (model.train().align(images)[1].angle != 0).all()


def test_an_image_of_nan_stays_as_it_is_where_a_confidence_is_asked() -> None:
    images = torch.cat((IMAGE, torch.full_like(IMAGE, math.nan)))
    angle = Upright(classifier(), "photos", min_confidence=0.01).eval().orient(images).angle[:, 0]
    assert angle[1] == 0
    assert angle[0].isfinite()


@pytest.mark.parametrize("hypotheses", [1, 3])
def test_a_network_of_another_precision_reads_images_of_its_own(hypotheses: int) -> None:
    expected = Upright(classifier().eval(), "photos", hypotheses).eval()
    for dtype, atol in ((torch.float64, 1e-5), (torch.bfloat16, 0.05)):
        network = copy.deepcopy(expected.network).to(dtype)
        found = Upright(network, "photos", hypotheses).eval()(IMAGE)
        torch.testing.assert_close(found.float(), expected(IMAGE), atol=atol, rtol=0)


def test_sixteen_bits_on_a_cpu() -> None:
    """The encoder resizes the image, which torch does not do in 16 bits."""
    model = Upright(classifier(), "photos").eval()
    found = copy.deepcopy(model).bfloat16().orient(IMAGE.bfloat16()).angle
    assert angular_distance(found, model.orient(IMAGE).angle).max() < math.radians(5)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_a_network_in_torchscript_is_frozen_and_read() -> None:
    network = classifier().eval()
    scripted = Upright(torch.jit.script(network), "photos").eval()
    torch.testing.assert_close(scripted(IMAGE), Upright(network, "photos").eval()(IMAGE))
    assert not any(each.requires_grad for each in scripted.network.parameters())
    exported = torch.export.export(network, (IMAGE,)).module()
    with pytest.raises(InputError, match="network: expected one that has an evaluation mode"):
        Upright(exported, "photos")


def test_one_logit_cannot_be_mixed() -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1))
    with pytest.raises(InputError, match="hypotheses=3: expected logits of at least two classes to mix, got"):
        Upright(network, "photos", 3).eval()(IMAGE)
    with pytest.raises(InputError, match="of at least two classes"):
        Upright(network, "photos").loss(IMAGE, torch.zeros(1, dtype=torch.int64))


def test_the_normalisation_stands_behind_the_rotation() -> None:
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    model = Upright(nn.Identity(), mean=mean, std=std).eval()
    turned = model.align(IMAGE)[0][0]
    expected = torch.stack([(turned[k] - mean[k]) / std[k] for k in range(3)])
    seen = []
    model.network.register_forward_hook(lambda module, given, out: seen.append(given[0][0]))
    model(IMAGE)
    torch.testing.assert_close(seen[0], expected)


def test_a_frozen_network_stays_as_it_is_and_the_encoder_learns_through_it() -> None:
    network = classifier()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    model = Upright(network).train()
    assert not network.training
    assert model.encoder.training
    optimizer = torch.optim.SGD((each for each in model.parameters() if each.requires_grad), 0.1)
    images, labels = torch.rand(6, 3, 32, 32), torch.arange(6) % 5
    images = F.interpolate(images, SIDE)
    F.cross_entropy(model(images), labels).backward()
    assert next(model.encoder.features.parameters()).grad.abs().max() > 0  # by the angle alone
    model.loss(images, labels).backward()
    optimizer.step()
    assert all(each.grad is None for each in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("upright", [True, False])
def test_a_network_that_is_not_frozen_is_trained_along(upright: bool) -> None:
    network = classifier()
    model = Upright(network, hypotheses=2, frozen=False).train()
    assert network.training
    model.loss(torch.rand(6, 3, SIDE, SIDE), torch.arange(6) % 5, upright=upright).backward()
    assert all(each.grad.abs().max() > 0 for each in (network[5].weight, model.reference, model.encoder.log_scale))


def test_a_trained_model_lends_its_encoder_and_its_reference() -> None:
    images = torch.rand(3, 3, 32, 32)
    trained = model("rot_stn", "model.hypotheses=1", shape=(3, 32, 32)).eval()
    first = Upright(nn.Identity(), trained).eval()
    second = Upright(nn.Flatten(), first).eval()
    disc = inscribed_disc((32, 32))
    expected = trained.orient(images * disc, None)[0].angle
    for each in (first, second):
        torch.testing.assert_close(each.orient(images).angle, expected)
        assert each.reference is trained.reference
    with pytest.raises(InputError, match="encoder: expected a model with a learned reference"):
        Upright(nn.Identity(), model("rot_stn", "model.reference=batch"))


def test_autocast_changes_little() -> None:
    upright = exact(classifier(), hypotheses=2, frozen=False)
    images, labels = torch.rand(4, 3, SIDE, SIDE), torch.arange(4)
    expected = upright(images)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(upright(images).float(), expected, atol=0.05, rtol=0)
        assert upright.loss(images, labels).isfinite()


def test_both_losses_know_the_sign_of_the_angle() -> None:
    """The encoder that is exact has a small loss: on the upright image as such, on a turned one if that is said."""
    model = exact(nn.Identity())
    model.encoder.log_scale.data += 6  # as sharp as after training
    images, unknown = (each.expand(16, -1, -1, -1) for each in (IMAGE, rotate(IMAGE, 1.0, "bicubic")))
    with torch.no_grad():
        right, wrong, free = model.loss(images), model.loss(unknown), model.loss(unknown, upright=False)
    assert max(right, free) < wrong - 0.5


def test_fit_learns_from_a_tensor_and_from_a_loader() -> None:
    images, labels = IMAGE.unfold(2, 24, 12).unfold(3, 24, 12).flatten(2, 3)[0].transpose(0, 1), torch.arange(49) % 5
    model = Upright(nn.Sequential(nn.Flatten(), nn.Linear(3 * 24**2, 5)))
    means = model.fit(images, epochs=12, batch_size=49, lr=3e-3)
    assert len(means) == 12
    assert means[-1] < means[0]
    assert not model.training
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), 49)
    assert len(model.fit(loader, epochs=1, upright=False)) == 1


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([(IMAGE,)], torch.zeros(1)), {}, "labels: expected None with a loader"),
        ((iter([(IMAGE,)]),), {}, "images: expected a tensor"),
        ((IMAGE[:0],), {}, "images: expected a tensor .* and at least one batch"),
        ((IMAGE, torch.zeros(2, dtype=torch.int64)), {}, r"labels: expected a tensor \[1\] of whole numbers, got"),
        (([{"image": IMAGE}],), {}, "images: expected batches of images, or of .images, labels., got dict"),
        (([(IMAGE, IMAGE, IMAGE)],), {}, "images: expected batches of images, or of .images, labels., got tuple of 3"),
        ((IMAGE * 255,), {}, "images: expected values in .0, 1., got 0 to 255; divide bytes by 255"),
        ((IMAGE / 0.1 - 5,), {}, "images: expected values in .0, 1., got -5 to 5"),
        ((IMAGE.where(IMAGE > 0.1, math.nan),), {}, "images: expected values in .0, 1., got nan to nan"),
        ((IMAGE,), {"lr": -1.0}, "lr=-1.0: expected a number of at least 0"),
        ((IMAGE, torch.full((1,), 5)), {}, "labels: expected numbers from 0 to 4: Target 5 is out of bounds"),
    ],
)
def test_what_fit_refuses(
    arguments: tuple[object, ...], options: dict[str, float], message: str, unchecked: None
) -> None:
    with pytest.raises(InputError, match=message):
        Upright(classifier()).fit(*arguments, epochs=1, **options)


def test_a_batch_that_fit_refuses_leaves_the_model_as_it_was() -> None:
    model = Upright(classifier())
    before = {name: each.clone() for name, each in model.named_parameters()}
    with pytest.raises(InputError, match="images: expected values"):
        model.fit(torch.full_like(IMAGE, math.nan), epochs=1)
    assert all(torch.equal(each, before[name]) for name, each in model.named_parameters())


def test_fit_stops_before_a_loss_that_is_not_finite_changes_the_weights() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 5))
    nn.init.constant_(network[1].bias, math.nan)
    model = Upright(network, "photos")
    before = {name: each.clone() for name, each in model.encoder.named_parameters()}
    with pytest.raises(InputError, match="loss: expected a finite number, got nan; try a smaller lr"):
        model.fit(IMAGE.expand(2, -1, -1, -1), torch.tensor([0, 1]), epochs=1)
    assert all(torch.equal(each, before[name]) for name, each in model.encoder.named_parameters())


def test_fit_needs_something_to_train() -> None:
    upright = Upright(nn.Identity())
    with pytest.raises(InputError, match="expected a model with parameters to train"):
        upright.requires_grad_(False).fit(IMAGE, epochs=1)


def test_its_own_encoder_has_the_values_of_the_configuration() -> None:
    config = composed("train", "model/encoder=p4").model.encoder
    encoder, first = photograph_encoder(3), config.width
    assert encoder.features[0].kernel.shape == (first, 3, 3, 3)
    for name in ("side", "angles", "dropout"):
        assert getattr(encoder, name) == config[name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": None}, "network: expected a network"),
        ({"encoder": CNNEncoder(3, "vector")}, "encoder: expected one that compares features"),
        (
            {"network": nn.Linear(2, 2).requires_grad_(False), "frozen": False},
            "frozen=False: .* are all frozen; network.req",
        ),
        ({"network": nn.LazyLinear(5)}, "network: expected one whose parameters have a shape; run it once"),
        ({"hypotheses": 65}, "hypotheses=65: expected a whole number from 1 to 64"),
        ({"frozen": 1}, "frozen=1: expected true or false"),
        ({"min_confidence": 50}, "min_confidence=50: expected a number from 0 to 1"),
        ({"mean": [0.5]}, "mean, std: expected both or neither, got one"),
        ({"mean": [0.5] * 2, "std": [1.0]}, r"mean=\[0.5, 0.5\]: expected .* or one for each of 3 channels"),
        ({"mean": 0.5, "std": 1.0}, r"mean=0.5: expected a sequence, each a finite number; one for all channels"),
        ({"mean": [0.5], "std": [0.0]}, r"std=\[0.0\]: expected a sequence, each a finite number of at least"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, object], message: str, unchecked: None) -> None:
    with pytest.raises(InputError, match=message):
        Upright(**{"network": nn.Identity()} | options)


@pytest.mark.parametrize("hypotheses", [1, 2])
def test_an_output_that_is_not_that_of_the_images_is_refused(hypotheses: int) -> None:
    network = nn.Identity()
    upright = Upright(network, hypotheses=hypotheses).eval()
    outputs = [lambda x: x[1:], lambda x: x.mean((2, 3))[1:], lambda x: [{}] * (len(x) - 1), lambda x: []]
    for output in outputs:
        handle = network.register_forward_hook(lambda module, given, out, output=output: output(out))
        with pytest.raises(InputError, match=f"output: expected one entry for each of {2 * hypotheses} images, got"):
            upright(IMAGE.expand(2, -1, -1, -1))
        handle.remove()
    network.register_forward_hook(lambda module, given, out: {"loss": out.mean(), "label": out[:, :, 0, 0].long()})
    found = upright(IMAGE.expand(2, -1, -1, -1))
    assert found["loss"].ndim == 0
    assert found["label"].shape == (2, 3)


def test_it_computes_shapes_on_the_device_meta() -> None:
    upright = Upright(classifier(), hypotheses=2, mean=[0.5], std=[0.2]).to("meta")
    assert upright(torch.empty(2, 3, SIDE, SIDE, device="meta")).shape == (2, 5)
    assert upright.loss(torch.empty(2, 3, SIDE, SIDE, device="meta")).shape == ()


def test_a_frozen_network_does_not_freeze_the_encoder() -> None:
    upright = Upright(classifier())
    with pytest.raises(InputError, match="frozen=True: expected a network without parameters of the encoder"):
        Upright(upright, upright)
    assert Upright(upright, upright, frozen=False).encoder.log_scale.requires_grad


def test_bad_images_are_refused(unchecked: None) -> None:
    upright = Upright(nn.Conv2d(3, 2, 1))
    for images in ([IMAGE[0]], IMAGE[0], (IMAGE * 255).byte()):
        with pytest.raises(InputError, match=r"image: expected a tensor \[B, C, H, W\] of real numbers, got"):
            upright(images)
    with pytest.raises(InputError, match=r"\.float\(\) / 255 converts bytes"):
        upright((IMAGE * 255).byte())
    with pytest.raises(InputError, match=r"H, W\], in training of at least one image"):
        upright.train()(IMAGE[:0])
    with pytest.raises(InputError, match="image: expected a tensor"):
        upright.encoder(torch.tensor(0.0), upright.reference, 1)
    with pytest.raises(InputError, match=r"image: expected a tensor \[B, 3, H, W\]"):
        upright(IMAGE[:, :1])
    with pytest.raises(InputError, match="labels: expected None, because the network does not return logits"):
        upright.loss(IMAGE, torch.zeros(1, dtype=torch.int64))
    with pytest.raises(InputError, match=r"labels: expected a tensor \[B\]"):
        upright.loss(IMAGE, torch.zeros(1, SIDE, SIDE, dtype=torch.int64))


@pytest.mark.slow
@pytest.mark.parametrize("upright", [True, False])
def test_the_upright_is_learned_without_labels(upright: bool) -> None:
    """Digits never seen in training: by upright ones, and by turned ones, which agree within each class."""
    digits, label = load_digits(return_X_y=True)
    pixels = torch.from_numpy(digits).float().view(-1, 1, 8, 8) / 16
    pixels = F.pad(F.interpolate(pixels, size=20, mode="bicubic", align_corners=False).clamp(0, 1), (4, 4, 4, 4))
    angle = (2 * torch.rand(len(pixels)) - 1) * math.pi
    turned, training = rotate(pixels, angle, "bicubic"), torch.arange(len(pixels)) < 1500
    encoder = PolarEncoder(1, width=16, radii=16, angles=64, blur=1.2, dropout=0.2, dropout_circles=0.0, shift=0.0)
    finder = Upright(nn.Identity(), encoder)
    finder.fit((pixels if upright else turned)[training], upright=upright, epochs=12)
    with torch.inference_mode():
        found = finder.orient(turned[~training]).angle[:, 0] + angle[~training]
    own = [found[torch.from_numpy(label)[~training] == each] for each in range(10)]
    if not upright:  # each class has an upright of its own
        own = [each - circular_mean(each) for each in own]
    near = (angular_distance(torch.cat(own), torch.zeros(())) < math.pi / 4).float().mean()
    assert near > (0.75 if upright else 0.6)  # by chance 0.25


@pytest.mark.ci
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("hypotheses", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_an_exported_model_equals_the_model(hypotheses: int, tmp_path: object) -> None:
    """torch.export and ONNX, with the network inside, for any number of images."""
    import onnxruntime

    model = Upright(classifier(), hypotheses=hypotheses, mean=[0.4] * 3, std=[0.2] * 3).eval()
    images = rotate(IMAGE.expand(4, -1, -1, -1), torch.arange(4.0))
    model.min_confidence = confidence(model.orient(images), UPRIGHT_WITHIN)[:2, 0].mean().item()
    assert model.orient(images[:2]).angle[:, 0].count_nonzero() == 1
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(model, (images,), dynamic_shapes=shapes)
    torch.onnx.export(model, (images,), f"{tmp_path}/model.onnx", dynamo=True, dynamic_shapes=shapes)
    session = onnxruntime.InferenceSession(f"{tmp_path}/model.onnx")
    for count in (1, 3):
        with torch.inference_mode():
            expected = model(images[:count])
        torch.testing.assert_close(program.module()(images[:count]), expected, atol=1e-4, rtol=0)
        (found,) = session.run(None, {session.get_inputs()[0].name: images[:count].numpy()})
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=0)
