"""Files from anyone: each attempt ends in one line, takes little memory, and leaves the canary file untouched."""

import copy
import io
import json
import os
import resource
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
import yaml
from conftest import composed
from PIL import Image
from safetensors.torch import save_file

from evaluate import evaluate
from stnrot.alignment.stacks.mean_frame import _resumed
from stnrot.data.image_file import MAX_PIXELS, page_numbers, read_header, read_upright, read_whole
from stnrot.data.sources.manifest import Manifest
from stnrot.errors import InputError
from stnrot.pose.point_clouds import read_points
from stnrot.prediction.image_spec import ImageSpec
from stnrot.report.run_folder import _yaml
from stnrot.runs.checkpoints import read_checkpoint, rebuild
from stnrot.runs.tables.growing_table import read_rows

OLD = Path(__file__).parent / "before_0_3"
SAVED: dict[str, Any] = torch.load(OLD / "classify.ckpt", weights_only=True)
LIMIT = 3 * 2**29  # bytes of address space that an attempt may take: 1.5 GiB, the weights themselves 0.001
WIDE = 10_000_000

Attempt = Callable[[Path, Path], object]  # called with an empty folder and the canary


class Code:
    """What a pickle runs when it is read."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@contextmanager
def little_memory() -> Iterator[None]:
    """Let this process ask for no more memory than an attempt may take."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def opened(folder: Path, saved: Any) -> object:
    """Read a checkpoint and build its model, as every command does."""
    path = folder / "forged.ckpt"
    torch.save(saved, path)
    return rebuild(read_checkpoint(path), path)


def configured(**sections: Any) -> dict[str, Any]:
    return SAVED | {"config": SAVED["config"] | sections}


def built(model: Any, weights: Any = None) -> Attempt:
    """A checkpoint whose classifier is this node."""
    node = SAVED["config"]["model"] | {"classifier": model}
    saved = configured(model=node) | ({} if weights is None else {"state_dict": weights})
    return lambda folder, canary: opened(folder, saved)


def kept(**entries: Any) -> Attempt:
    """A checkpoint with other entries."""
    return lambda folder, canary: opened(folder, SAVED | entries)


def archived(change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> Attempt:
    """A checkpoint whose archive is changed."""

    def attempt(folder: Path, canary: Path) -> object:
        path, forged = folder / "plain.ckpt", folder / "forged.ckpt"
        torch.save(SAVED, path)
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(forged, "w", compression) as new:
            for entry in old.infolist():
                new.writestr(entry.filename, change(entry.filename, old.read(entry)))
        return read_checkpoint(forged)

    return attempt


def laughs(depth: int) -> list[Any]:
    node: list[Any] = ["ha"] * 10
    for _ in range(depth):
        node = [node] * 10
    return node


def nested(depth: int) -> dict[str, Any]:
    node: dict[str, Any] = {}
    for _ in range(depth):
        node = {"a": node}
    return node


def cyclic() -> dict[str, Any]:
    node: dict[str, Any] = dict(SAVED["config"])
    node["model"] = node
    return node


def code_at(*place: str) -> Attempt:
    def attempt(folder: Path, canary: Path) -> object:
        saved = copy.deepcopy(SAVED)
        node: Any = saved
        for name in place[:-1]:
            node = node[name]
        node[place[-1]] = Code(os.system, f"touch {canary}")
        return opened(folder, saved)

    return attempt


def published(change: Callable[[Path, Path], object]) -> Attempt:
    def attempt(folder: Path, canary: Path) -> object:
        save_file({k: v.contiguous() for k, v in SAVED["state_dict"].items()}, folder / "model.safetensors")
        run = {name: SAVED["config"][name] for name in SAVED["config"]}
        (folder / "config.json").write_text(json.dumps({"run": run}))
        change(folder, canary)
        return rebuild(read_checkpoint(folder), folder)

    return attempt


def wide_run(folder: Path, canary: Path) -> None:
    run = json.loads((folder / "config.json").read_text())["run"]
    run["model"]["classifier"]["width"] = WIDE
    (folder / "config.json").write_text(json.dumps({"run": run}))


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(10**6))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def picture(content: bytes, name: str = "a.png") -> Attempt:
    def attempt(folder: Path, canary: Path) -> object:
        (folder / name).write_bytes(content.replace(b"CANARY", str(canary).encode()))
        for read in (
            lambda path: read_header(path, MAX_PIXELS),
            lambda path: read_whole(path, 3, MAX_PIXELS),
            lambda path: page_numbers(path, MAX_PIXELS),
        ):
            with pytest.raises(InputError):
                read(folder / name)
        return read_upright(folder / name, 3, MAX_PIXELS, (28, 28))

    return attempt


