"""Point sets in files that trimesh, NumPy and a person with an editor wrote."""

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


@pytest.mark.parametrize("suffix", ["ply", "obj", "xyz", "PLY"])
def test_points_written_by_trimesh(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cloud.{suffix}"
    path.write_bytes(as_bytes(trimesh.PointCloud(POINTS).export(file_type=suffix.lower())))
    found = read_points(path)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.from_numpy(POINTS).float(), rtol=0, atol=1e-6)
    assert torch.equal(read_points(str(path)), found)


@pytest.mark.parametrize(("suffix", "options"), [("ply", {}), ("ply", {"encoding": "ascii"}), ("obj", {})])
def test_meshes_written_by_trimesh(tmp_path: Path, suffix: str, options: dict[str, str]) -> None:
    ball, box = trimesh.creation.icosphere(2), trimesh.creation.box().apply_translation([3, 0, 0])
    (tmp_path / f"ball.{suffix}").write_bytes(as_bytes(ball.export(file_type=suffix, **options)))
    assert as_rows(read_points(tmp_path / f"ball.{suffix}")) == as_rows(ball.vertices)
    both = trimesh.Scene([ball, box])
    (tmp_path / f"both.{suffix}").write_bytes(as_bytes(both.export(file_type=suffix)))
    assert as_rows(read_points(tmp_path / f"both.{suffix}")) == as_rows(np.concatenate([ball.vertices, box.vertices]))


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


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.ply", b""),
        ("empty.obj", b""),
        ("empty.npy", b""),
        ("words.xyz", b"two\npoints\n"),
        ("short.xyz", b"1 2\n3 4\n"),
        ("junk.ply", bytes(range(256))),
        ("junk.npy", bytes(range(256))),
        ("header.ply", b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nend_header\n"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        InputError, match=rf"cannot read the points of .*{name}: \S|{name} holds an array of shape"
    ) as told:
        read_points(tmp_path / name)
    assert "\n" not in str(told.value)


def test_half_a_mesh_is_named(tmp_path: Path) -> None:
    whole = trimesh.creation.icosphere(2).export(file_type="ply")
    (tmp_path / "half.ply").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cannot read the points of .*half\.ply"):
        read_points(tmp_path / "half.ply")


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
    for source in ("Torus", tmp_path / "solid.stl", tmp_path):
        with pytest.raises(InputError, match=r"expected torus, or a file that ends in \.ply, \.obj, \.xyz, \.npy"):
            read_points(source)
    with pytest.raises(InputError, match=r"missing\.ply: there is no such file"):
        read_points(tmp_path / "missing.ply")
