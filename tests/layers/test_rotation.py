"""The rotation layer: its guarantees at the start and in training, and copies, checkpoints, compilation and export."""

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from stnrot import Conjugate, InputError, Rotation
from stnrot.geometry import exponential, random_rotation, skew
from stnrot.layers.scaled_tanh import ScaledTanh

METHODS = ("householder", "cayley", "exp", "qr", "newton_schulz")
CASES = [*((method, dim) for method in METHODS for dim in (2, 3, 16)), ("angle", 2)]


def defects(matrix: Tensor) -> tuple[float, float]:
    """Return max |R^T R - I| and |det R - 1|, in float64."""
    wide = matrix.detach().double()
    gap = (wide.mT @ wide - torch.eye(len(wide))).abs().max()
    sign, log = torch.linalg.slogdet(wide)
    return float(gap), float((sign * log.exp() - 1).abs())


def train(layer: Rotation, steps: int, lr: float = 1e-2, bf16: bool = False) -> None:
    """Train on random gradients, with weight decay."""
    optimizer = torch.optim.AdamW(layer.parameters(), lr=lr, weight_decay=0.1)
    wanted = torch.randn(layer.dim, layer.dim)
    for _ in range(steps):
        z = torch.randn(8, layer.dim)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = (layer(z) * (z @ wanted)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("init", ["identity", "haar"])
@pytest.mark.parametrize(("method", "dim"), CASES)
def test_is_a_rotation_before_and_after_training(method: str, dim: int, init: str) -> None:
    torch.manual_seed(dim)
    layer = Rotation(dim, method, init=init)
    if init == "identity":
        assert torch.equal(layer.matrix(), torch.eye(dim))
    assert max(defects(layer.matrix())) < 1e-6
    train(layer, steps=200, bf16=init == "haar")
    gap, det = defects(layer.matrix())
    assert gap <= 1e-5
    assert det <= 1e-5
    assert layer.defect() == pytest.approx(gap, rel=1e-3, abs=3e-7)  # rounded in another order
    z = torch.randn(7, dim)
    torch.testing.assert_close(layer(z), z @ layer.matrix().T)
    torch.testing.assert_close(layer.inverse(layer(z)), z)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "dim"), CASES)
def test_is_a_rotation_after_ten_thousand_steps(method: str, dim: int) -> None:
    torch.manual_seed(dim)
    layer = Rotation(dim, method, init="haar")
    train(layer, steps=10_000)
    assert max(defects(layer.matrix())) <= 1e-5


LARGE = [(m, d) for m in ("householder", "cayley", "newton_schulz") for d in (64, 257, 1024)] + [
    ("exp", 64),
    ("qr", 257),
]