def tiff(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "TIFF")
    content = file.getvalue()
    return content.replace(
        b"\x00\x01\x04\x00\x01\x00\x00\x00\x08\x00\x00\x00",
        b"\x00\x01\x04\x00\x01\x00\x00\x00" + struct.pack("<I", width),
    ).replace(
        b"\x01\x01\x04\x00\x01\x00\x00\x00\x08\x00\x00\x00",
        b"\x01\x01\x04\x00\x01\x00\x00\x00" + struct.pack("<I", height),
    )


def mesh(uri: str) -> Attempt:
    """A scene whose vertices lie in a file elsewhere, of the right size."""

    def attempt(folder: Path, canary: Path) -> object:
        inside = folder / "inside"
        inside.mkdir()
        for name, content in trimesh.Scene(trimesh.creation.box()).export(file_type="gltf").items():
            (inside / name).write_bytes(content)
        buffer = inside / json.loads((inside / "model.gltf").read_text())["buffers"][0]["uri"]
        buffer.replace(folder / "secret.bin")
        (inside / "link.bin").symlink_to(folder / "secret.bin")
        scene = json.loads((inside / "model.gltf").read_text())
        scene["buffers"][0]["uri"] = uri.replace("FOLDER", str(folder))
        (inside / "model.gltf").write_text(json.dumps(scene))
        return read_points(inside / "model.gltf")

    return attempt


def points(content: bytes) -> Attempt:
    def attempt(folder: Path, canary: Path) -> object:
        (folder / "points.npy").write_bytes(content)
        return read_points(folder / "points.npy")

    return attempt


def npy_of_code(folder: Path, canary: Path) -> object:
    np.save(folder / "points.npy", np.array([Code(os.system, f"touch {canary}")], object), allow_pickle=True)
    return read_points(folder / "points.npy")


def npy(shape: str) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(48)


def written(name: str, content: str, read: Callable[[Path], object]) -> Attempt:
    def attempt(folder: Path, canary: Path) -> object:
        (folder / name).write_text(content)
        return read(folder / name)

    return attempt


def listed(name: str) -> Attempt:
    """A manifest of a file that is no image. Its content is in no message."""

    def attempt(folder: Path, canary: Path) -> object:
        inside = folder / "inside"
        inside.mkdir()
        (folder / "canary.txt").write_text("root: a secret\n")
        (inside / "link.png").symlink_to("../canary.txt")
        (inside / "pairs.csv").write_text(f"image,reference\n{name},{name}\n")
        options: dict[str, Any] = {"image_size": [8, 8], "fit": "crop", "channels": 1, "max_pixels": 100}
        rest: dict[str, Any] = {"on_bad_image": "error", "memory_gb": None, "val_fraction": 0, "test_fraction": 0}
        return Manifest(**options, **rest)(inside / "pairs.csv", 0)

    return attempt


def sized(channels: object, height: object, width: object) -> Attempt:
    sizes = {"channels": channels, "height": height, "width": width}
    text = json.dumps(sizes | {"fit": "crop", "disc": False, "classes": []})
    return lambda folder, canary: ImageSpec.of_metadata(text, folder / "a.onnx")


LINEAR = {"_target_": "torch.nn.Linear", "in_features": 10, "out_features": WIDE}
REPEATED = {name: torch.zeros(()).expand(value.shape) for name, value in SAVED["state_dict"].items()}
YAML_LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(CANARY) (w) file closefile\nshowpage\n%%EOF\n"

