import copy
import multiprocessing
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from stnrot.geometry import constants
from stnrot.geometry.constants import constant

CPU = torch.device("cpu")
calls: list[int] = []


@constant
def ramp(count: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    calls.append(count)
    return torch.linspace(0, 1, count, device=device, dtype=dtype)


@constant
def two(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.ones(count, device=device), torch.eye(count, device=device)


KEPT = [constants._kept[each.__wrapped__] for each in (ramp, two)]  # type: ignore[attr-defined]


def scaled(x: Tensor) -> Tensor:
    return x * ramp(x.shape[-1], x.device, x.dtype)


@pytest.fixture(autouse=True)
def _empty() -> None:
    for store in KEPT:
        store.clear()
    calls.clear()


def test_a_constant_is_made_once_for_each_device_and_dtype() -> None:
    keys = [(CPU, torch.float32), (CPU, torch.float64), (torch.device("meta"), torch.float32)]
    made = [ramp(5, *key) for key in keys for _ in range(3)]
    assert len(calls) == 3
    assert [(x.device, x.dtype) for x in made[::3]] == keys
    assert made[0] is made[1] is made[2]
    assert two(3, CPU)[1] is two(3, CPU)[1]
    assert ramp(5, CPU, dtype=torch.float32).equal(made[0])


def test_no_more_is_kept_than_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "MOST", 8)
    for count in range(18):
        ramp(count, CPU, torch.float32)
    assert [len(x) for x in KEPT[0].values()] == list(range(10, 18))  # the oldest were dropped
    monkeypatch.setattr(constants, "MOST_BYTES", 1000)
    for count in (100, 99, 98, 97):
        ramp(count, CPU, torch.float32)
    assert [len(x) for x in KEPT[0].values()] == [98, 97]
    assert ramp(251, CPU, torch.float32) is not ramp(251, CPU, torch.float32)  # too large to keep


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad, partial(torch.autocast, "cpu")])
def test_it_can_be_trained_with_after_it_was_made_in_another_context(
    context: Callable[[], AbstractContextManager[Any]],
) -> None:
    with context():
        made = ramp(4, CPU, torch.float32)
    assert not made.is_inference()
    assert made.dtype == torch.float32
    assert not made.requires_grad
    x = torch.rand(2, 4, requires_grad=True)
    (x * made).sum().backward()
    assert x.grad is not None
    assert x.grad[0].equal(torch.linspace(0, 1, 4))


@pytest.mark.usefixtures("unchecked")
def test_a_compiled_and_an_exported_graph_compute_it() -> None:
    x = torch.rand(2, 6)
    expected = x * torch.linspace(0, 1, 6)
    compiled = torch.compile(scaled, fullgraph=True, backend="eager")  # a graph break would be an error
    torch.testing.assert_close(compiled(x), expected)

    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return scaled(x)

    for strict in (True, False):
        program = torch.export.export(Scaled(), (x,), strict=strict)
        torch.testing.assert_close(program.module()(x), expected)
        assert not program.constants
    assert not KEPT[0]
    scaled(x)  # also when it is kept already
    torch.testing.assert_close(torch.compile(scaled, fullgraph=True, backend="eager")(x), expected)
    assert not torch.export.export(Scaled(), (x,)).constants


def test_no_fake_tensor_is_kept() -> None:
    before = ramp(3, CPU, torch.float32)
    with FakeTensorMode():
        assert isinstance(ramp(3, CPU, torch.float32), FakeTensor)
        assert isinstance(scaled(torch.rand(2, 7)), FakeTensor)
    for mode in ("real", "fake", "symbolic"):
        graph = make_fx(scaled, tracing_mode=mode)(torch.rand(2, 5))
        torch.testing.assert_close(graph(torch.ones(1, 5))[0], torch.linspace(0, 1, 5))
    assert ramp(3, CPU, torch.float32) is before
    for count in (3, 5, 7):
        assert type(ramp(count, CPU, torch.float32)) is Tensor
        assert ramp(count, CPU, torch.float32).tolist() == torch.linspace(0, 1, count).tolist()


def test_it_is_right_under_transformations_of_functions() -> None:
    x = torch.rand(3, 4)
    ones = torch.ones(3, 4)
    expected = torch.linspace(0, 1, 4).expand(3, 4)
    torch.testing.assert_close(torch.vmap(scaled)(ones), expected)
    calls.clear()
    KEPT[0].clear()  # so that it is made under the transformation
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(lambda z: scaled(z).sum()))(x), expected)
    KEPT[0].clear()
    torch.testing.assert_close(torch.func.jvp(scaled, (x,), (ones,))[1], expected)
    KEPT[0].clear()
    torch.testing.assert_close(torch.func.functionalize(scaled)(ones), expected)
    torch.testing.assert_close(scaled(ones), expected)  # what is kept has outlived the transformation
    assert len(calls) == 3  # made under `grad`, `jvp` and `functionalize`


def test_a_context_of_devices_changes_nothing() -> None:
    with torch.device("meta"):
        made = ramp(4, CPU, torch.float32)
    assert made.device == CPU
    assert made is ramp(4, CPU, torch.float32)


def test_threads_share_it() -> None:
    found: list[Tensor] = []
    threads = [threading.Thread(target=lambda: found.append(ramp(9, CPU, torch.float32))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(each.equal(found[0]) for each in found)


def _in_child(pipe: Connection) -> None:
    pipe.send([ramp(11, CPU, torch.float32).sum().item(), ramp(12, CPU, torch.float32).sum().item(), len(calls)])


def test_a_forked_process_keeps_what_there_is() -> None:
    assert ramp(11, CPU, torch.float32).sum().item() == pytest.approx(5.5)
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_in_child, args=(there,))
    child.start()
    assert here.poll(60)
    assert here.recv() == pytest.approx([5.5, 6.0, 2])  # one made before the fork, one after
    child.join()


def _after_the_main_thread(pipe: Connection) -> None:
    def work() -> None:
        threading.main_thread().join()
        time.sleep(0.2)  # until the interpreter begins to shut down
        pipe.send(ramp(13, CPU, torch.float32).sum().item())

    threading.Thread(target=work).start()


def test_a_thread_may_outlive_the_main_thread() -> None:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_after_the_main_thread, args=(there,))
    child.start()
    there.close()
    assert here.recv() == pytest.approx(6.5)
    child.join()


def test_an_error_of_the_function_is_raised() -> None:
    @constant
    def wrong(count: int) -> Tensor:
        raise ValueError(f"no {count}")

    for _ in range(2):
        with pytest.raises(ValueError, match="no 3"):
            wrong(3)


def test_a_model_does_not_hold_it() -> None:
    class Scaled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return scaled(super().forward(x))

    module = Scaled(4, 4)
    x = torch.rand(2, 4)
    expected = module(x)
    assert copy.deepcopy(module)(x).equal(expected)
    assert set(module.state_dict()) == {"weight", "bias"}
