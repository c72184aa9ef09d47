"""Cases of the fused kernels: test_fused_rotation.py runs them in Triton's interpreter, on a GPU test_gpu.py does.

The oracle is `F.affine_grid` and `F.grid_sample` on the CPU.
"""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stnrot.geometry import planar, rotate

fused = pytest.importorskip("stnrot.geometry.fused_rotation", reason="needs Triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # the interpreter takes tensors of the CPU


def oracle(image: Tensor, angle: Tensor, shift: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
    """Rotate by one angle for each image, in the type of the angle."""
    (height, width), (h, w) = image.shape[-2:], size or image.shape[-2:]
    c, s = angle.cos(), angle.sin()
    shift = angle.new_zeros(len(angle), 2) if shift is None else shift
    rows = (c * w / width, -s * h / width, shift[:, 0]), (s * w / height, c * h / height, shift[:, 1])
    theta = torch.stack([torch.stack(row, -1) for row in rows], 1)
    grid = F.affine_grid(theta, [len(image), image.shape[1], h, w], align_corners=False)
    return F.grid_sample(image.to(angle.dtype), grid, align_corners=False)


def hypotheses(image: Tensor, angle: Tensor, shift: Tensor | None = None, **options: object) -> Tensor:
    """Rotate each image by each of its angles, one after another."""
    each = [
        oracle(image, angle[:, k], None if shift is None else shift[:, k], **options)  # type: ignore[arg-type]
        for k in range(angle.shape[1])
    ]
    return torch.stack(each, 1)


def as_given(image: Tensor) -> Tensor:
    return image.contiguous()


def channels_last(image: Tensor) -> Tensor:
    return image.contiguous(memory_format=torch.channels_last)


def transposed(image: Tensor) -> Tensor:
    return image.mT.contiguous().mT


def every_other(image: Tensor) -> Tensor:
    return image.repeat_interleave(2, -1)[..., ::2]


@pytest.mark.parametrize(
    ("shape", "count", "shifted", "size", "layout"),
    [
        ((2, 1, 9, 13), 1, False, None, as_given),
        ((1, 3, 10, 34), 2, True, None, channels_last),
        ((2, 6, 5, 3), 1, True, None, transposed),
        ((1, 1, 6, 9), 3, False, (11, 8), every_other),
        ((0, 3, 4, 5), 2, False, None, as_given),
        ((2, 0, 4, 5), 2, False, None, as_given),
        ((2, 3, 4, 5), 0, False, None, as_given),
        ((1, 1, 1, 1), 1, False, None, as_given),
    ],
)
def test_values_and_gradients(
    shape: tuple[int, ...], count: int, shifted: bool, size: tuple[int, int] | None, layout: object
) -> None:
    image, angle, shift = torch.rand(shape), 4 * torch.randn(shape[0], count), torch.randn(shape[0], count, 2) / 4
    leaves = [image, angle] + [shift] * shifted
    expected = [each.double().requires_grad_() for each in leaves]
    empty = image.double().new_zeros(shape[0], count, *shape[1:])
    stack = (lambda image, angle: empty) if not empty.numel() else partial(hypotheses, size=size)
    theirs = stack(*expected)
    upstream = torch.rand_like(theirs)
    found = [each.to(DEVICE).requires_grad_() for each in leaves]
    laid_out = layout(found[0])  # type: ignore[operator]
    ours = fused.rotate(laid_out, found[1], found[2] if shifted else None, size or shape[-2:], stack)
    torch.testing.assert_close(ours.double().cpu(), theirs, atol=1e-5, rtol=0)
    if not empty.numel():
        assert not any(each.any() for each in torch.autograd.grad(ours.sum(), found))
        return
    in_ours = torch.autograd.grad(ours, found, upstream.float().to(DEVICE))
    in_theirs = torch.autograd.grad(theirs, expected, upstream)
    for mine, other in zip(in_ours, in_theirs, strict=True):
        torch.testing.assert_close(mine.double().cpu(), other, atol=1e-5 * float(other.abs().max() + 1), rtol=0)


@pytest.mark.parametrize(("dtype", "step"), [(torch.float16, 2**-10), (torch.bfloat16, 2**-7)])
def test_16_bits_are_computed_in_float32(dtype: torch.dtype, step: float) -> None:
    """The interpreter cuts digits off where a GPU rounds: one step of the type."""
    image, angle = torch.rand(1, 3, 9, 11, device=DEVICE).to(dtype).requires_grad_(), torch.tensor([0.7], device=DEVICE)
    ours = fused.rotate(image, angle, None, (9, 11), oracle)
    theirs = oracle(image.detach().float().cpu(), angle.cpu())
    torch.testing.assert_close(ours.cpu().float(), theirs, rtol=step, atol=1e-5)
    ours.float().sum().backward()
    assert image.grad is not None
    assert image.grad.dtype == dtype


def test_angles_in_float64_are_precise() -> None:
    angle = torch.tensor([1e6 + 0.3], dtype=torch.float64, device=DEVICE)
    image = torch.rand(1, 1, 8, 9, device=DEVICE)
    theirs = oracle(image.cpu(), angle.cpu()).float()
    torch.testing.assert_close(fused.rotate(image, angle, None, (8, 9), oracle).cpu(), theirs, atol=1e-5, rtol=0)


def test_numbers_that_are_not_finite() -> None:
    """As on the CPU: NaN stays in its image; a point far outside is 0; a pixel without weight does not count."""
    image = torch.rand(4, 1, 6, 7, device=DEVICE, requires_grad=True)
    angle = torch.tensor([0.5, math.nan, math.inf, 0.3], device=DEVICE, requires_grad=True)
    shift = torch.zeros(4, 2, device=DEVICE)
    shift[3] = 1e30
    ours = fused.rotate(image, angle, shift, (6, 7), oracle)
    theirs = oracle(image.cpu(), angle.cpu(), shift.cpu())
    torch.testing.assert_close(ours.cpu(), theirs, atol=1e-5, rtol=0, equal_nan=True)
    upstream = torch.ones_like(ours)
    upstream[0, 0, 0, 0] = math.inf
    mine = torch.autograd.grad(ours, image, upstream)[0].cpu()
    other = torch.autograd.grad(theirs, image, upstream.cpu())[0]
    torch.testing.assert_close(mine, other, atol=1e-5, rtol=0, equal_nan=True)


def test_gradients_of_gradients_are_torchs() -> None:
    image = torch.rand(1, 1, 5, 6, device=DEVICE)
    angle = torch.tensor([[0.4]], device=DEVICE, requires_grad=True)

    def derivatives(rotated: Tensor) -> Tensor:
        first = torch.autograd.grad(rotated.pow(3).sum(), angle, create_graph=True)[0]
        return torch.stack((first, torch.autograd.grad(first.sum(), angle)[0]))

    try:
        expected = derivatives(hypotheses(image, angle))
    except NotImplementedError:
        pytest.skip("this release of torch has no second derivative of grid_sample")
    ours = fused.rotate(image, angle, None, (5, 6), hypotheses)
    torch.testing.assert_close(derivatives(ours), expected)


def test_transformations_of_torch_func() -> None:
    image, angle = torch.rand(1, 1, 5, 6, device=DEVICE), torch.tensor([[0.4]], device=DEVICE, requires_grad=True)

    def ours() -> Tensor:
        return fused.rotate(image, angle, None, (5, 6), hypotheses)

    upstream = torch.rand(3, 1, 1, 1, 5, 6, device=DEVICE)
    (batched,) = torch.autograd.grad(ours(), angle, upstream, is_grads_batched=True)
    single = torch.stack([torch.autograd.grad(ours(), angle, each)[0] for each in upstream])
    torch.testing.assert_close(batched, single)
    scaled = torch.vmap(lambda scale: scale * ours())(torch.arange(3.0, device=DEVICE))
    torch.testing.assert_close(scaled[2], 2 * ours())


def test_an_upstream_gradient_without_memory_of_its_own() -> None:
    image = torch.rand(2, 1, 5, 6, device=DEVICE, requires_grad=True)
    fused.rotate(image, torch.tensor([0.4, 2.0], device=DEVICE), None, (5, 6), oracle).sum().backward()
    (expected,) = torch.autograd.grad(oracle(image.cpu(), torch.tensor([0.4, 2.0])).sum(), image)
    torch.testing.assert_close(image.grad, expected.to(DEVICE))


def test_rotate_gives_the_kernels_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [
        ((2, 2, 6, 9), torch.tensor([0.5, -2.0]), {"center": torch.tensor([[1.0, 2.0], [3.0, 7.0]])}),
        ((1, 6, 9), torch.tensor([0.5, -2.0]), {"center": (1.0, 2.5), "fill": 0.3}),
        ((6, 9), 0.7, {"expand": True}),
        ((2, 1, 6, 9), torch.tensor([[0.5, -2.0], [0.1, 3.0]]), {"fill": torch.tensor([0.3])}),
    ]
    for shape, angle, options in cases:
        image = torch.rand(shape)
        expected = rotate(image, angle, **options)  # type: ignore[arg-type]
        there = {name: on_device(each) for name, each in options.items()}
        with monkeypatch.context() as patch:
            if DEVICE == "cpu":
                patch.setattr(planar, "_fused", lambda *_: fused)
            found = rotate(image.to(DEVICE), on_device(angle), **there)  # type: ignore[arg-type]
        torch.testing.assert_close(found.cpu(), expected, atol=1e-5, rtol=0)


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
def test_the_kernels_are_chosen_where_they_fit() -> None:
    image, angle = torch.rand(2, 1, 5, 6, device=DEVICE), torch.rand(2, device=DEVICE)
    assert planar._fused(image, angle, None, "bilinear", "zeros") is fused
    assert planar._fused(image, angle, None, "bicubic", "zeros") is None
    assert planar._fused(image, angle, None, "bilinear", "border") is None
    assert planar._fused(image.double(), angle, None, "bilinear", "zeros") is None
    grad = torch.func.grad(lambda angle: rotate(image, angle).sum())(angle)
    torch.testing.assert_close(grad.cpu(), torch.func.grad(lambda a: oracle(image.cpu(), a).sum())(angle.cpu()))
    centres = 5 * torch.rand(3, 2, device=DEVICE)
    batched = torch.vmap(lambda centre: rotate(image, angle, center=centre))(centres)
    torch.testing.assert_close(batched, torch.stack([rotate(image, angle, center=each) for each in centres]))


def on_device(value: object) -> object:
    return value.to(DEVICE) if isinstance(value, Tensor) else value
