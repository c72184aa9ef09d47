"""What `checked` accepts and refuses, and that it stays out of compiled graphs and of calls within a call."""

import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from stnrot import InputError
from stnrot.arguments import Count, checked, checked_fields
from stnrot.image_kinds import to_floats


@checked
def pair(image: Float[Tensor, "B C H W"], angle: Float[Tensor, "B *K"] | float, steps: Count = 1) -> str:
    return "called"


@checked
def broadcast(a: Float[Tensor, "*#n 3"], b: Float[Tensor, "*#n 3"]) -> str:
    return "called"


@checked
def kinds(mask: Bool[Tensor, "N"], index: Int[Tensor, "N"], spectrum: Complex[Tensor, "N"] | None = None) -> str:
    return "called"


@checked
def plain(mode: Literal["a", "b"], switch: bool, size: tuple[int, int], share: float = 0.5) -> str:
    return "called"


@checked
def objects(name: str, device: torch.device | None, *sizes: Count) -> str:
    return "called"


@checked_fields
@dataclass
class Fields:
    x: Float[Tensor, "N"]


def images(*shape: int, **options: Any) -> Tensor:
    return torch.zeros(shape, **options)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (pair, (images(2, 1, 4, 5), torch.zeros(2))),
        (pair, (images(2, 1, 4, 5), torch.zeros(2, 3, 7))),
        (pair, (images(0, 1, 4, 5), torch.zeros(0))),
        (pair, (images(2, 1, 4, 5), 0.5)),
        (pair, (images(2, 1, 4, 5), 3, np.int64(4))),
        (pair, (images(2, 1, 4, 5).bfloat16(), torch.zeros(2).double())),
        (pair, (images(1, 1, 4, 5).expand(2, 3, 4, 5).transpose(2, 3), torch.zeros(2))),
        (broadcast, (torch.zeros(2, 1, 3), torch.zeros(4, 3))),
        (broadcast, (torch.zeros(3), torch.zeros(4, 2, 3))),
        (kinds, (torch.zeros(2).bool(), torch.zeros(2).int(), torch.zeros(2).cfloat())),
        (kinds, (torch.zeros(2).bool(), torch.zeros(2).byte())),
        (plain, ("a", False, (1, 2))),
        (plain, ("b", True, [1, 2], 1)),
        (plain, ("b", True, (np.int64(1), 2), np.float32(1))),
        (objects, ("a", None)),
        (objects, ("a", "cpu", 1, 2, np.int32(3))),
    ],
)
def test_accepted(function: Any, arguments: tuple[Any, ...]) -> None:
    assert function(*arguments) == "called"


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (
            pair,
            (images(2, 1, 4, 5), torch.zeros(3)),
            "angle: expected a tensor [B, *K] of real numbers on cpu with B = 2 or a finite number, got",
        ),
        (
            pair,
            (images(2, 1, 4, 0), 0.5),
            "image: expected a tensor [B, C, H, W] of real numbers, got torch.float32 of",
        ),
        (
            pair,
            (images(2, 1, 4, 5).int(), 0.5),
            "image: expected a tensor [B, C, H, W] of real numbers, got torch.int32",
        ),
        (pair, (images(2, 1, 4, 5).to_sparse(), 0.5), "image: expected"),
        (pair, (np.zeros((2, 1, 4, 5)), 0.5), "image: expected a tensor [B, C, H, W] of real numbers, got ndarray"),
        (pair, (images(2, 1, 4, 5), torch.zeros(2, device="meta")), "angle: expected"),
        (pair, (images(2, 1, 4, 5), True), "angle: expected"),
        (pair, (images(2, 1, 4, 5), float("nan")), "angle: expected"),
        (pair, (images(2, 1, 4, 5), None), "angle: expected"),
        (pair, (images(2, 1, 4, 5), 0.5, 0), "steps: expected a whole number of at least 1, got 0"),
        (pair, (images(2, 1, 4, 5), 0.5, 1.0), "steps: expected a whole number of at least 1, got 1.0"),
        (pair, (images(2, 1, 4, 5), 0.5, True), "steps: expected a whole number of at least 1, got True"),
        (
            broadcast,
            (torch.zeros(2, 3), torch.zeros(4, 3)),
            "b: expected a tensor [*n, 3] of real numbers on cpu with n",
        ),
        (broadcast, (torch.zeros(2, 3), torch.zeros(2, 4)), "b: expected"),
        (kinds, (torch.zeros(2), torch.zeros(2).int()), "mask: expected a tensor [N] of bools"),
        (
            kinds,
            (torch.zeros(2).bool(), torch.zeros(2)),
            "index: expected a tensor [N] of whole numbers on cpu with N",
        ),
        (plain, ("c", True, (1, 2)), "mode: expected one of a, b, got 'c'"),
        (plain, ("a", 1, (1, 2)), "switch: expected one of True, False, got 1"),
        (plain, ("a", True, (1, 2, 3)), "size: expected (a whole number, a whole number), got tuple of 3"),
        (
            plain,
            ("a", True, (1, float("nan"))),
            "size: expected (a whole number, a whole number), got tuple of 2 with nan",
        ),
        (plain, ("a", np.True_, (1, 2)), "switch: expected one of True, False, got np.True_"),
        (plain, ("a", True, 3), "size: expected"),
        (pair, (images(2, 1, 4, 5), 0.5, 10**5000), "steps: expected a whole number of at least 1, got a whole number"),
        (plain, ("a", True, (1, 2), "x"), "share: expected a finite number, got 'x'"),
        (objects, (1, None), "name: expected text, got 1"),
        (objects, ("a", "bad"), "device: expected a device or None, got 'bad'"),
        (objects, ("a", None, 1, 2, 0), "sizes: expected a whole number of at least 1, got 0"),
        (Fields, (torch.ones(1, 1),), "x: expected a tensor [N] of real numbers, got torch.float32 of shape [1, 1]"),
        (Fields, (torch.ones(1).int(),), "x: expected a tensor [N] of real numbers, got torch.int32 of shape [1]; .fl"),
    ],
)
def test_refused_in_one_line(function: Any, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError) as error:
        function(*arguments)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_nested_tensor_is_refused() -> None:
    """Reading its shape is an error of torch."""
    nested = torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(1, 3)])
    for call in (lambda: pair(nested, 0.5), lambda: to_floats(nested, "image")):
        with pytest.raises(InputError, match=r"^image: expected .*, got a nested tensor of torch.float32"):
            call()