@pytest.mark.parametrize(("method", "dim"), LARGE)
def test_large_matrices_are_rotations_too(method: str, dim: int) -> None:
    torch.manual_seed(dim)
    layer = Rotation(dim, method, init="haar")
    assert defects(layer.matrix())[0] <= 1e-5
    train(layer, 2000 // dim)
    gap, det = defects(layer.matrix())
    assert gap <= 1e-5
    assert det <= 2e-7 * dim + 1e-5  # det is the product of d singular values


@pytest.mark.slow
@pytest.mark.parametrize(("method", "dim"), [("exp", 257), ("exp", 1024), ("qr", 1024)])
def test_large_matrices_of_the_slow_methods_are_rotations_too(method: str, dim: int) -> None:
    layer = Rotation(dim, method, init="haar")
    train(layer, 2)
    assert defects(layer.matrix())[0] <= 1e-5


@pytest.mark.parametrize("init", ["identity", "haar"])
@pytest.mark.parametrize(("method", "dim"), [*((m, d) for m in METHODS for d in (4, 5)), ("angle", 2)])
def test_moves_in_all_directions_of_the_rotations(method: str, dim: int, init: str) -> None:
    torch.manual_seed(0)
    layer = Rotation(dim, method, init=init).double()
    layer.matrix()
    name, weight = next(iter(layer.named_parameters()))

    def matrix(w: Tensor) -> Tensor:
        return functional_call(_Matrix(layer), {f"layer.{name}": w}, ())

    jacobian = torch.autograd.functional.jacobian(matrix, weight.detach()).reshape(dim * dim, -1)
    rotation = layer.matrix().detach()
    tangent = torch.einsum("ij,jkn->ikn", rotation.T, jacobian.view(dim, dim, -1))
    generators = (tangent - tangent.transpose(0, 1)) / 2
    values = torch.linalg.svdvals(generators.reshape(dim * dim, -1))
    assert (values > 1e-3).sum() == dim * (dim - 1) // 2


class _Matrix(nn.Module):
    def __init__(self, layer: Rotation) -> None:
        super().__init__()
        self.layer = layer

    def forward(self) -> Tensor:
        return self.layer.matrix()


@pytest.mark.parametrize("dim", [2, 3, 6, 7])
@pytest.mark.parametrize("method", METHODS)
def test_starts_with_any_rotation(method: str, dim: int) -> None:
    half_turn = torch.eye(dim)
    half_turn[:2, :2] *= -1
    for start in (random_rotation(dim).float(), half_turn):
        torch.testing.assert_close(Rotation(dim, method, init=start).matrix(), start, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("method", "dim"), [*((m, 4) for m in METHODS), ("angle", 2)])
def test_finds_a_rotation_by_gradient_descent(method: str, dim: int) -> None:
    torch.manual_seed(1)
    hidden = exponential(skew(0.5 * torch.randn(dim, dim)))
    layer = Rotation(dim, method)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.03)
    z = torch.randn(100, dim)
    for _ in range(300):
        optimizer.zero_grad()
        (layer(z) - z @ hidden.T).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(layer.matrix(), hidden, rtol=0, atol=1e-3)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("center", [None, torch.ones(3), nn.Parameter(torch.ones(3))])
@pytest.mark.parametrize("method", ["householder", "cayley", "exp", "qr"])
def test_gradients_are_those_of_finite_differences(method: str, center: Tensor | None) -> None:
    layer = Rotation(3, method, init="haar", center=center).double()
    model = Conjugate(nn.Tanh(), layer)
    names = [name for name, _ in model.named_parameters()]
    weights = [0.3 * torch.randn_like(w).requires_grad_() for _, w in model.named_parameters()]

    def function(z: Tensor, *given: Tensor) -> Tensor:
        return functional_call(model, dict(zip(names, given, strict=True)), (z,))

    z = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    gradcheck(function, (z, *weights))
    gradgradcheck(function, (z, *weights))


@pytest.mark.parametrize("method", METHODS)
def test_gradients_with_a_graph_are_those_without(method: str) -> None:
    """The function between the two rotations uses the same weights, so the input of the second depends on them."""
    layer = Rotation(5, method, init="haar")
    model = Conjugate(lambda u: layer(u.tanh()), layer)
    z = torch.randn(4, 5, requires_grad=True)
    inputs = (z, layer.map.weight)
    plain = torch.autograd.grad(model(z).pow(3).sum(), inputs)
    graph = torch.autograd.grad(model(z).pow(3).sum(), inputs, create_graph=True)
    torch.testing.assert_close(graph, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["householder", "cayley", "exp", "qr"])
def test_large_weights_do_no_harm(method: str) -> None:
    """The Cayley transform has such weights near a rotation by 180 degrees, which it cannot reach."""
    layer = Rotation(12, method, init="haar")
    for size in (10, 1e3):
        with torch.no_grad():
            layer.map.weight.copy_(size * torch.randn_like(layer.map.weight))
        assert max(defects(layer.matrix())) <= 1e-5


def test_a_free_matrix_has_the_gradient_of_the_linear_map() -> None:
    layer = Rotation(5, "newton_schulz", init="haar")
    z, upstream = torch.randn(2, 6, 5)
    layer(z).backward(upstream)
    torch.testing.assert_close(layer.map.weight.grad, upstream.T @ z)


