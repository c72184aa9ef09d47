"""Point sets in files that trimesh, NumPy and a person with an editor wrote."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from stnrot.errors import InputError
from stnrot.pose.point_clouds import read_points, torus

POINTS = np.random.default_rng(0).normal(size=(7, 3))


def test_the_torus() -> None:
    points = torus(20_000)
    x, y, z = points.T
    radius = torch.hypot(x, z)
    torch.testing.assert_close((radius - 0.5).square() + y.square(), torch.full_like(x, 0.04), rtol=0, atol=1e-6)
    for angle in (torch.atan2(z, x), torch.atan2(y, radius - 0.5)):  # uniform: no wave is left
        for k in (1, 2, 3):
            assert abs((1j * k * angle).exp().mean()) < 0.025
    wide = torus(50, radius=2, tube=0.1)
    torch.testing.assert_close(
        (torch.hypot(wide[:, 0], wide[:, 2]) - 2).square() + wide[:, 1].square(), torch.full((50,), 0.01)
    )


def test_the_torus_is_always_the_same_but_for_a_generator() -> None:
    assert torch.equal(torus(50), torus(50))
    assert torch.equal(read_points("torus"), torus())
    assert torus().shape == (1000, 3)
    generator = torch.Generator().manual_seed(5)
    first, second = torus(50, generator=generator), torus(50, generator=generator)
    assert not torch.equal(first, second)
    assert torch.equal(first, torus(50, generator=torch.Generator().manual_seed(5)))


def as_rows(points: torch.Tensor | np.ndarray) -> list[list[float]]:
    """Return the points in the order of their numbers."""
    return sorted(np.asarray(points).astype(np.float32).round(5).tolist())


@pytest.mark.parametrize("suffix", ["ply", "obj", "PLY"])
def test_points_written_by_trimesh(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cloud.{suffix}"
    path.write_bytes(as_bytes(trimesh.PointCloud(POINTS).export(file_type=suffix.lower())))
    found = read_points(path)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.from_numpy(POINTS).float(), rtol=0, atol=1e-6)
    assert torch.equal(read_points(str(path)), found)


def test_points_written_by_numpy(tmp_path: Path) -> None:
    """As .xyz, which trimesh 4 does not write without colours."""
    np.savetxt(tmp_path / "cloud.xyz", POINTS)
    torch.testing.assert_close(read_points(tmp_path / "cloud.xyz"), torch.from_numpy(POINTS).float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("suffix", "options"), [("ply", {}), ("ply", {"encoding": "ascii"}), ("obj", {})])
def test_meshes_written_by_trimesh(tmp_path: Path, suffix: str, options: dict[str, str]) -> None:
    ball, box = trimesh.creation.icosphere(2), trimesh.creation.box().apply_translation([3, 0, 0])
    (tmp_path / f"ball.{suffix}").write_bytes(as_bytes(ball.export(file_type=suffix, **options)))
    assert as_rows(read_points(tmp_path / f"ball.{suffix}")) == as_rows(ball.vertices)
    both = trimesh.Scene([ball, box])
    (tmp_path / f"both.{suffix}").write_bytes(as_bytes(both.export(file_type=suffix)))
    assert as_rows(read_points(tmp_path / f"both.{suffix}")) == as_rows(np.concatenate([ball.vertices, box.vertices]))


@pytest.mark.parametrize("kind", ["stl", "stl_ascii", "off"])
def test_meshes_of_one_part(tmp_path: Path, kind: str) -> None:
    """In an .stl each triangle has corners of its own: they are merged."""
    ball = trimesh.creation.icosphere(2)
    path = tmp_path / f"ball.{kind.removesuffix('_ascii')}"
    path.write_bytes(as_bytes(ball.export(file_type=kind)))
    found = as_rows(read_points(path))
    assert len(found) == len(ball.vertices)
    np.testing.assert_allclose(found, as_rows(ball.vertices), atol=2e-5)


@pytest.mark.parametrize("kind", ["glb", "gltf"])
def test_scenes_are_placed(tmp_path: Path, kind: str) -> None:
    """Two boxes that share their mesh, a ball and loose points, each with a placement."""
    ball, box, points = trimesh.creation.icosphere(1), trimesh.creation.box(), trimesh.PointCloud(POINTS)
    placements = [trimesh.transformations.rotation_matrix(k + 1, [1, k, 3], [5, 0, k]) for k in range(4)]
    scene = trimesh.Scene()
    scene.add_geometry(ball, transform=placements[0])
    scene.add_geometry(box, node_name="first", transform=placements[1])
    scene.graph.update("second", geometry=scene.graph["first"][1], matrix=placements[2])
    scene.add_geometry(points, transform=placements[3])
    if kind == "gltf":
        for name, content in scene.export(file_type="gltf").items():
            (tmp_path / name).write_bytes(content)
    else:
        (tmp_path / "model.glb").write_bytes(scene.export(file_type="glb"))
    parts = zip((ball, box, box, points), placements, strict=True)
    shapes = [part.vertices @ matrix[:3, :3].T + matrix[:3, 3] for part, matrix in parts]
    found = read_points(tmp_path / f"model.{kind}").numpy()
    expected = np.concatenate(shapes)
    assert len(found) == len(expected)
    assert np.abs(found[:, None] - expected).max(-1).min(1).max() < 1e-5
    assert np.abs(found[:, None] - expected).max(-1).min(0).max() < 1e-5


def as_bytes(exported: str | bytes) -> bytes:
    return exported.encode() if isinstance(exported, str) else exported


SQUARE = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 1 1 0\n"


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "f 1 2 3\n",
        "vt 0 0\nvt 1 0\nvt 0 1\nvt 0.5 0.5\nf 1/1 2/2 3/3\nf 2/4 4/1 3/2\n",
        "o a\nusemtl red\nf 1 2 3\no b\nusemtl blue\nf 2 4 3\n",
    ],
    ids=["vertices alone", "a loose vertex", "a seam of the texture", "two parts"],
)
def test_each_vertex_once(tmp_path: Path, rest: str) -> None:
    (tmp_path / "square.obj").write_text(SQUARE + rest)
    assert as_rows(read_points(tmp_path / "square.obj")) == [[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0]]


@pytest.mark.parametrize("dtype", ["f8", "f4", ">f4", "i8", "f2"])
def test_arrays_written_by_numpy(tmp_path: Path, dtype: str) -> None:
    array = (8 * POINTS).round().astype(dtype)
    np.save(tmp_path / "points.npy", array)
    np.save(tmp_path / "turned.npy", np.asfortranarray(array))
    for name in ("points", "turned"):
        assert read_points(tmp_path / f"{name}.npy").tolist() == array.tolist()


@pytest.mark.parametrize("text", ["1 2 3\n4 5 6\n", "# x y z\n1 2 3 255 0 0\n\n4 5 6 0 0 0", "1e0\t2\t3\n4\t5\t6\n"])
def test_rows_written_by_hand(tmp_path: Path, text: str) -> None:
    (tmp_path / "points.xyz").write_text(text)
    assert read_points(tmp_path / "points.xyz").tolist() == [[1, 2, 3], [4, 5, 6]]
    (tmp_path / "one.xyz").write_text("0.5 0 -1\n")
    assert read_points(tmp_path / "one.xyz").tolist() == [[0.5, 0, -1]]


CLOUD = np.array([[0.5, 0.1, -0.2], [-0.4, 3e-1, 1], [0.2, -0.5, 4.25], [-1, -2, -0.6]])


def read_text(folder: Path, text: str, suffix: str = "xyz") -> np.ndarray:
    (folder / f"cloud.{suffix}").write_text(text, encoding="utf-8", newline="")
    return read_points(folder / f"cloud.{suffix}").numpy()


@pytest.mark.parametrize("between", [" ", ",", ", ", ";", "; ", "\t", "   ", ",\t"])
@pytest.mark.parametrize(
    "before",
    [
        "",
        "x{0}y{0}z\n",
        '"X"{0}"Y"{0}"Z"\n',
        "# a cloud, of 4\n\n// made today\n",
        "4\n",
        "4\na b c d\n",
        "4\n\n",
    ],
)
def test_any_separator_header_and_count(tmp_path: Path, between: str, before: str) -> None:
    text = io.StringIO()
    np.savetxt(text, CLOUD, "%.5g", delimiter=between, header=before.format(between), comments="", newline="\n")
    for suffix in ("xyz", "csv", "tsv", "txt", "asc", "pts", "XYZ"):
        np.testing.assert_array_equal(read_text(tmp_path, text.getvalue(), suffix), CLOUD.astype(np.float32))


@pytest.mark.parametrize("ending", ["\r\n", "\r", "\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_line_ends_and_byte_order_marks(tmp_path: Path, ending: str, encoding: str) -> None:
    rows = "".join(",".join(map(str, point)) + "\n" for point in CLOUD.tolist())
    (tmp_path / "a.csv").write_bytes(("x,y,z\n" + rows).replace("\n", ending).encode(encoding))
    np.testing.assert_array_equal(read_points(tmp_path / "a.csv"), CLOUD.astype(np.float32))


@pytest.mark.parametrize(
    "names",
    [
        "x y z",
        "z y x",
        "intensity Z X Y",
        "nx ny nz x y z",
        "id,x [mm],y [mm],z [mm],a label",
        "Y(m);Z(m);time stamp;X(m)",
        "x_mm y_mm z_mm x_normal2",
        "X,x_normal,Y,y_normal,Z,z_normal",
        "length width height",
        ",x,y,z",
    ],
)
@pytest.mark.parametrize("mark", ["", "# ", "//"])
def test_named_columns(tmp_path: Path, names: str, mark: str) -> None:
    """The csv module writes the columns x, y and z where the header has them, and other numbers elsewhere."""
    if mark and "length" in names:
        return  # a comment names columns only if it has x, y and z, one name for each column
    between = next((mark for mark in ";," if mark in names), " ")
    columns = names.split(between)
    if "x_normal2" in names:
        columns = columns[:3]
    axes = {name: "xyz".index(name[0].lower()) for name in columns if re.match("[xyzXYZ](?!.*normal)", name)}
    axes = axes or dict(zip(columns, range(3), strict=True))
    text = io.StringIO()
    writer = csv.writer(text, delimiter=between, lineterminator="\n")
    text.write(mark)
    writer.writerow(columns)
    for k, point in enumerate(CLOUD.tolist()):
        writer.writerow([point[axes[name]] if name in axes else 77 + k for name in columns])
    np.testing.assert_array_equal(read_text(tmp_path, text.getvalue()), CLOUD.astype(np.float32))


@pytest.mark.parametrize("between", ["; ", "\t", " "])
def test_decimal_commas(tmp_path: Path, between: str) -> None:
    rows = [between.join(str(value).replace(".", ",") for value in point) for point in CLOUD.tolist()]
    np.testing.assert_array_equal(read_text(tmp_path, "\n".join(rows)), CLOUD.astype(np.float32))


@pytest.mark.parametrize("comment", ["four atoms", "", "4 5 6", "# none", 'Lattice="1 0 0" Properties=species:S:1'])
@pytest.mark.parametrize("elements", ["CCOH", ["6", "6", "8", "1"]])
def test_xmol(tmp_path: Path, comment: str, elements: str | list[str]) -> None:
    rows = [f"{element} {x} {y} {z} 9" for element, (x, y, z) in zip(elements, CLOUD.tolist(), strict=True)]
    text = "\n".join(["4", comment, *rows, "", ""])
    np.testing.assert_array_equal(read_text(tmp_path, text), CLOUD.astype(np.float32))


@pytest.mark.parametrize(
    "text",
    [
        "1 ,2 ,3\n4, 5,6\n",
        "1,2 ,3\n4,5, 6,\n,,,\n",
        "2\nz y x\n3 2 1\n6 5 4\n",
        "2\nx;y;z\n1;2;3;\n4;5;6;\n",
        "2\nProperties=species:S:1:forces:R:3:pos:R:3\nC 7 7 7 1 2 3\nO 8 8 8 4 5 6\n",
        "x,y,z,label\n1,2,3,\n4,5,6,oak\n",
        "label;z;y;x;;\n;3;2;1;;\n;6;5;4;;\n",
        "P1 1 2 3\nP2 4 5 6\n",
        "1 2 3 first\n4 5 6 the second\n",
        "\t1\t2\t3\n\t4\t\t5\t6\n",
    ],
)
def test_what_people_write(tmp_path: Path, text: str) -> None:
    assert read_text(tmp_path, text).tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("label x y z w\noak 1 2 3 4\n1 2 3 4\n", "line 3: expected 5 columns, with the names label, x, y, z, w; got"),
        ("label x y z\nan oak 1 2 3\n", "line 2: expected 4 columns"),
        ("1 2 3\n\n4 5\n", "line 3: expected rows of x, y and z, .*; got '4 5'"),
        ("1,2,3\n4,,6\n", "line 2: expected"),
        ("x,y,z\n1,2,3\n4,5,tree\n", "line 3: expected .* got '4 5 tree'"),
        ("1 2 3\nnan nan nan\n", "line 2"),
        ("nan nan nan\n", "line 1"),
        ("1 2 inf\n", "line 1"),
        ("1_0 2 3\n", "line 1"),
        ("1,234.5;2;3\n", "line 1"),
        ("1,2,3;4,5,6\n", "line 1"),
        ("0.5, 0.1 -0.2\n", "line 1"),
        ("3\n1 2 3\n4 5 6\n", "line 1: expected 3 points below this line, found 2"),
        ("1\nfirst\nC 1 2 3\n1\nsecond\nC 1 2 3\n", "line 1: expected 1 points below this line, found 5"),
        ("id,px,py,pz\n1,2,3,4\n", "has the columns id, px, py, pz: expected columns with the names x, y and z"),
        ("x,y,z,x\n1,2,3,4\n", "has the columns x, y, z, x"),
        ("x y z\n", "has no points: expected rows of x, y and z"),
        ("# nothing\n", "has no points"),
        ("", "has no points"),
        ("two\npoints\n", "has the columns two"),
        ("1e39 0 0\n", "expected N x 3 finite numbers"),
    ],
)
def test_a_bad_table_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=rf"cloud\.xyz.*{words}") as refused:
        read_text(tmp_path, text)
    assert "\n" not in str(refused.value)


def test_a_table_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "cloud.txt").write_bytes("größe,y,z\n1,2,3\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"cloud\.txt is not text in UTF-8"):
        read_points(tmp_path / "cloud.txt")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.ply", b""),
        ("empty.obj", b""),
        ("empty.npy", b""),
        ("words.xyz", b"two\npoints\n"),
        ("short.xyz", b"1 2\n3 4\n"),
        ("junk.ply", bytes(range(256))),
        ("empty.stl", b""),
        ("empty.off", b""),
        ("empty.glb", b""),
        ("empty.gltf", b""),
        ("empty.csv", b""),
        ("junk.stl", bytes(range(256))),
        ("junk.off", bytes(range(256))),
        ("junk.glb", bytes(range(256))),
        ("junk.gltf", bytes(range(256))),
        ("junk.txt", bytes(range(256))),
        ("no_mesh.gltf", b'{"asset": {"version": "2.0"}}'),
        ("junk.npy", bytes(range(256))),
        ("header.ply", b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nend_header\n"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        InputError, match=rf"cannot read the points of .*{name}: \S|{name}(,| has| is| holds an array of shape)"
    ) as told:
        read_points(tmp_path / name)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("kind", ["ply", "stl", "stl_ascii", "off", "glb"])
def test_half_a_mesh_is_named(tmp_path: Path, kind: str) -> None:
    whole = as_bytes(trimesh.creation.icosphere(2).export(file_type=kind))
    path = tmp_path / f"half.{kind.removesuffix('_ascii')}"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cannot read the points of .*half\."):
        read_points(path)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 7)), r"holds an array of shape \(3, 7\): expected N x 3 finite numbers, N at least 1"),
        (np.zeros((0, 3)), r"holds an array of shape \(0, 3\): expected"),
        (np.zeros(3), r"holds an array of shape \(3,\): expected"),
        (np.full((2, 3), np.nan), r"holds an array of shape \(2, 3\): expected N x 3 finite"),
        (np.zeros((2, 3)) + 1j, r"cannot read the points of .*points\.npy: Cannot cast"),
        (np.array([["a", "b", "c"]]), r"cannot read the points of .*points\.npy: Cannot cast"),
        (np.array([None, {}]), r"cannot read the points of .*points\.npy: Object arrays cannot be loaded"),
    ],
)
def test_an_array_of_anything_else_is_named(tmp_path: Path, array: np.ndarray, words: str) -> None:
    np.save(tmp_path / "points.npy", array)
    with pytest.raises(InputError, match=words):
        read_points(tmp_path / "points.npy")


def test_a_file_of_no_known_kind_or_that_is_not_there_is_named(tmp_path: Path) -> None:
    kinds = r"\.ply, \.obj, \.stl, \.off, \.glb, \.gltf, \.xyz, \.csv, \.tsv, \.txt, \.asc, \.pts, \.npy"
    for source in ("Torus", tmp_path / "solid.fbx", tmp_path):
        with pytest.raises(InputError, match=rf"expected torus, or a file that ends in {kinds}"):
            read_points(source)
    with pytest.raises(InputError, match=r"missing\.ply: there is no such file"):
        read_points(tmp_path / "missing.ply")
