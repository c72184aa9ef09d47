"""The fused kernels give torch's results in Triton's interpreter, and Triton's compiler translates them for GPUs."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from stnrot import rotate
from stnrot.geometry import planar

CASES = Path(__file__).with_name("fused_rotation_cases.py")
fused = pytest.importorskip("stnrot.geometry.fused_rotation", reason="needs Triton", exc_type=ImportError)


@pytest.mark.slow
def test_the_interpreter_gives_torchs_results() -> None:
    """In another process, because Triton reads the variable when it is imported."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", str(CASES)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_gpu_that_triton_does_not_support_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(*_: object) -> None:
        raise RuntimeError("Failed to find C compiler.\nTrace")

    monkeypatch.setattr(fused, "_rotated", launch)
    with pytest.warns(UserWarning, match="slower way on meta, because Triton fails there: Failed to find C compiler.$"):
        assert not fused.works.__wrapped__(torch.device("meta"))


def test_without_a_gpu_nothing_is_fused_and_triton_is_not_imported() -> None:
    image, angle = torch.rand(2, 1, 5, 6), torch.rand(2)
    assert planar._fused(image, angle, None, "bilinear", "zeros") is None
    code = "import sys, torch, stnrot; stnrot.rotate(torch.rand(4, 5), 0.3); assert 'triton' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.ci
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("number", ["fp16", "fp32"])
def test_the_compiler_translates_the_kernels(capability: int, number: str) -> None:
    """To machine code, also without a GPU. No register is spilled to memory; the cosine needs 32 bytes there."""
    from triton import compile as compiled
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    tensors = dict.fromkeys(("image", "rotated", "upstream", "gradient"), f"*{number}")
    tensors |= dict.fromkeys(("angle", "shift", "parts"), "*fp32")
    whole = dict.fromkeys(fused.SIZES + fused.STRIDES, "i32")
    constants = {"ROWS": fused.ROWS, "COLUMNS": fused.COLUMNS, "AT_ONCE": fused.MOST_CHANNELS}
    for kernel in (fused._forward_kernel, fused._sums_kernel, fused._in_image_kernel):
        names = kernel.arg_names
        types = {name: "constexpr" if name in constants else (tensors | whole)[name] for name in names}
        values = {(names.index(name),): value for name, value in constants.items() if name in names}
        source = ASTSource(fn=kernel, signature=types, constexprs=values)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = compiled(source, GPUTarget("cuda", capability, 32), {"num_warps": 4, "enable_fp_fusion": False})
        assert made.asm["cubin"]


def test_the_shift_is_exact_under_autocast() -> None:
    image = torch.rand(1, 1, 40, 60)
    expected = rotate(image, 0.3, center=(3, 50))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(rotate(image, 0.3, center=(3, 50)), expected)