ATTEMPTS: dict[str, Attempt] = {
    "code as a checkpoint": lambda folder, canary: opened(folder, Code(os.system, f"touch {canary}")),
    "code among the weights": code_at("state_dict", "model.x"),
    "code in the configuration": code_at("config", "model", "classifier"),
    "code in the seed": code_at("config", "seed"),
    "code in the optimizer": code_at("optimizer_states"),
    "code that evaluates": kept(x=Code(eval, "1")),
    "a compressed archive": archived(lambda name, content: content, zipfile.ZIP_DEFLATED),
    "an archive without its pickle": archived(lambda name, content: b"" if name.endswith(".pkl") else content),
    "a tensor that repeats one value": kept(state_dict=REPEATED),
    "a tensor that repeats one value for a wide layer": built(
        LINEAR | {"in_features": WIDE}, {"model.classifier.weight": torch.zeros(1).expand(WIDE, WIDE)}
    ),
    "a sparse tensor": kept(state_dict={"w": torch.sparse_coo_tensor(torch.zeros(2, 0), torch.zeros(0), (WIDE, WIDE))}),
    "a tensor without memory": kept(state_dict={"w": torch.empty(WIDE, WIDE, device="meta")}),
    "weights that are a list": kept(state_dict=[1]),
    "weights without names": kept(state_dict={1: torch.zeros(1)}),
    "weights that are numbers": kept(state_dict={"w": 1}),
    "bytes without end": kept(x=Code(bytearray, 10**12)),
    "a wide layer": built(LINEAR),
    "a wide convolution": built(SAVED["config"]["model"]["classifier"] | {"width": WIDE}),
    "a wide encoder": lambda folder, canary: opened(
        folder,
        configured(model=SAVED["config"]["model"] | {"encoder": SAVED["config"]["model"]["encoder"] | {"width": WIDE}}),
    ),
    "a wide table": built({"_target_": "torch.nn.Embedding", "num_embeddings": WIDE, "embedding_dim": WIDE}),
    "a network of torchvision with a wide head": built(
        {"_target_": "torchvision.models.squeezenet1_1", "num_classes": 10**12}
    ),
    "copies of a layer": built(
        {
            "_target_": "torch.nn.TransformerEncoder",
            "encoder_layer": {
                "_target_": "torch.nn.TransformerEncoderLayer",
                "d_model": 1,
                "nhead": 1,
                "dim_feedforward": 1,
            },
            "num_layers": 10**9,
        },
        {"w": torch.zeros(1)},
    ),
    "a configuration that contains itself": lambda folder, canary: opened(folder, SAVED | {"config": cyclic()}),
    "a configuration that multiplies": lambda folder, canary: opened(folder, configured(task=laughs(30))),
    "a deep configuration": lambda folder, canary: opened(folder, configured(data=nested(200))),
    "a configuration of tensors": lambda folder, canary: opened(folder, configured(seed=torch.zeros(1))),
    "a published wide layer": published(wide_run),
    "a published configuration without end": published(
        lambda folder, canary: (folder / "config.json").write_text("[" * 2**24)
    ),
    "a published configuration that is a device": published(
        lambda folder, canary: ((folder / "config.json").unlink(), (folder / "config.json").symlink_to("/dev/zero"))
    ),
    "published weights that are a pickle": published(
        lambda folder, canary: torch.save(Code(os.system, f"touch {canary}"), folder / "model.safetensors")
    ),
    "published weights with a long header": published(
        lambda folder, canary: (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**40) + b"{}")
    ),
    "published weights beyond the end": published(
        lambda folder, canary: (folder / "model.safetensors").write_bytes(
            struct.pack("<Q", 58) + b'{"w":{"dtype":"F32","shape":[9999],"data_offsets":[0,39996]}}'[:58]
        )
    ),
    "a picture that inflates": picture(png(60_000, 60_000)),
    "a picture of two billion pixels": picture(png(2**31 - 1, 1)),
    "a TIFF file that claims much": picture(tiff(2**20, 2**20), "a.tif"),
    "a picture that is a program": picture(EPS),
    "a program with the name of a picture": picture(EPS, "a.eps"),
    "points with code": npy_of_code,
    "points without end": points(npy("(10**12, 3)")),
    "very many points": points(npy("(1000000000000, 3)")),
    "points of another folder": mesh("../secret.bin"),
    "points of an absolute path": mesh("FOLDER/secret.bin"),
    "points behind a link out of the folder": mesh("link.bin"),
    "points of a device": mesh("/dev/zero"),
    "a manifest that names a file elsewhere": listed("../canary.txt"),
    "a manifest that names an absolute path": listed("/etc/passwd"),
    "a manifest that names a device": listed("/dev/zero"),
    "a manifest behind a link out of the folder": listed("link.png"),
    "an ONNX file for large images": sized(3, 10**6, 10**6),
    "an ONNX file for many channels": sized(4096, 4096, 4096),
    "an ONNX file for texts": sized("3", None, [28]),
    "a table of another command": written("out.csv", "a,b\n" * 3, lambda path: read_rows(path, ["x", "y"])),
    "a table with a cell without end": written(
        "out.csv", "x,y\n" + "a" * 10**6 + ",1\n", lambda path: read_rows(path, ["x", "y"])
    ),
    "a run's configuration that multiplies": written("config.yaml", YAML_LAUGHS, lambda path: _yaml(path, {})),
    "a run's configuration with code": written(
        "config.yaml", "a: !!python/object/apply:os.system [touch CANARY]", lambda path: _yaml(path, {})
    ),
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_attempt_ends_in_one_line(name: str, tmp_path: Path) -> None:
    canary, folder = tmp_path / "canary", tmp_path / "files"
    folder.mkdir()
    with little_memory(), pytest.raises(InputError) as refused:
        ATTEMPTS[name](folder, canary)
    assert len(str(refused.value).splitlines()) == 1
    assert "a secret" not in str(refused.value)
    assert [each.name for each in tmp_path.iterdir()] == ["files"]