def test_keywords_are_checked_in_any_order() -> None:
    with pytest.raises(InputError, match=r"image: expected .* with B = 3, got"):
        pair(angle=torch.zeros(3), image=images(2, 1, 4, 5))
    with pytest.raises(TypeError, match="missing"):
        pair(images(2, 1, 4, 5))  # type: ignore[call-arg]


def test_a_method_is_checked_without_itself() -> None:
    class Layer:
        @checked
        def forward(self, x: Float[Tensor, "N d"]) -> str:
            return "called"

    assert Layer().forward(torch.zeros(0, 3)) == "called"
    with pytest.raises(InputError, match=r"x: expected a tensor \[N, d\]"):
        Layer().forward(torch.zeros(3))


def test_the_next_call_is_checked_after_an_error_inside() -> None:
    @checked
    def fails(x: Float[Tensor, "N"]) -> None:
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fails(torch.zeros(2))
    with pytest.raises(InputError):
        fails(torch.zeros(2, 2))


@pytest.mark.ci
def test_a_compiled_graph_has_no_checks() -> None:
    """In a process of its own: the run-time shape checks of pytest would break the graph."""
    code = """
import torch
from jaxtyping import Float
from stnrot.arguments import Count, checked

@checked
def scaled(x: Float[torch.Tensor, "N d"], factor: float, count: Count = 2):
    return x * factor * count

graphs = []
def backend(graph, inputs):
    graphs.append(graph)
    return graph.forward

compiled = torch.compile(lambda x: scaled(x, 2.0).sum(), fullgraph=True, backend=backend, dynamic=True)
for n in (3, 4, 7):
    torch.testing.assert_close(compiled(torch.ones(n, 2)), torch.tensor(8.0 * n))
assert len(graphs) == 1
assert sorted(node.target.__name__ for node in graphs[0].graph.nodes if node.op == "call_function") == ["mul", "mul"]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
