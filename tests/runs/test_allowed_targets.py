"""A checkpoint builds what is known to be safe and what the user trusts. Forged ones touch no canary file."""

import copy
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NO_FIGURES, Called, composed, metrics_of
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from evaluate import evaluate
from stnrot import Aligner, InputError, fit_pose
from stnrot.pose.point_clouds import torus
from stnrot.runs.allowed_targets import check_targets
from stnrot.runs.checkpoints import read_checkpoint, rebuild

OLD = Path(__file__).parent / "before_0_3"
OPTIONS = ("trainer.accelerator=cpu", "callbacks.progress=null", "callbacks.alignment_figures=null")
Job = Callable[..., tuple[float, Path]]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package of the user's own. Its import, and that of its twin `forged_nets`, leaves a file `NAME.imported`."""
    names = ("own_nets", "forged_nets")
    for name in names:
        folder = tmp_path / "site" / name
        folder.mkdir(parents=True)
        mark = f"open({f'{tmp_path / name}.imported'!r}, 'w').close()"
        (folder / "__init__.py").write_text(f"import os\n{mark}\nfrom {name}.nets import Net, small\n")
        (folder / "nets.py").write_text(
            "from stnrot.models.classifiers.conv import ConvClassifier\n\n\n"
            "class Net(ConvClassifier):\n    @classmethod\n    def tiny(cls): return cls(1, 10, 4)\n\n\n"
            "def small(width): return Net(1, 10, width)\n"
        )
    monkeypatch.syspath_prepend(tmp_path / "site")
    importlib.invalidate_caches()
    yield names[0]
    for name in list(sys.modules):
        if name.partition(".")[0] in names:
            del sys.modules[name]


def attacks(canary: Path) -> dict[str, Any]:
    """Nodes of a configuration. Each would write `canary`, download a file or start a process if it were built."""
    touch = {"_target_": "os.system", "_args_": [f"touch {canary}"]}
    hub = canary.parent / "hub"
    hub.mkdir(exist_ok=True)
    (hub / "hubconf.py").write_text(f"open({str(canary)!r}, 'w').close()\ndef net(): pass\n")
    image = canary.parent / "image.png"
    network = {"_target_": "stnrot.models.classifiers.torchvision.TorchvisionClassifier", "name": "resnet18"}
    return {
        "a function": touch,
        "a built-in": {"_target_": "builtins.open", "file": str(canary), "mode": "w"},
        "code": {"_target_": "builtins.exec", "_args_": [f"open({str(canary)!r}, 'w')"]},
        "a method": {
            "_target_": "pathlib.Path.touch",
            "_args_": [{"_target_": "pathlib.Path", "_args_": [str(canary)]}],
        },
        "a class that writes": {"_target_": "logging.FileHandler", "filename": str(canary)},
        "a process": {"_target_": "subprocess.Popen", "args": ["touch", str(canary)]},
        "through torchvision": {"_target_": "torchvision.os.system", "_args_": [f"touch {canary}"]},
        "through torchvision.models": {"_target_": "torchvision.models.resnet.torch.save", "obj": 1, "f": str(canary)},
        "through torch.nn": {"_target_": "torch.nn.modules.module.torch.save", "obj": 1, "f": str(canary)},
        "through stnrot": {"_target_": "stnrot.models.rot_stn.torch.save", "obj": 1, "f": str(canary)},
        "through a class": {"_target_": "torch.nn.Linear.__init__.__globals__", "_args_": []},
        "torch.save": {"_target_": "torch.save", "obj": 1, "f": str(canary)},
        "torch.hub": {"_target_": "torch.hub.load", "repo_or_dir": str(hub), "model": "net", "source": "local"},
        "a compiler": {"_target_": "torch.utils.cpp_extension.load", "name": "x", "sources": [str(canary)]},
        "a module of nn that starts processes": {
            "_target_": "torch.nn.parallel.DistributedDataParallel",
            "module": None,
        },
        "a function of nn": {"_target_": "torch.nn.functional.relu", "input": 1},
        "pretrained weights": {"_target_": "torchvision.models.resnet18", "weights": "DEFAULT"},
        "pretrained weights, the old way": {"_target_": "torchvision.models.resnet18", "pretrained": True},
        "pretrained weights by position": {"_target_": "torchvision.models.resnet18", "_args_": ["DEFAULT"]},
        "a pretrained backbone": {"_target_": "torchvision.models.segmentation.fcn_resnet50"},
        "a downloader": {"_target_": "torchvision.models.get_model", "name": "resnet18", "weights": "DEFAULT"},
        "a function of ours that writes": {
            "_target_": "stnrot.commands.align.align",
            "image": str(image),
            "reference": str(image),
            "out": str(canary),
        },
        "a class of ours that writes": {"_target_": "stnrot.runs.checkpoints.AtomicCheckpointIO"},
        "pretrained weights of a class of ours": network | {"pretrained": True},
        "a file of weights of a class of ours": network | {"weights": str(canary)},
        "a module of timm that is a function": {"_target_": "timm.models.resnet18", "pretrained": True},
        "the factory of timm": {"_target_": "timm.create_model", "model_name": f"local-dir:{hub}"},
        "the loader of timm": {
            "_target_": "timm.models.load_checkpoint",
            "model": None,
            "checkpoint_path": str(canary),
        },
        "data in a model": {"_target_": "stnrot.data.sources.mnist.mnist", "root": str(canary)},
        "nested": {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "torch.nn.ReLU"}, touch]},
        "in a tuple": {"_target_": "torch.nn.Sequential", "_args_": (touch,)},
        "deep": {"_target_": "torch.nn.ReLU", "inplace": [[{"a": {"b": (touch,)}}]]},
        "partial": {"_target_": "torch.nn.Sequential", "_args_": [touch | {"_partial_": True}]},
        "partial itself": touch | {"_partial_": True},
        "converted": touch | {"_convert_": "all"},
        "not recursive": {"_target_": "torch.nn.Sequential", "_recursive_": False, "_args_": [touch]},
        "an interpolation": f"${{oc.create:{{_target_: os.system, _args_: ['touch {canary}']}}}}",
        "an interpolation in an argument": {"_target_": "torch.nn.Flatten", "start_dim": "${oc.env:HOME}"},
        "a target that is a list": {"_target_": ["os.system"], "_args_": [f"touch {canary}"]},
        "a target that is built": {"_target_": {"_target_": "os.system", "_args_": [f"touch {canary}"]}},
        "a target with a line break": touch | {"_target_": "os.system\nwell"},
        "a class of an unknown package": {"_target_": "forged_nets.Net"},
        "a module of an unknown package": {"_target_": "forged_nets.nets"},
    }


