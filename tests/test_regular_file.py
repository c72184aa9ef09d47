"""Every place that reads a file, with files that are no regular files: the real ones, made by the operating system."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trimesh
from conftest import Called, composed, refused
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from PIL import Image
from torchvision.datasets import MNIST

from stnrot import align
from stnrot.alignment.tables.manifest import align_manifest
from stnrot.data.image_file import read_header, read_whole
from stnrot.data.sources.manifest import Manifest
from stnrot.data.sources.mnist import mnist
from stnrot.data.sources.shards.scan import samples_of
from stnrot.errors import InputError
from stnrot.pose.point_clouds import READERS, read_points
from stnrot.prediction.onnx_predictor import OnnxPredictor
from stnrot.regular_file import check_regular
from stnrot.runs.checkpoints import read_checkpoint
from stnrot.runs.command_line import one_line
from stnrot.search.storage import open_storage
from stnrot.search.study import find_study

FILES = {
    "image_size": (32, 32),
    "fit": "crop",
    "channels": None,
    "max_pixels": 10**6,
    "on_bad_image": "error",
    "memory_gb": None,
    "val_fraction": 0.2,
    "test_fraction": 0.2,
}
KINDS = {
    "a named pipe": os.mkfifo,
    "a socket": lambda path: socket.socket(socket.AF_UNIX).bind(path.name),  # a longer path is refused
    "a character device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": Path.mkdir,
    "a sparse file": lambda path: [path.touch(), os.truncate(path, 10**11)],
}
Make = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """Stop a test that waits for a writer."""

    def stop(*_: object) -> None:
        raise TimeoutError("a file was opened that never ends")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with an image."""
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((40, 40), 80).save("image.png")
    return tmp_path


def make(name: str, kind: str = "a named pipe") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    KINDS[kind](path)
    return path


def manifest_of(file: Path) -> Path:
    Path("pairs.csv").write_text(f"image,reference\nimage.png,{file}\n")
    return Path("pairs.csv")


def mnist_with(file: Path) -> Path:
    raw = Path("root/MNIST/raw")
    raw.mkdir(parents=True)
    for url, _ in MNIST.resources:
        (raw / Path(url).stem).symlink_to(file.absolute())
    return Path("root")


DOORS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "header": ("a.png", lambda path: read_header(path, 10**6)),
    "pixels": ("a.png", lambda path: read_whole(path, 1, 10**6)),
    "align": ("a.png", lambda path: align(path, "image.png")),
    "training on pairs": ("pairs.csv", lambda path: Manifest(**FILES)(path, 0)),
    "an image of pairs": ("a.png", lambda path: Manifest(**FILES)(manifest_of(path), 0)),
    "table of pairs": ("pairs.csv", lambda path: align_manifest(path, Path("out.csv"), "rotation", None)),
    "checkpoint": ("a.ckpt", read_checkpoint),
    "published model": ("a.safetensors", read_checkpoint),
    "ONNX file": ("a.onnx", lambda path: OnnxPredictor(path, threads=1)),
    "shard": ("a.tar", samples_of),
    "journal": ("study.log", lambda path: open_storage(str(path))),
    "study": ("study.log", lambda path: find_study(str(path), None)),
    "database": ("study.db", lambda path: open_storage(f"sqlite:///{path}")),
    "study in a database": ("study.db", lambda path: find_study(f"sqlite:///{path}", None)),
    "MNIST": ("a-ubyte", lambda path: mnist(mnist_with(path), 0, fit_validation=False)),
    **{suffix: (f"a{suffix}", read_points) for suffix in READERS},
}


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("door", DOORS)
def test_is_refused_in_one_line(folder: Path, door: str, kind: str, linked: bool) -> None:
    name, read = DOORS[door]
    path = make(f"real/{name}" if linked else name, kind) if kind != "a socket" else make(f"s{name}", kind)
    if linked or kind == "a socket":
        (folder / "link").symlink_to(path.absolute())
        Path(name).symlink_to("link")
    expected = f"{name.partition('.')[2]}.*: expected a regular file, got {kind}; "
    if door in ("checkpoint", "published model") and kind == "a folder":  # a published model is one
        expected = r"(ckpt|safetensors) has no config\.json: expected the folder of a published model"
    with pytest.raises(InputError, match=expected) as error:
        read(Path(name))
    assert "\n" not in str(error.value)


