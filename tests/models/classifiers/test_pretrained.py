"""Networks of torchvision and timm behave as those libraries say, with weights from a file; nothing is downloaded."""

import re
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model_builder, get_model_weights
from torchvision.transforms.v2.functional import normalize

from stnrot.errors import InputError
from stnrot.models.classifiers.pretrained import PretrainedClassifier
from stnrot.models.classifiers.timm import TimmClassifier
from stnrot.models.classifiers.torchvision import TorchvisionClassifier

SMALL = {TorchvisionClassifier: "shufflenet_v2_x0_5", TimmClassifier: "test_resnet"}
HEAD = {TorchvisionClassifier: "fc", TimmClassifier: "fc"}
BOTH = pytest.mark.parametrize("kind", [TorchvisionClassifier, TimmClassifier])
HEADS = ("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "mnasnet0_5")
HEADS = (*HEADS, "mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "vgg11", "vit_b_32")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> NoReturn:
        raise OSError("there is no network")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def build(kind: type, **options: Any) -> PretrainedClassifier:
    given = {
        "name": SMALL.get(kind),
        "channels": 3,
        "classes": 7,
        "pretrained": False,
        "weights": None,
        "frozen": False,
    }
    return kind(**(given | options))


def original(kind: type, classes: int) -> nn.Module:
    """The same network from its library."""
    torch.manual_seed(5)
    if kind is TimmClassifier:
        return timm.create_model(SMALL[kind], num_classes=classes)
    return get_model_builder(SMALL[kind])(num_classes=classes)


@BOTH
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_with_weights_of_a_file_it_is_the_network_of_the_library(kind: type, suffix: str, tmp_path: Path) -> None:
    network, path = original(kind, 7), tmp_path / f"weights{suffix}"
    save_file(network.state_dict(), path) if suffix == ".safetensors" else torch.save(network.state_dict(), path)
    classifier = build(kind, pretrained=True, weights=str(path)).eval()
    image = torch.rand(3, 3, 64, 64)
    config = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    config = timm.data.resolve_model_data_config(network) if kind is TimmClassifier else config
    normal = normalize(image, config["mean"], config["std"])
    torch.testing.assert_close(classifier(image), network.eval()(normal))
    grey = build(kind, pretrained=True, weights=str(path), channels=1).eval()
    torch.testing.assert_close(grey(image[:, :1]), classifier(image[:, :1].repeat(1, 3, 1, 1)))


@BOTH
@pytest.mark.parametrize("wrapped", ["state_dict", "model", None])
def test_the_last_layer_is_new_if_the_classes_are_others(kind: type, wrapped: str | None, tmp_path: Path) -> None:
    network, path = original(kind, 20), tmp_path / "weights.pth"
    torch.save({wrapped: network.state_dict()} if wrapped else network.state_dict(), path)
    classifier = build(kind, pretrained=True, weights=str(path), frozen=True)
    own, given = classifier.network.state_dict(), network.state_dict()
    for name in own:
        if not name.startswith(HEAD[kind]):
            assert torch.equal(own[name], given[name])
    assert own[f"{HEAD[kind]}.weight"].shape[0] == 7


@BOTH
def test_frozen_trains_the_last_layer_alone(kind: type) -> None:
    classifier = build(kind, frozen=True)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=0.1, weight_decay=0.1)
    image = torch.rand(4, 3, 64, 64, requires_grad=True)
    assert not classifier.network.training
    assert classifier.network.get_submodule(HEAD[kind]).training
    for _ in range(2):
        optimizer.zero_grad()
        classifier.train()(image).square().sum().backward()
        optimizer.step()
    changed = {name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"network.{HEAD[kind]}.weight", f"network.{HEAD[kind]}.bias"}
    assert image.grad is not None
    assert image.grad.abs().sum() > 0


@pytest.mark.parametrize("name", HEADS)
def test_the_last_layer_of_torchvision_is_found(name: str) -> None:
    with torch.device("meta"):
        classifier = build(TorchvisionClassifier, name=name, frozen=True)
    learned = [each for each, weight in classifier.network.named_parameters() if weight.requires_grad]
    assert {each.rpartition(".")[0] for each in learned} == set(classifier.heads)
    assert all(classifier.network.get_parameter(each).shape[0] == 7 for each in learned)
    assert [each for each, _ in classifier.network.named_parameters()][-1] in learned


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "levit_128s"])
def test_the_last_layers_and_the_mean_of_timm_are_found(name: str) -> None:
    network = timm.create_model(name, num_classes=7)
    classifier = build(TimmClassifier, name=name, frozen=True)
    learned = {each for each, weight in classifier.network.named_parameters() if weight.requires_grad}
    assert learned == {each for each, weight in network.named_parameters() if weight.shape[0] == 7}
    assert classifier.mean.flatten().tolist() == pytest.approx(timm.data.resolve_model_data_config(network)["mean"])


