"""What reads files from anyone: for each reader, whole files to begin with, and the calls that read them."""

import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import trimesh
from PIL import Image

OLD = Path(__file__).parents[1] / "runs" / "before_0_3"
PIXELS = 2**24  # the most that an image may have here
SPEC = {"channels": 1, "height": 28, "width": 28, "fit": "crop", "disc": False, "classes": ["a", "b"]}


class Reader(NamedTuple):
    """Whole files by their names, and what reads one of them."""

    files: dict[str, bytes]
    read: Callable[[Path], object]


def image() -> Reader:
    from stnrot.data.image_file import page_numbers, read_header, read_pages, read_upright, read_whole
    from stnrot.turning.turn_file import turned_file

    picture = Image.radial_gradient("L").resize((40, 30))
    colour = Image.merge("RGB", (picture, picture.rotate(90), picture.rotate(180)))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a picture"
    files = {}
    for name, each, options in (
        ("a.png", colour, {"exif": exif}),
        ("b.png", picture.convert("I;16"), {}),
        ("c.png", colour.quantize(16), {"transparency": 3}),
        ("a.jpg", colour, {"exif": exif, "dpi": (72, 72)}),
        ("b.jpg", picture, {"progressive": True}),
        ("a.tif", colour, {"compression": "tiff_lzw"}),
        ("b.tif", picture, {"save_all": True, "append_images": [picture, picture]}),
        ("c.tif", picture.convert("F"), {}),
        ("a.gif", colour, {"save_all": True, "append_images": [colour]}),
        ("a.webp", colour, {"lossless": True}),
        ("a.bmp", colour, {}),
        ("a.ppm", colour, {}),
        ("a.tga", colour, {}),
        ("a.ico", colour, {}),
        ("a.jp2", colour, {}),
        ("a.pcx", colour, {}),
    ):
        file = io.BytesIO()
        each.save(file, {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}.get(name[2:], name[2:].upper()), **options)
        files[name] = file.getvalue()

    def read(path: Path) -> None:
        for call in (
            lambda: read_header(path, PIXELS),
            lambda: read_upright(path, 3, PIXELS, (28, 28)),
            lambda: read_whole(path, 1, PIXELS),
            lambda: list(read_pages(path, page_numbers(path, PIXELS)[:5], PIXELS)),
            lambda: turned_file(path, 90, "same"),
            lambda: turned_file(path, 90, "crop"),
        ):
            tried(call)

    return Reader(files, read)


def checkpoint() -> Reader:
    from stnrot.prediction.predictor import load
    from stnrot.runs.checkpoints import read_checkpoint, rebuild

    def read(path: Path) -> None:
        if path.name == "classify.ckpt":
            load(path)(Image.new("L", (28, 28)))
        else:
            rebuild(read_checkpoint(path), path)

    return Reader({path.name: path.read_bytes() for path in OLD.glob("*.ckpt")}, read)


def published() -> Reader:
    from safetensors.torch import save

    from stnrot.prediction.predictor import load

    saved = torch.load(OLD / "classify.ckpt", weights_only=True)
    metadata = {"stnrot": json.dumps({"run": saved["config"]})}
    return Reader(
        {"a.safetensors": save({name: value.contiguous() for name, value in saved["state_dict"].items()}, metadata)},
        load,
    )


def manifest() -> Reader:
    from stnrot.data.sources.manifest import Manifest

    text = "image,reference,angle_deg,label\n" + "".join(f"a.png,b.png,{k},{'xy'[k % 2]}\n" for k in range(0, 90, 10))
    options: dict[str, Any] = {"image_size": [8, 8], "fit": "crop", "channels": 1, "max_pixels": PIXELS}
    source = Manifest(**options, on_bad_image="error", memory_gb=None, val_fraction=0.2, test_fraction=0.2)

    def read(path: Path) -> None:
        for name in ("a.png", "b.png"):
            if not (path.parent / name).exists():
                Image.new("L", (8, 8)).save(path.parent / name)
        source(path, 0)

    return Reader({"a.csv": text.encode(), "b.csv": text.replace("a.png", '"a.png"').encode("utf-8-sig")}, read)


