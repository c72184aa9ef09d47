"""Products of reflections: compared with single reflections, LAPACK and finite differences."""

import pytest
import scipy.linalg
import scipy.stats
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from stnrot.geometry import householder_rotation, householder_vectors, reflect
from stnrot.geometry.reflection_blocks import LARGE, SMALL, blocks_of, stack_of
from stnrot.geometry.reflection_product import apply_blocks, matrix_of


def one_after_the_other(x: Tensor, vectors: Tensor, inverse: bool) -> Tensor:
    for v in vectors if inverse else vectors.flip(0):
        x = x - 2 * torch.outer(x @ v, v) / (v @ v)
    return x


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("points", [1, 7, LARGE])
@pytest.mark.parametrize("count", [1, 6, SMALL, SMALL + 1, 2 * LARGE + 3])
def test_is_the_product_of_single_reflections(count: int, points: int, inverse: bool) -> None:
    vectors = torch.randn(count, 9, dtype=torch.float64) * torch.logspace(-6, 6, count, dtype=torch.float64)[:, None]
    x = torch.randn(points, 9, dtype=torch.float64)
    expected = one_after_the_other(x, vectors, inverse)
    torch.testing.assert_close(reflect(x, vectors, inverse), expected, rtol=0, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(reflect(x, vectors.requires_grad_(), inverse), expected, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize(("shape", "points"), [((3, 4), 2), ((SMALL + 2, 2), 2), ((2, 1, 3, 3), 2)])
def test_gradients_are_those_of_finite_differences(shape: tuple[int, ...], points: int, inverse: bool) -> None:
    vectors = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    x = torch.randn(*shape[:-2], points, shape[-1], dtype=torch.float64, requires_grad=True)
    gradcheck(reflect, (x, vectors, inverse))
    gradcheck(reflect, (x.detach(), vectors, inverse))
    gradcheck(reflect, (x, vectors.detach(), inverse))
    if len(vectors) <= SMALL:
        gradgradcheck(reflect, (x, vectors, inverse))


@pytest.mark.parametrize("inverse", [False, True])
def test_gradients_with_a_graph_are_those_without(inverse: bool) -> None:
    """There are two blocks, and the points of the second are the result of the first."""
    vectors, x = torch.randn(SMALL + 2, 9, requires_grad=True), torch.randn(4, 9, requires_grad=True)
    plain = torch.autograd.grad(reflect(x, vectors, inverse).pow(3).sum(), (x, vectors))
    graph = torch.autograd.grad(reflect(x, vectors, inverse).pow(3).sum(), (x, vectors), create_graph=True)
    torch.testing.assert_close(graph, plain, rtol=1e-4, atol=1e-4)


def test_matrix_is_lapacks() -> None:
    """`orgqr` multiplies the reflectors of `geqrf` in the same order."""
    a = torch.randn(3, 40, 40, dtype=torch.float64)
    reflectors, tau = torch.geqrf(a)
    vectors = reflectors.tril(-1).mT + torch.eye(40)
    expected = torch.linalg.householder_product(reflectors, tau)
    found = householder_rotation(vectors[:, :-1])  # the last tau is 0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dim", [2, 3, 8, 33, 130])
def test_every_rotation_is_reached(dim: int) -> None:
    generator = torch.Generator().manual_seed(dim)
    plane = torch.eye(dim, dtype=torch.float64)
    plane[:2, :2] = torch.tensor([[-1, 0], [0, -1]])  # a rotation by 180 degrees
    cycle = torch.eye(dim, dtype=torch.float64).roll(1, 0)
    cycle[0] *= torch.linalg.det(cycle)
    haar = torch.from_numpy(scipy.stats.special_ortho_group.rvs(dim, random_state=dim))
    near = torch.from_numpy(
        scipy.linalg.expm(1e-9 * (lambda a: a - a.T)(torch.randn(dim, dim, generator=generator).double().numpy()))
    )
    for rotation in (torch.eye(dim, dtype=torch.float64), plane, cycle, haar, near):
        vectors, sign = householder_vectors(rotation)
        assert vectors.shape == (dim - dim % 2, dim)
        torch.testing.assert_close(householder_rotation(vectors) * sign, rotation, rtol=0, atol=1e-12)
        assert torch.linalg.matrix_rank(vectors) == len(vectors)


def test_vectors_without_a_direction_do_no_harm() -> None:
    vectors = torch.randn(6, 6)
    vectors[1] = 0
    vectors[3] = 1e-30
    vectors[4] = vectors[5] * (1 + 1e-6)
    vectors.requires_grad_()
    matrix = householder_rotation(vectors)
    torch.testing.assert_close(matrix.mT @ matrix, torch.eye(6), rtol=0, atol=1e-5)
    assert torch.linalg.det(matrix) > 0
    matrix.sum().backward()
    assert vectors.grad is not None
    assert vectors.grad.isfinite().all()


@pytest.mark.parametrize("spread", [1e-6, 1e-3, 1e-2])
@pytest.mark.parametrize("dim", [16, 64, 256])
def test_near_parallel_vectors_do_no_harm(dim: int, spread: float) -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        rotation = householder_rotation(torch.randn(1, dim) + spread * torch.randn(dim, dim)).double()
        torch.testing.assert_close(rotation.mT @ rotation, torch.eye(dim).double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [1e-13, 1.0, 1e12])
@pytest.mark.parametrize("parallel", [3, 8, 31, 128])
def test_parallels_of_an_axis_do_no_harm(parallel: int, length: float) -> None:
    """In a few of the directions, the errors of a whole block add up in one entry."""
    torch.manual_seed(0)
    vectors = torch.randn(256, 256) / 16
    for block in vectors.split(128):
        block[:parallel] = 1e-3 * block[:parallel]
        block[:parallel, 0] += 1
        block[parallel:, 0] = 0
    rotation = householder_rotation(length * vectors).double()
    torch.testing.assert_close(rotation.mT @ rotation, torch.eye(256).double(), rtol=0, atol=1e-5)


def test_no_points_and_no_reflections() -> None:
    assert householder_rotation(torch.zeros(0, 4, 4)).shape == (0, 4, 4)
    assert reflect(torch.zeros(0, 3, 4), torch.zeros(0, 4, 4)).shape == (0, 3, 4)


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1e25), (torch.float32, 1e37), (torch.float64, 1e200)])
def test_the_length_of_a_vector_has_no_effect(dtype: torch.dtype, scale: float) -> None:
    """The square of such a length overflows."""
    x, vectors = torch.randn(3, 6, dtype=dtype), torch.randn(5, 6, dtype=dtype)
    expected = reflect(x, vectors)
    vectors[2] *= scale
    torch.testing.assert_close(reflect(x, vectors), expected)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize(("shape", "points"), [((2 * LARGE + 3, 9), 7), ((LARGE, 9), 3), ((2, 5, 6), 4), ((0, 5), 3)])