def test_what_is_refused_is_read_without_the_attempt(tmp_path: Path) -> None:
    """The attempts fail by what they change, not by what they have in common."""
    assert opened(tmp_path, SAVED) is not None
    assert archived(lambda name, content: content)(tmp_path, tmp_path) is not None
    assert published(lambda folder, canary: None)(tmp_path, tmp_path) is not None
    (tmp_path / "a.tif").write_bytes(tiff(8, 8))
    assert read_whole(tmp_path / "a.tif", 1, MAX_PIXELS).shape == (8, 8, 1)
    assert tiff(9, 9) != tiff(8, 8)
    (tmp_path / "config.yaml").write_text(YAML_LAUGHS.splitlines()[0])
    assert _yaml(tmp_path / "config.yaml", {}) == {"a": ["x", "x"]}
    assert len(yaml.safe_load(YAML_LAUGHS)["i"]) == 2


def test_sums_of_frames_that_inflate_are_made_again(tmp_path: Path) -> None:
    file = tmp_path / "mean.npz"
    like = torch.zeros(1, 1, 2, 2)
    whole = {"total": np.ones((1, 1, 2, 2)), "weight": np.ones((1, 1, 2, 2)), "done": 1, "made_from": "x"}
    np.savez(file, **whole)
    assert _resumed(file, "x", like) is not None
    for change in ({"total": np.zeros((1, 1, 3, 2))}, {"weight": np.array([Code(os.system, "true")], object)}):
        np.savez(file, **(whole | change))
        assert _resumed(file, "x", like) is None
    with little_memory():
        np.savez_compressed(file, **(whole | {"total": np.zeros(2**20)}))
        assert _resumed(file, "x", like) is None


def test_the_data_of_a_checkpoint_are_not_downloaded_to_a_folder_of_its_choice(tmp_path: Path) -> None:
    data = SAVED["config"]["data"] | {
        "root": str(tmp_path / "canary"),
        "source": {"_target_": "stnrot.data.sources.mnist.mnist", "_partial_": True},
    }
    torch.save(configured(data=data), tmp_path / "forged.ckpt")
    given = (f"ckpt={tmp_path / 'forged.ckpt'}", f"output_dir={tmp_path}", "trainer.accelerator=cpu")
    with pytest.raises(InputError, match="canary, the folder of the run's data, does not exist"):
        evaluate(composed("evaluate", *given))
    assert not (tmp_path / "canary").exists()


WRONG = (None, -1, 10**30, 1e308, "x", "../../../etc/passwd", [], {}, [[]], {"_target_": "os.system"}, True)
EVERYWHERE = ("_args_", "_partial_", "_convert_", "_recursive_", "_target_")


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value of a configuration."""
    if path:
        yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def replaced(place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    config = copy.deepcopy(SAVED["config"])
    node = config
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return config


def tried(config: dict[str, Any]) -> None:
    """Rebuild a model from a configuration, which may be refused."""
    from stnrot.runs.checkpoints import _checked

    with suppress(InputError):
        rebuild(_checked(SAVED | {"config": config}, "forged.ckpt"), "forged.ckpt")


@pytest.mark.ci
def test_a_wrong_type_at_every_key(tmp_path: Path, unchecked: None) -> None:
    """Two values a key; `pytest -m slow` tries all."""
    with little_memory():
        for k, place in enumerate(places(SAVED["config"])):
            if place[0] in ("model", "task", "seed", "data_spec") or len(place) == 1:
                for wrong in (WRONG[k % len(WRONG)], WRONG[(k + 5) % len(WRONG)]):
                    tried(replaced(place, wrong))


@pytest.mark.slow
def test_every_wrong_type_at_every_key(unchecked: None) -> None:
    with little_memory():
        for place in places(SAVED["config"]):
            for wrong in WRONG:
                tried(replaced(place, wrong))


@pytest.mark.ci
def test_the_keys_of_hydra_at_every_depth(tmp_path: Path, unchecked: None) -> None:
    canary = tmp_path / "canary"
    touch = {"_target_": "os.system", "_args_": [f"touch {canary}"]}
    nodes = list(places({name: SAVED["config"][name] for name in ("model", "task", "data")}))
    config: Any = SAVED["config"]
    for k, place in enumerate(nodes):
        for key in (EVERYWHERE[k % 5], EVERYWHERE[(k + 1) % 5]):
            node = config
            for name in place:
                node = node[name]
            if isinstance(node, dict):
                for value in (touch, [touch], f"${{oc.create:{{_target_: os.system, _args_: ['touch {canary}']}}}}"):
                    tried(replaced(place, node | {key: value}))
            else:
                tried(replaced(place, ("${oc.env:HOME}", "${oc.decode:x}", "${hydra:runtime.cwd}", touch)[k % 4]))
    assert not canary.exists()