def forged(path: Path, place: Callable[[dict[str, Any]], None], source: str = "classify") -> Path:
    """Write a copy of an old checkpoint with a changed configuration."""
    saved = copy.deepcopy(torch.load(OLD / f"{source}.ckpt", weights_only=True))
    place(saved["config"])
    torch.save(saved, path)
    return path


def one_line(call: Callable[[], object], canary: Path) -> str:
    with pytest.raises(InputError) as refused:
        call()
    message = str(refused.value)
    assert len(message.splitlines()) == 1
    assert not canary.exists()
    assert not list(canary.parent.glob("*.imported"))
    return message


def test_no_forged_model_touches_a_canary(tmp_path: Path, package: str) -> None:
    canary = tmp_path / "canary"
    weights = Path(torch.hub.get_dir()) / "checkpoints"
    before = set(weights.glob("*"))
    saved = read_checkpoint(OLD / "classify.ckpt")
    places = [("model", "classifier"), ("model", "encoder"), ("task", "loss")]
    for k, node in enumerate(attacks(canary).values()):
        section, key = places[k % len(places)]
        part = node if k % 4 == 0 and isinstance(node, dict) else saved["config"][section] | {key: node}
        bad = saved | {"config": saved["config"] | {section: part}}
        for trust in ((), ["own_nets"]):
            one_line(lambda bad=bad, trust=trust: rebuild(bad, "forged.ckpt", trust), canary)
    assert set(weights.glob("*")) == before
    assert package not in sys.modules


def test_no_forged_data_touches_a_canary(tmp_path: Path, package: str) -> None:
    canary = tmp_path / "canary"
    data = read_checkpoint(OLD / "classify.ckpt")["config"]["data"]
    for name, node in attacks(canary).items():
        if name != "data in a model":
            for trust in ((), ["own_nets"]):
                bad = data | {"source": node}
                one_line(lambda bad=bad, trust=trust: check_targets(bad, "data", trust), canary)
    assert package not in sys.modules


@pytest.mark.parametrize("name", ["a function", "in a tuple", "an interpolation", "a class of an unknown package"])
def test_no_door_lets_a_forged_checkpoint_in(name: str, tmp_path: Path, package: str) -> None:
    canary = tmp_path / "canary"
    node = attacks(canary)[name]
    path = tmp_path / "forged.ckpt"
    config = composed("evaluate", f"ckpt={path}", f"output_dir={tmp_path}", *OPTIONS)
    places: list[Callable[[dict[str, Any]], None]] = [
        lambda saved: saved["model"].update(classifier=node),
        lambda saved: saved["data"].update(source=node),
        lambda saved: saved["data"].update(batch_size=node),
        lambda saved: saved.update(data=node),
        lambda saved: saved.update(seed=node),
        lambda saved: saved["trainer"].update(precision=node),
        lambda saved: saved.update(trainer=node),
    ]
    for place in places:
        forged(path, place)
        one_line(lambda: evaluate(copy.deepcopy(config)), canary)
    forged(path, places[0])
    one_line(lambda: Aligner(path), canary)
    forged(path, lambda saved: saved["model"].update(extra=node), "pose")
    one_line(lambda: fit_pose(torch.zeros(16, 16), torus(), "XZ", start=path), canary)