def test_the_blocks_of_a_gpu_give_the_same_rotation(shape: tuple[int, ...], points: int, inverse: bool) -> None:
    """With its gradients, and with their gradients."""
    sign = torch.randn(shape[-1]).sign().double()
    vectors = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    x = torch.randn(*shape[:-2], points, shape[-1], dtype=torch.float64, requires_grad=True)
    results = []
    for blocks in (blocks_of(vectors, SMALL, sign=sign), stack_of(vectors, LARGE, sign)):
        y = apply_blocks(x, blocks, inverse)
        with torch.no_grad():
            torch.testing.assert_close(apply_blocks(x, blocks, inverse), y)
        plain = torch.autograd.grad(apply_blocks(x, blocks, inverse).pow(3).sum(), (x, vectors))
        graph = torch.autograd.grad(y.pow(3).sum(), (x, vectors), create_graph=True)
        torch.testing.assert_close(graph, plain)
        second = torch.autograd.grad(sum(each.pow(2).sum() for each in graph), (x, vectors))
        results.append((y, *plain, *second))
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-9)
    if not inverse and vectors.ndim == 2:
        y = x * sign
        for v in vectors.flip(0):
            y = y - 2 * torch.outer(y @ v, v) / (v @ v)
        torch.testing.assert_close(results[1][0], y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("spread", [1e-6, 1e-2])
def test_the_blocks_of_a_gpu_are_rotations_for_near_parallel_vectors(spread: float) -> None:
    vectors = torch.randn(1, 256) + spread * torch.randn(256, 256)
    rotation = apply_blocks(torch.eye(256), stack_of(vectors, LARGE), inverse=True).double()
    torch.testing.assert_close(rotation.mT @ rotation, torch.eye(256).double(), rtol=0, atol=1e-5)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("shape", [(4, 4), (2, 3, 4), (SMALL + 1, 3)])
def test_the_matrix_has_the_gradients_of_finite_differences(shape: tuple[int, ...]) -> None:
    vectors = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    gradcheck(householder_rotation, (vectors,))
    if len(vectors) <= SMALL:
        sign = torch.randn(shape[-1]).sign().double()
        gradcheck(lambda v: matrix_of(blocks_of(v, SMALL, sign=sign)), (vectors,))
        gradgradcheck(lambda v: matrix_of(blocks_of(v, SMALL, sign=sign)), (vectors,))