@pytest.mark.parametrize("points", [3, 2000])
@pytest.mark.parametrize("method", ["householder", "cayley", "newton_schulz"])
def test_calls_do_not_disturb_each_other(method: str, points: int) -> None:
    """Check the gradients, the results after an update of any kind, and a second backward pass."""
    layer = Rotation(6, method, init="haar")
    z = torch.randn(points, 6)
    weight = layer.map.weight

    def alone(function: Callable[[], Tensor]) -> Tensor:
        return torch.autograd.grad(function().square().sum(), weight)[0]

    rotated, back = layer(z), layer.inverse(z.tanh())
    together = torch.autograd.grad(rotated.pow(3).sum() + back.pow(3).sum(), weight)[0]
    apart = [torch.autograd.grad(f(x).pow(3).sum(), weight)[0] for f, x in ((layer, z), (layer.inverse, z.tanh()))]
    torch.testing.assert_close(together, sum(apart), rtol=1e-4, atol=1e-3)

    first, second = layer(z).pow(3).sum(), layer(z).pow(3).sum()
    torch.testing.assert_close(
        torch.autograd.grad(first, weight)[0], torch.autograd.grad(second, weight)[0], rtol=1e-4, atol=1e-3
    )

    held = layer(z)
    with torch.no_grad():
        weight.add_(0.1 * torch.randn_like(weight))
    assert not torch.allclose(layer(z), held, atol=1e-3)
    if method != "newton_schulz":
        layer(z)
        other = Rotation(6, method, init="haar")
        layer.map.load_state_dict({"start": other.map.start}, strict=False)
        fresh = copy.deepcopy(layer)
        torch.testing.assert_close(layer.inverse(z), fresh.inverse(z))

    held = layer(z)
    held.sum().backward()
    weight.data = weight.data + 0.1 * torch.randn_like(weight)  # an update that no version counts
    assert not torch.allclose(layer(z), held, atol=1e-3)
    assert layer.defect() < 1e-5


def test_rotates_about_its_centre() -> None:
    center = torch.tensor([1.0, 2, 3])
    layer = Rotation(3, init="haar", center=center)
    torch.testing.assert_close(layer(center), center)
    torch.testing.assert_close(layer(center + torch.eye(3)), center + layer.matrix().T)
    assert not list(layer.parameters())[1:]
    exact = Rotation(3, init=layer.matrix().detach(), center=center.double())
    torch.testing.assert_close(exact(center), center)
    learned = Rotation(3, init="haar", center=nn.Parameter(torch.zeros(3)))
    learned(torch.randn(4, 3)).square().sum().backward()
    assert learned.center is not None
    assert learned.center.grad is not None
    z = torch.randn(2, 5, 3)
    torch.testing.assert_close(learned.inverse(learned(z)), z)


@pytest.mark.parametrize("method", METHODS)
def test_is_made_on_the_default_device(method: str) -> None:
    with torch.device("meta"):
        layer = Rotation(4, method, init="haar")
    assert all(held.is_meta for held in layer.state_dict().values())
    made = Rotation(4, method, init="haar")
    layer.load_state_dict(made.state_dict(), assign=True)
    z = torch.randn(3, 4)
    torch.testing.assert_close(layer(z), made(z))


def test_vectorised_jacobians_are_the_matrix() -> None:
    layer = Rotation(5, init="haar")
    jacobian = torch.autograd.functional.jacobian(layer, torch.randn(5), vectorize=True)
    torch.testing.assert_close(jacobian, layer.matrix().detach())


def test_any_number_of_leading_dimensions() -> None:
    layer = Rotation(6, init="haar")
    z = torch.randn(2, 3, 5, 6)
    torch.testing.assert_close(layer(z)[1, 2], layer(z[1, 2]))
    torch.testing.assert_close(layer(z)[0, 0, 0], layer(z[0, 0, 0]))
    assert layer(torch.zeros(0, 6)).shape == (0, 6)
    layer(torch.zeros(0, 6)).sum().backward()
    torch.testing.assert_close(layer(z.transpose(1, 2)), layer(z).transpose(1, 2))