def test_the_means_of_two_old_networks_are_those_that_torchvision_converts_to() -> None:
    """torchvision gives them images with ImageNet's mean, and `transform_input` converts these inside the network."""
    image = torch.rand(2, 3, 96, 96)
    classifier = build(TorchvisionClassifier, name="inception_v3").eval()
    network = get_model_builder("inception_v3")(num_classes=7, transform_input=True, init_weights=False).eval()
    network.load_state_dict(classifier.network.state_dict(), strict=False)
    preset = get_model_weights("inception_v3").DEFAULT.transforms()
    expected = network(normalize(image, preset.mean, preset.std))
    torch.testing.assert_close(classifier(image), expected, atol=0, rtol=1e-3)


def test_the_old_names_of_densenet_are_read(tmp_path: Path) -> None:
    network, path = get_model_builder("densenet121")(num_classes=7), tmp_path / "weights.pth"
    old = {re.sub(r"(layer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", k): v for k, v in network.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save({name: value for name, value in old.items() if "num_batches" not in name}, path)
    classifier = build(TorchvisionClassifier, name="densenet121", pretrained=True, weights=str(path))
    for name, value in network.state_dict().items():
        assert torch.equal(classifier.network.state_dict()[name], value)


@BOTH
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet81"}, "name=resnet81: expected a classifier of"),
        ({"name": "hf-hub:timm/resnet18.a1_in1k"}, "name=hf-hub:timm/resnet18.a1_in1k: expected a classifier of"),
        ({"name": "local-dir:/tmp"}, "name=local-dir:/tmp: expected a classifier of"),
        ({"name": "timm/resnet18"}, "name=timm/resnet18: expected a classifier of"),
        ({"name": "../resnet18"}, "name=../resnet18: expected a classifier of"),
        ({"name": ["resnet18"]}, "name=['resnet18']: expected a classifier of"),
        ({"channels": 4}, "channels=4: expected 1 or 3"),
        ({"classes": 0}, "classes=0: expected a whole number of at least 1"),
        ({"pretrained": "no"}, "pretrained=no: expected true or false"),
        ({"frozen": 1}, "frozen=1: expected true or false"),
        ({"weights": "x.pth"}, "weights=x.pth: expected null with pretrained=false"),
        ({"weights": 3}, "weights=3: expected the path of a file, or null"),
        ({"pretrained": True, "weights": "absent.pth"}, "weights=absent.pth: expected a file of weights"),
    ],
)
def test_a_bad_argument_is_one_line(kind: type, options: dict[str, Any], message: str, unchecked: None) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as refused:
        build(kind, **options)
    assert len(str(refused.value).splitlines()) == 1


@BOTH
def test_a_bad_file_runs_no_code(kind: type, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(tmp_path / "canary"), "w"))

    path, other = tmp_path / "bad.pth", tmp_path / "other.pth"
    torch.save({"fc.weight": Attack()}, path)
    torch.save(torchvision.models.resnet18(num_classes=7).state_dict(), other)
    (tmp_path / "text.safetensors").write_text("no tensors")
    (tmp_path / "text.pth").write_text("no tensors")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("bad.pth", "text.safetensors", "text.pth", "list.pth"):
        with pytest.raises(InputError, match=re.escape(f"{name} is not a file of weights")):
            build(kind, pretrained=True, weights=str(tmp_path / name))
    with pytest.raises(InputError, match=r"other\.pth: they are of another network: .* has shape"):
        build(kind, pretrained=True, weights=str(other))
    assert not (tmp_path / "canary").exists()


@BOTH
def test_without_a_network_the_message_names_the_way_out(
    kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    if kind is TimmClassifier:
        monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(InputError, match=r"pretrained=True: the weights of .* could not be .*weights=FILE"):
        build(kind, pretrained=True)


def test_without_timm_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        InputError, match=r'needs the package timm, which is not installed: pip install "stnrot\[timm\]"'
    ):
        build(TimmClassifier, name="resnet18")


def test_images_of_a_size_that_the_network_cannot_read() -> None:
    classifier = build(TimmClassifier, name="test_vit")
    with pytest.raises(InputError, match=r"test_vit cannot read a batch of 2 images of 33 x 40 pixels .*image_size"):
        classifier(torch.rand(2, 3, 33, 40))
    with pytest.raises(InputError, match=r"image: expected a tensor \[B, 3, H, W\]"):
        classifier(torch.rand(2, 1, 160, 160))