def test_a_regular_file_and_a_missing_one_pass(folder: Path) -> None:
    Path("link").symlink_to("image.png")
    Path("broken").symlink_to("nowhere")
    for path in ("image.png", "link", "broken", "missing", "image.png/inside", "zero\0byte", 5000 * "x"):
        check_regular(path)


def test_the_commands(called: Called, folder: Path) -> None:
    fifos = folder.parent / f"{folder.name}_fifos"  # the folder itself is compared before and after
    names = ("a.png", "pairs.csv", "a.ckpt", "out.csv", "study.log", *(f"a{suffix}" for suffix in READERS))
    a = {name: make(f"{fifos}/{name}") for name in names}
    Path("good.csv").write_text("image,reference\nimage.png,image.png\n")
    for arguments in (
        ("align", a["a.png"], "image.png"),
        ("align", "image.png", a["a.png"]),
        ("align", "image.png", "/dev/stdin"),
        ("align", "image.png", "image.png", "--ckpt", a["a.ckpt"]),
        ("align", "image.png", "image.png", "--out", a["a.png"]),
        ("align", "--manifest", a["pairs.csv"], "--out", "out.csv"),
        ("align", "--manifest", "good.csv", "--out", a["out.csv"]),
        ("align", "--manifest", "good.csv", "--out", "/dev/null"),
        ("pose", a["a.png"], "--points", "torus"),
        ("pose", "image.png", "--points", "torus", "--ckpt", a["a.ckpt"]),
        ("study", a["study.log"]),
        *(("pose", "image.png", "--points", a[f"a{suffix}"]) for suffix in READERS),
    ):
        if "/dev/stdin" not in arguments or not Path("/dev/stdin").is_file():
            assert "expected a regular file, got a" in refused(called, folder, *arguments), arguments


def test_a_row_of_a_table_gets_the_error(called: Called, folder: Path) -> None:
    make("a.png")
    Path("pairs.csv").write_text("image,reference\na.png,image.png\nimage.png,image.png\n")
    code, printed = called("align", "--manifest", "pairs.csv", "--out", "out.csv", cwd=folder)
    assert (code, printed) == (1, "2 pairs in out.csv, 1 with an error: see that column\n")
    assert "pairs.csv, line 2: a.png: expected a regular file, got a named pipe" in Path("out.csv").read_text()


def test_the_jobs(job: Callable[..., object], folder: Path) -> None:
    from evaluate import evaluate

    for k in range(8):
        path = Path("images") / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((30, 30), 60 + k).save(path)
    make("images/a/pipe.png")
    make("run.ckpt")
    images = ("data=image_folder", "data.root=images", "data.n_train=null")
    with pytest.raises(
        InputError, match=r"pipe\.png: expected a regular file, got a named pipe; .*=skip leaves it out"
    ):
        job(*images)
    for option in ("ckpt_path", "start_from"):
        with pytest.raises(InputError, match=r"run\.ckpt: expected a regular file, got a named pipe"):
            job(f"{option}=run.ckpt")
    with pytest.raises(InputError, match=r"run\.ckpt: expected a regular file, got a named pipe"):
        evaluate(composed("evaluate", "ckpt=run.ckpt", "output_dir=results"))
    make("solid.xyz")
    with pytest.raises(InstantiationException) as error:
        instantiate(composed("train", "task=pose", "data=rendered", "data.points=solid.xyz").data, _convert_="all")
    assert "solid.xyz: expected a regular file, got a named pipe" in str(one_line(error.value))


def test_an_image_folder_can_skip_it(folder: Path) -> None:
    from stnrot.data.sources.image_folder import ImageFolder

    for name in ("a/0.png", "a/1.png", "b/2.png", "b/3.png"):
        Path("images", name).parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((30, 30), 60).save(Path("images", name))
    make("images/a/pipe.png")
    options = FILES | {"on_bad_image": "skip", "val_fraction": 0, "test_fraction": 0}
    assert len(ImageFolder(**options)(Path("images"), 0).train) == 4


def test_a_file_that_a_mesh_names(folder: Path) -> None:
    for name, content in trimesh.Scene(trimesh.creation.box()).export(file_type="gltf").items():
        Path(name).write_bytes(content)
    buffer = next(Path().glob("*.bin"))
    buffer.unlink()
    make(buffer.name)
    with pytest.raises(InputError, match=r"\.bin: expected a regular file, got a named pipe"):
        read_points("model.gltf")
    Path("box.obj").write_text("mtllib box.mtl\nusemtl red\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    make("box.mtl")
    assert len(read_points("box.obj")) == 3
