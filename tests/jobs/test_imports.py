"""Each entry point imports what it uses: the modules of whole processes."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ENVIRONMENT, NO_FIGURES, ROOT, SMALL

from stnrot.runs.postponed_imports import postpone

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

import pickle
import lightning, torch, torchmetrics
from lightning.pytorch.utilities.compile import OptimizedModule, to_uncompiled
from torchmetrics.classification import MulticlassAccuracy

assert torchmetrics.utilities.data is sys.modules["torchmetrics.utilities.data"]
assert torchmetrics.F1Score is torchmetrics.classification.F1Score
assert issubclass(MulticlassAccuracy, torchmetrics.Metric)
assert type(pickle.loads(pickle.dumps(torchmetrics.F1Score("binary")))) is torchmetrics.classification.BinaryF1Score
assert "SignalNoiseRatio" in dir(torchmetrics)

class Line(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)

    def forward(self, x):
        return self.linear(x)

line = Line()
optimizer = torch.optim.AdamW(line.parameters())
torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
parallel = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 1))
parallel(torch.ones(3, 2)).sum().backward()
assert not sys.modules["torch._dynamo"].is_compiling()
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
exported = torch.export.export(torch.nn.Linear(2, 1), (torch.ones(3, 2),))
assert exported.module()(torch.ones(3, 2)).shape == (3, 1)
"""

THREADS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from stnrot.runs.postponed_imports import postpone

postpone("package", lambda package: setattr(package, "early", 1))
import package
assert package.early == 1 and "imported" not in vars(package)
together = Barrier(8)

def read(k):
    together.wait()
    if k % 2:
        return package.late
    from package import part
    return part.late if k % 4 else __import__("package.part").part.late

with ThreadPoolExecutor(8) as pool:
    assert set(pool.map(read, range(8))) == {3}
assert package.part is sys.modules["package.part"] and type(package) is type(sys)
try:
    package.missing
except AttributeError as error:
    assert "missing" in str(error)
"""


def run(code: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, env=ENVIRONMENT)


def test_help_and_errors_in_the_options_import_neither_torch_nor_lightning() -> None:
    done = run(WITHOUT_A_JOB)
    assert done.returncode == 0, done.stderr
    unknown, *_ = (line for line in done.stderr.splitlines() if "model/unknown" in line)
    assert unknown.startswith("error: ")
    assert "error: unknown key data.batchsize; --help lists the choices" in done.stderr


@pytest.mark.ci
def test_a_job_imports_what_it_uses_and_the_rest_on_demand(tmp_path: Path) -> None:
    line = [str(ROOT / "train.py"), *SMALL, "debug=one_batch", NO_FIGURES, "callbacks.progress=null"]
    done = run(A_JOB.format(line=json.dumps(line)), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "imported: []" in done.stdout.splitlines()
    assert "GPU available" not in done.stdout + done.stderr, "notices of Lightning"


def write_package(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").write_text(text)
    (folder / "package" / "part.py").write_text("import time\ntime.sleep(0.05)\nlate = 3\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])


def test_threads_that_use_a_postponed_package_wait_for_its_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(tmp_path, monkeypatch, "imported = 1\nfrom package.part import late\nfrom package import part\n")
    done = run(THREADS, tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_package_that_the_stand_in_does_not_know_is_imported_as_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stand_in(package: ModuleType) -> None:
        importlib.import_module("package.part")
        raise AttributeError("another release")

    write_package(tmp_path, monkeypatch, "imported = 1")
    postpone("package", stand_in)
    assert not {"package", "package.part"} & set(sys.modules)
    assert importlib.import_module("package").imported == 1
    del sys.modules["package"]


def test_an_error_of_a_postponed_package_is_raised_where_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(tmp_path, monkeypatch, "raise ImportError('a library is missing')")
    postpone("package", lambda package: None)
    package = importlib.import_module("package")
    for _ in range(2):
        with pytest.raises(ImportError, match="a library is missing"):
            _ = package.late
    del sys.modules["package"]