@pytest.mark.parametrize("method", [*METHODS, "angle", "penalty"])
def test_copies_and_checkpoints_are_the_layer(method: str) -> None:
    dim = 2 if method == "angle" else 6
    layer = Rotation(dim, method, init="haar", center=torch.ones(dim))
    train(layer, 3)
    z = torch.randn(4, dim)
    rotated = layer(z)
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied(z), rotated)
        train(copied, 3)
        assert not torch.equal(copied(z), layer(z))
        assert copied.defect() < 1e-5 or method == "penalty"
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = Rotation(dim, method, init="identity", center=torch.zeros(dim))
    other(z)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(z), rotated)


def test_sixteen_bits_in_and_out() -> None:
    layer = Rotation(32, init="haar")
    z = torch.randn(5, 32)
    half = layer(z.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), layer(z), rtol=0, atol=0.03)
    with torch.autocast("cpu", torch.bfloat16):
        rotated = layer(z)
        (rotated.sum() + layer.matrix().sum()).backward()
        free = Rotation(32, "penalty", init="haar")
        assert free.penalty() < 1e-6
    assert rotated.dtype == torch.float32
    torch.testing.assert_close(rotated, layer(z))
    coarse = Rotation(32, init="haar").bfloat16()
    assert coarse.defect() < 1e-5
    with pytest.raises(ValueError, match=r"expected 32 bits, got torch\.bfloat16"):
        Rotation(32, "newton_schulz").bfloat16()(z)
    assert Rotation(32, init="haar").double()(z.double()).dtype == torch.float64


def test_vectors_without_a_direction_do_no_harm() -> None:
    layer = Rotation(6, init="haar")
    with torch.no_grad():
        layer.map.weight[1] = -layer.map.start[1]  # the vector is zero
        layer.map.weight[3] = layer.map.start[2] * (1 + 1e-6) - layer.map.start[3]  # nearly parallel to its neighbour
    assert max(defects(layer.matrix())) < 1e-5
    layer(torch.randn(5, 6)).square().mul(torch.arange(6)).sum().backward()
    assert layer.map.weight.grad.isfinite().all()
    train(layer, 20)
    assert max(defects(layer.matrix())) < 1e-5


def test_few_reflections_reach_what_they_can() -> None:
    layer = Rotation(10, reflections=4)
    assert torch.equal(layer.matrix(), torch.eye(10))
    train(layer, 50)
    assert max(defects(layer.matrix())) < 1e-5
    assert torch.linalg.matrix_rank(layer.matrix() - torch.eye(10), atol=1e-4) <= 8  # 4 signs of axes and 4 reflections


