"""Each entry point imports what it uses: the modules of whole processes."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, NO_FIGURES, ROOT, SMALL

from stnrot.runs.postponed_imports import import_lightning

JOB_ONLY = ("torch", "numpy", "lightning", "torchmetrics", "tensorboard", "matplotlib", "PIL", "optuna", "sklearn")

WITHOUT_A_JOB = f"""
import contextlib, io, os, runpy, sys

os.environ |= {{'COMP_LINE': 'train.py model=', 'COMP_POINT': '15'}}

for line in (
    "train.py --help",
    "train.py --hydra-help",
    "train.py --cfg job",
    "train.py --info defaults",
    "train.py -sc query=bash",
    "train.py model=unknown",
    "train.py data.batchsize=3",
    "train.py model=[",
    "evaluate.py --help",
    "evaluate.py --cfg job",
    "evaluate.py trainer=unknown",
):
    sys.argv = line.split()
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as stopped:
            print(stopped.code, file=sys.stderr)
    found = sorted(set({JOB_ONLY}) & set(sys.modules))
    assert not found, (line, found)
"""

A_JOB = """
import runpy, sys

sys.argv = {line}
runpy.run_path(sys.argv[0], run_name="__main__")
names = ("optuna", "pandas", "scipy", "sklearn", "sympy", "torch._inductor", "torchvision", "trimesh")
print("imported:", [name for name in names if name in sys.modules])

import lightning, torch, torchmetrics
from lightning.pytorch.utilities.compile import OptimizedModule, to_uncompiled
from torchmetrics.classification import MulticlassAccuracy

assert torchmetrics.utilities.data is sys.modules["torchmetrics.utilities.data"]
assert torchmetrics.F1Score is torchmetrics.classification.F1Score
assert issubclass(MulticlassAccuracy, torchmetrics.Metric)
assert "SignalNoiseRatio" in dir(torchmetrics)

class Line(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)

    def forward(self, x):
        return self.linear(x)

line = Line()
optimizer = torch.optim.AdamW(line.parameters())
import torch._dynamo.utils
assert torch._dynamo.utils is sys.modules["torch._dynamo.utils"]
assert torch._dynamo.utils.__spec__.origin == torch._dynamo.utils.__file__
compiled = torch.compile(line, backend="eager")
assert isinstance(compiled, OptimizedModule) and not isinstance(line, OptimizedModule)
assert to_uncompiled(compiled) is line
before = line.linear.weight.clone()
compiled(torch.ones(3, 2)).sum().backward()
torch.compile(optimizer.step, backend="eager")()
assert not line.linear.weight.equal(before)
"""


def run(code: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, env=ENVIRONMENT)


def test_help_and_errors_in_the_options_import_neither_torch_nor_lightning() -> None:
    done = run(WITHOUT_A_JOB)
    assert done.returncode == 0, done.stderr
    unknown, *_ = (line for line in done.stderr.splitlines() if "model/unknown" in line)
    assert unknown.startswith("error: ")
    assert "error: unknown key data.batchsize; --help lists the choices" in done.stderr


def test_a_job_imports_what_it_uses_and_the_rest_on_demand(tmp_path: Path) -> None:
    line = [str(ROOT / "train.py"), *SMALL, "debug=one_batch", NO_FIGURES, "callbacks.progress=null"]
    done = run(A_JOB.format(line=json.dumps(line)), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "imported: []" in done.stdout.splitlines()
    assert "GPU available" not in done.stdout + done.stderr, "notices of Lightning"


def test_an_unknown_release_of_torchmetrics_is_imported_as_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_lightning()
    package = tmp_path / "torchmetrics"
    package.mkdir()
    for name, text in (("__init__", "other = 1"), ("utilities", ""), ("metric", "from torchmetrics import other")):
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchmetrics"]:
        monkeypatch.delitem(sys.modules, name)
    import_lightning()
    assert "torchmetrics" not in sys.modules
    assert importlib.import_module("torchmetrics.metric").other == 1