@pytest.mark.parametrize(
    "classifier",
    [
        {"_target_": "torchvision.models.squeezenet1_1", "num_classes": 10},
        {"_target_": "torchvision.models.SqueezeNet", "version": "1_1", "num_classes": 10},
        {"_target_": "timm.models.VisionTransformer", "img_size": 28, "embed_dim": 12, "depth": 1, "num_classes": 10},
        {
            "_target_": "torch.nn.Sequential",
            "_args_": [
                {"_target_": "torchvision.ops.MLP", "in_channels": 28, "hidden_channels": [4]},
                {"_target_": "torch.nn.modules.flatten.Flatten"},
                {"_target_": "torch.nn.LazyLinear", "out_features": 10},
            ],
        },
    ],
)
def test_networks_of_torch_torchvision_and_timm_are_rebuilt(classifier: dict[str, Any], tmp_path: Path) -> None:
    saved = torch.load(OLD / "classify.ckpt", weights_only=True)
    saved["config"]["model"] = {"_target_": "stnrot.models.cnn.CNN", "classifier": classifier}
    torch.manual_seed(3)
    model = instantiate(OmegaConf.create(saved["config"]["model"])).eval()
    image = torch.rand(2, 3, 28, 28)
    expected = model(image, None).log_probability
    saved["state_dict"] = {f"model.{name}": value for name, value in model.state_dict().items()}
    path = tmp_path / "net.ckpt"
    torch.save(saved, path)
    rebuilt = rebuild(read_checkpoint(path), path)
    torch.testing.assert_close(rebuilt.model(image, None).log_probability, expected)


def test_a_class_of_the_users_own_trains_resumes_and_is_tested(
    job: Job, package: str, tmp_path: Path, called: Called
) -> None:
    mine = ("~model/classifier", f"+model.classifier={{_target_: {package}.Net, channels: 1, classes: 10, width: 8}}")
    mine = (*mine, "task.scheduler=null", NO_FIGURES)
    _, folder = job(*mine)
    path = folder / "checkpoints" / "best.ckpt"
    last = folder / "checkpoints" / "last.ckpt"
    job(*mine, f"ckpt_path={last}", "trainer.max_epochs=2", folder=tmp_path / "resumed")

    (tmp_path / "evaluated").mkdir()
    given = (f"ckpt={path}", f"output_dir={tmp_path / 'evaluated'}", *OPTIONS)
    with pytest.raises(InputError, match=re.escape(f"builds {package}.Net, which is not part of stnrot")) as refused:
        evaluate(composed("evaluate", *given))
    assert str(refused.value).endswith(f"to run code of {package} with your permissions, add trust={package}")
    measured = evaluate(composed("evaluate", *given, f"trust={package}"))
    assert measured["test/accuracy"] == pytest.approx(metrics_of(folder)["test/accuracy"])

    with pytest.raises(
        InputError, match=re.escape(f"add --trust {package}; in Python Aligner(..., trust=['{package}'])")
    ):
        Aligner(path)
    image = torch.rand(1, 28, 28)
    angle = Aligner(path, trust=[package])(image, image).angle
    assert abs(float(angle)) < 0.01

    Image.fromarray((255 * image[0]).byte().numpy()).save(tmp_path / "image.png")
    line = ("align", "image.png", "image.png", "--ckpt", path)
    status, _ = called(*line, cwd=tmp_path)
    assert f"--trust {package}" in str(status)
    assert called(*line, "--trust", package, cwd=tmp_path)[0] == 0


LIBRARIES = {"torchvision": "shufflenet_v2_x0_5", "timm": "test_resnet"}


class Attack:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