def test_penalty_is_not_a_rotation() -> None:
    torch.manual_seed(0)
    layer = Rotation(5, "penalty", init="haar")
    assert not layer.is_rotation
    assert layer.penalty() < 1e-9
    with torch.no_grad():
        layer.map.weight.mul_(2)
    torch.testing.assert_close(layer.penalty(), torch.tensor(9.0 * 5))
    assert layer.defect() == pytest.approx(3, rel=1e-4)
    assert Rotation(5).penalty() == 0
    layer.penalty().backward()
    assert layer.map.weight.grad is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 1}, "dim=1: expected a whole number of at least 2"),
        ({"dim": True}, "dim=True: expected a whole number"),
        ({"dim": 4, "method": "svd"}, "method='svd': expected one of householder"),
        ({"dim": 3, "method": "angle"}, "expected dim=2, got 3"),
        ({"dim": 4, "reflections": 3}, "reflections=3: expected an even number from 2 to 4"),
        ({"dim": 4, "reflections": 6}, "reflections=6: expected an even number from 2 to 4"),
        ({"dim": 5, "reflections": 0}, "reflections=0: expected an even number from 2 to 4"),
        ({"dim": 4, "reflections": 2, "init": "haar"}, "expected init='identity'"),
        ({"dim": 4, "method": "qr", "reflections": 2}, "only method='householder'"),
        ({"dim": 3, "init": torch.diag(torch.tensor([1.0, 1, -1]))}, "got a reflection, det = -1"),
        ({"dim": 3, "init": 2 * torch.eye(3)}, r"max \|R\^T R - I\| = 3"),
        ({"dim": 3, "init": torch.full((3, 3), torch.nan)}, r"max \|R\^T R - I\| = nan"),
        ({"dim": 3, "init": torch.eye(4)}, r"a real matrix of 3 x 3, got torch.float32 of shape \[4, 4\]"),
        ({"dim": 3, "init": torch.eye(3).to_sparse()}, "a real matrix of 3 x 3, got torch.sparse_coo"),
        ({"dim": 3, "init": torch.eye(3, device="meta")}, "a real matrix of 3 x 3, got .* without values"),
        ({"dim": 3, "init": "random"}, "init='random': expected identity, haar"),
        ({"dim": 3, "center": torch.zeros(4)}, "center: expected a tensor of 3 finite real numbers"),
        ({"dim": 3, "center": torch.zeros(3, dtype=torch.int64)}, "center: expected a tensor of 3 finite real numbers"),
        ({"dim": 3, "center": torch.full((3,), torch.nan)}, "center: expected a tensor of 3 finite real numbers"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rotation(**arguments)


@pytest.mark.parametrize(
    ("z", "message"),
    [
        (torch.zeros(5, 4), r"got torch.float32 of shape \[5, 4\]"),
        (torch.zeros(()), r"got torch.float32 of shape \[\]"),
        (torch.zeros(5, 3, dtype=torch.int64), "got torch.int64"),
        (torch.zeros(5, 3, dtype=torch.complex64), "got torch.complex64"),
        (torch.eye(3).to_sparse(), "got torch.sparse_coo"),
        (torch.zeros(5, 3, device="meta"), r"got torch.float32 of shape \[5, 3\] without values on meta"),
    ],
)
def test_bad_points_are_refused(z: Tensor, message: str) -> None:
    layer = Rotation(3)
    expected = r"z: expected a dense tensor \[\*n, 3\] of real numbers on cpu, "
    for function in (layer, layer.inverse, layer.prepare, Conjugate(torch.tanh, layer), ScaledTanh(3)):
        with pytest.raises(InputError, match=f"^{expected}{message}"):
            function(z)


def test_other_types_and_shapes_are_refused(printed: Callable[[str], list[str]]) -> None:
    code = """
import numpy, torch
from stnrot import Rotation
from stnrot.geometry import qr_rotation, reflect

Rotation(numpy.int64(4), reflections=numpy.int64(2))
wrong = [lambda each=each: Rotation(**each) for each in ({"dim": torch.tensor(4.0)}, {"dim": torch.tensor([4, 4])})]
wrong += [lambda: Rotation(4, reflections=2.0), lambda: qr_rotation(torch.ones(3, 4))]
shapes = (((2, 3, 4, 5), (3, 2, 4, 5)), ((4, 5), (1, 2, 5)), ((7, 4, 5), (4, 5)), ((4, 5), (4, 6)))
wrong += [lambda pair=pair: reflect(*map(torch.ones, pair)) for pair in shapes]
for call in wrong:
    try:
        call()
    except ValueError as error:
        print(error)
"""
    lines = printed(code)
    assert lines[:4] == [
        "dim=tensor(4.): expected a whole number of at least 2",
        "dim=tensor([4, 4]): expected a whole number of at least 2",
        "reflections=2.0: expected an even number from 2 to 4, for det +1 at dim=4",
        "w: expected a tensor [*b, d, d] of real numbers, got torch.float32 of shape [3, 4]",
    ]
    assert len(lines) == 8
    assert all(line.startswith("vectors: expected a tensor [*b, m, d] of real numbers on cpu") for line in lines[4:])


@pytest.mark.parametrize(
    "methods",
    [
        pytest.param(("householder",), marks=pytest.mark.ci),
        pytest.param(("cayley", "exp", "qr", "newton_schulz", "penalty", "angle"), marks=pytest.mark.slow),
    ],
)
def test_compiles_and_exports_whole(methods: tuple[str, ...]) -> None:
    """Run in a separate process: the run-time shape checks of pytest would break the graph."""
    code = """
import io
import sys

import torch
from stnrot import Conjugate, InputError, Rotation

for method in sys.argv[1:]:
    dim = 2 if method == "angle" else 6
    layer = Conjugate(torch.nn.Tanh(), Rotation(dim, method, init="haar", center=torch.nn.Parameter(torch.ones(dim))))
    z = torch.randn(5, dim)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    gradients = []
    for function in (layer, compiled):
        layer.zero_grad()
        function(z).square().sum().backward()
        gradients.append([p.grad.clone() for p in layer.parameters()])
    torch.testing.assert_close(compiled(z), layer(z))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)
    rows = {0: torch.export.Dim("rows", min=2, max=4096)}
    saved = io.BytesIO()
    torch.export.save(torch.export.export(layer, (z,), dynamic_shapes=(rows,)), saved)
    saved.seek(0)
    exported = torch.export.load(saved).module()
    more = torch.randn(300, dim)
    torch.testing.assert_close(exported(more), layer(more), rtol=1e-4, atol=1e-5)
    if method != "penalty":
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.5)
        for _ in range(100):
            optimizer.zero_grad()
            compiled(z).square().mul(torch.arange(dim)).sum().backward()
            optimizer.step()
        compiled(z)
        assert layer.rotation.defect() < 1e-5, method
"""
    subprocess.run([sys.executable, "-c", code, *methods], check=True, timeout=300)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", METHODS)
def test_the_gpu_computes_what_the_cpu_computes(method: str) -> None:
    layer = Rotation(130, method, init="haar")
    z = torch.randn(40, 130)
    expected = layer(z)
    expected.pow(3).sum().backward()
    (gradient,) = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    layer = layer.cuda()
    found = layer(z.cuda())
    found.pow(3).sum().backward()
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(layer.map.weight.grad.cpu(), gradient, rtol=1e-2, atol=1e-2)
    assert layer.defect() < 1e-5


@pytest.mark.parametrize("method", ["householder", "cayley", "exp", "qr", "newton_schulz"])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad])
def test_inverse_sees_the_step_of_a_fused_optimizer(method: str, optimizer: Any) -> None:
    layer = Rotation(6, method)
    z = torch.randn(4, 6)
    layer(z).mul(torch.arange(6.0)).sum().backward()
    step = optimizer(layer.parameters(), lr=0.3, fused=True)
    y = layer(z)  # held, so that the work of forward can be reused
    step.step()
    torch.testing.assert_close(layer.inverse(y), y @ layer.matrix(), rtol=0, atol=1e-5)