def table() -> Reader:
    from stnrot.alignment.tables.result_table import COLUMNS, finished_lines

    rows = [{"line": k, "image": f"{k}.png", "reference": "r\n.png"} for k in range(2, 9)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(row | {"angle_deg": 1.5, "confidence": 0.5, "model": "m", "error": ""} for row in rows)
    return Reader({"a.csv": text.getvalue().encode()}, lambda path: finished_lines(path, rows, "rotation", "m"))


def mesh() -> Reader:
    from stnrot.pose.point_clouds import read_points

    box = trimesh.creation.box()
    files: dict[str, bytes] = {}
    for kind in ("ply", "obj", "stl", "off", "glb"):
        content: Any = box.export(file_type=kind)
        files[f"a.{kind}"] = content.encode() if isinstance(content, str) else content
    files["b.ply"] = box.export(file_type="ply", encoding="ascii")
    files["a.gltf"] = trimesh.Scene(box).export(file_type="gltf", embed_buffers=True)["model.gltf"]
    files["a.xyz"] = b"8\ncomment\n" + b"".join(b"H %d %d 0.5\n" % (k, k * k) for k in range(8))
    files["a.csv"] = b"x;y;z\n" + b"1,5;2;3\n" * 8
    array = io.BytesIO()
    np.save(array, box.vertices)
    files["a.npy"] = array.getvalue()
    return Reader(files, read_points)


def onnx() -> Reader:
    import onnx as library
    from onnx import TensorProto, helper, numpy_helper

    from stnrot.prediction.onnx_predictor import OnnxPredictor

    weights = np.linspace(-1, 1, 28 * 28 * 2, dtype=np.float32).reshape(784, 2)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probability"]),
            helper.make_node("ReduceMean", ["logits", "axes"], ["angle"]),
        ],
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", 1, 28, 28])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", None]) for name in ("probability", "angle")],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array([1]), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {"stnrot": json.dumps(SPEC)})
    library.checker.check_model(model)

    def read(path: Path) -> None:
        OnnxPredictor(path, threads=1)(Image.new("L", (28, 28)))

    return Reader({"a.onnx": model.SerializeToString()}, read)


def shard() -> Reader:
    from stnrot.data.sources.shards.info import ShardInfo, SplitInfo, read_info
    from stnrot.data.sources.shards.scan import class_names, samples_of

    picture = io.BytesIO()
    Image.new("L", (8, 8)).save(picture, "PNG")
    files = {}
    for name, kind in (("a.tar", tarfile.USTAR_FORMAT), ("b.tar", tarfile.GNU_FORMAT), ("c.tar", tarfile.PAX_FORMAT)):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=kind) as tar:
            for k in range(4):
                key = f"{'long/' * (20 if kind != tarfile.USTAR_FORMAT else 1)}{k}"
                for end, content in (("png", picture.getvalue()), ("cls", str(k).encode())):
                    member = tarfile.TarInfo(f"{key}.{end}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        files[name] = file.getvalue()
    split = SplitInfo("train", ("train-000000.tar", "train-000001.tar"), (3, 4), (10240, 20480), 70)
    files["info.json"] = ShardInfo({"train": split}, ("a", "b"), True, "0" * 32).to_json().encode()

    def read(path: Path) -> None:
        if path.suffix == ".json":
            read_info(path.read_bytes(), path.name)
        else:
            samples = samples_of(path)
            unlabelled = next((each.name for each in samples if each.label < 0), None)
            class_names(path.parent, max(each.label for each in samples), unlabelled)

    return Reader(files, read)


READERS: dict[str, Callable[[], Reader]] = {
    each.__name__: each for each in (image, checkpoint, published, manifest, table, mesh, onnx, shard)
}


def tried(call: Callable[[], object]) -> None:
    """Call one of several; it may refuse the file."""
    from stnrot.errors import InputError

    try:
        call()
    except InputError as error:
        asked_too_much(error)


def asked_too_much(error: BaseException) -> None:
    """Raise MemoryError if an error is due to the limit of memory."""
    cause: BaseException | None = error
    while cause is not None:
        text = str(cause).lower()
        if isinstance(cause, MemoryError) or "allocate memory" in text or "bad_alloc" in text or "bad alloc" in text:
            raise MemoryError(f"it asked for too much memory: {error}") from error
        cause = cause.__cause__ or cause.__context__