def touching(canary: Path) -> Path:
    """Return a folder as timm reads it, and torch.hub: whoever unpickles its weights or runs its code writes a file."""
    folder = canary.parent / "place"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"architecture": "test_resnet", "num_classes": 10}')
    for name in ("pytorch_model.bin", "model.pth"):
        torch.save({"fc.weight": Attack(canary)}, folder / name)
    return folder


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_forged_classifier_of_a_library_reads_and_downloads_nothing(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "canary"
    place = touching(canary)
    saved = read_checkpoint(OLD / "classify.ckpt")
    opened: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith("socket.connect") or (event == "open" and str(arguments[0]).startswith(str(tmp_path))):
            opened.append(f"{event} {arguments}")

    def build(**options: Any) -> object:
        kind = f"{library.title()}Classifier"
        node = {"_target_": f"stnrot.models.classifiers.{library}.{kind}", "channels": 1, "classes": 10, "frozen": True}
        node |= {"name": LIBRARIES[library], "pretrained": True, "weights": None} | options
        model = {"_target_": "stnrot.models.cnn.CNN", "classifier": node}
        return rebuild(saved | {"config": saved["config"] | {"model": model}}, "forged.ckpt")

    watching = [True]
    sys.addaudithook(lambda event, arguments: watch(event, arguments) if watching else None)
    places = [
        f"local-dir:{place}",
        f"LOCAL-DIR:{place}",
        f"{place}",
        f"hf-hub:timm/{place.name}",
        "hf_hub:timm/resnet18",
    ]
    for name in (*places, "resnet18.a1_in1k/../x", "https://127.0.0.1/x", "", 3, ["resnet18"]):
        assert "cannot rebuild" in one_line(lambda name=name: build(name=name), canary)
    for weights in (str(place / "model.pth"), str(place / "pytorch_model.bin"), f"hf-hub:{place}", 3):
        assert "checkpoint of another model" in one_line(lambda weights=weights: build(weights=weights), canary)
    assert "checkpoint of another model" in one_line(build, canary)
    watching.clear()
    assert opened == []


@pytest.mark.parametrize("library", ["timm", pytest.param("torchvision", marks=pytest.mark.slow)])
def test_a_classifier_of_a_library_is_tested_without_its_pretrained_weights(
    library: str, job: Job, tmp_path: Path
) -> None:
    """Training reads them from a file, which is gone afterwards."""
    import timm
    from torchvision.models import get_model

    name, file = LIBRARIES[library], tmp_path / "weights.pth"
    network = get_model(name) if library == "torchvision" else timm.create_model(name)
    torch.save(network.state_dict(), file)
    options = (f"model/classifier={library}", f"model.classifier.name={name}", f"model.classifier.weights={file}")
    options = (*options, "model.classifier.frozen=true", "task.scheduler=null", NO_FIGURES)
    _, folder = job(*options)
    file.unlink()
    last = folder / "checkpoints" / "last.ckpt"
    job(*options, f"ckpt_path={last}", "trainer.max_epochs=2", folder=tmp_path / "resumed")

    (tmp_path / "evaluated").mkdir()
    path = folder / "checkpoints" / "best.ckpt"
    measured = evaluate(composed("evaluate", f"ckpt={path}", f"output_dir={tmp_path / 'evaluated'}", *OPTIONS))
    assert measured["test/accuracy"] == pytest.approx(metrics_of(folder)["test/accuracy"])
    image = torch.rand(1, 28, 28)
    assert abs(float(Aligner(path)(image, image).angle)) < 0.01
    weights = read_checkpoint(path)["state_dict"]
    first = next(name for name, value in network.state_dict().items() if value.ndim == 4)
    assert torch.equal(weights[f"model.classifier.network.{first}"], network.state_dict()[first])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", 64, None])
def test_a_plain_precision_is_read(precision: object, tmp_path: Path) -> None:
    path = forged(tmp_path / "plain.ckpt", lambda saved: saved["trainer"].update(precision=precision))
    assert read_checkpoint(path)["config"]["trainer"]["precision"] == precision


@pytest.mark.parametrize("target", ["{}.Net", "{}.nets.Net", "{}.small", "{}.Net.tiny"])
def test_a_trusted_package_gives_what_it_defines(package: str, target: str) -> None:
    check_targets({"classifier": {"_target_": target.format(package)}}, "model", [package])
    check_targets({"_target_": target.format(package)}, "data", package)


def test_a_trusted_package_gives_nothing_that_it_imports(package: str) -> None:
    for target in ("os.system", "nets.ConvClassifier", "Net.__init__.__globals__", "nets", "absent", "absent.Net"):
        with pytest.raises(InputError, match=f"not a class or function that {package} itself defines"):
            check_targets({"_target_": f"{package}.{target}"}, "model", [package])
    with pytest.raises(InputError, match="which is not part of stnrot"):
        check_targets({"_target_": f"{package}_and_more.Net"}, "model", [package])


@pytest.mark.parametrize(
    ("trust", "message"),
    [
        (["os"], "trust=os: expected a package of your own"),
        (["builtins"], "trust=builtins: expected a package of your own"),
        ("torch.hub", "trust=torch.hub: expected a package of your own"),
        (True, "trust=True: expected the name of a package, such as my_package, or a list of names"),
        (None, "trust=None: expected the name of a package"),
        ([""], "trust='': expected the name of a package"),
        (["my-package"], "trust='my-package': expected the name of a package"),
        (["absent_package"], "absent_package cannot be imported: install it, or add its folder to PYTHONPATH"),
    ],
)
def test_a_bad_name_of_a_trusted_package_is_one_line(trust: Any, message: str, unchecked: None) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        check_targets({"_target_": "absent_package.Net"}, "model", trust)