def test_inverse_sees_another_start() -> None:
    layer, other = Rotation(6), Rotation(6, init="haar")
    y = layer(torch.randn(4, 6))
    start = {"start": other.map.state_dict()["start"]}
    layer.map.load_state_dict(start, strict=False, assign=True)
    torch.testing.assert_close(layer.inverse(y), y @ layer.matrix(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dim", [64, 200])
def test_inverse_sees_weights_that_are_computed(dim: int) -> None:
    """Each weight is a new tensor, possibly at the address of the previous one."""

    class Half(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight * 0.5

    layer = Rotation(dim).double()
    nn.utils.parametrize.register_parametrization(layer.map, "weight", Half())
    z = torch.randn(4, dim, dtype=torch.float64)
    for _ in range(10):
        y = layer(z)
        with torch.no_grad():
            layer.map.parametrizations.weight.original.normal_()
        torch.testing.assert_close(layer.inverse(y), y @ layer.matrix())


def test_a_held_loss_does_not_hold_the_saved_tensors() -> None:
    layer = Rotation(8)
    loss = layer(torch.randn(3, 8)).square().sum()
    loss.backward()
    node = loss.grad_fn
    while type(node).__name__ != "_ApplyBlocksBackward":
        node = node.next_functions[0][0]
    with pytest.raises(RuntimeError, match="already been freed"):
        _ = node.saved_tensors
