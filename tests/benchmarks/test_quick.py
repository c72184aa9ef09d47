"""Each benchmark runs with --quick, prints its tables and writes them in the one format."""

import ast
import importlib
import json
import re
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

BENCHMARKS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))
NEEDS = {"rotate": "kornia", "rotations": "geotorch", "pairs": "imreg_dft", "pairs_confidence": "skimage"}
NEEDS |= {"pairs_speed": "imreg_dft", "mirrored": "skimage", "matchers": "cv2", "shifted_pairs": "imreg_dft"}
NEEDS |= {"textures": "skimage", "export_speed": "onnxruntime", "predict_speed": "onnxruntime"}
WITH_MNIST = {"accuracy", "by_angle", "escnn_curve", "pairs", "pairs_confidence", "pairs_speed", "throughput"}
WITH_MNIST |= {"training_step", "shifted_pairs", "misread"}
WITH_CIFAR10 = {"photographs"}
TRAINED_BY = {"by_angle": "accuracy", "pairs_confidence": "pairs"}  # takes the runs that the other leaves
TOGETHER = [[other, name] for name, other in TRAINED_BY.items()]
ALONE = [[name] for name in BENCHMARKS if not any(name in names for names in TOGETHER)]
EXPENSIVE = {
    "accuracy",
    "export_speed",
    "pairs",
    "pairs_speed",
    "photographs",
}  # with --quick: ten core-seconds or more
EXPENSIVE |= {"pose", "predict_speed", "soak", "startup", "throughput"}
ALL = [
    pytest.param(names, marks=pytest.mark.slow if EXPENSIVE & {*names} else pytest.mark.ci, id="-".join(names))
    for names in TOGETHER + ALONE
]


@pytest.mark.parametrize("names", ALL)
def test_a_benchmark_writes_its_tables(names: list[str], mnist_root: Path, cifar10_root: Path, tmp_path: Path) -> None:
    for name in names:
        if name in NEEDS:
            pytest.importorskip(NEEDS[name])
        options = ["--quick", "--json", str(tmp_path / f"{name}.json")]
        options += ["--root", str(mnist_root)] if name in WITH_MNIST else []
        options += ["--root", str(cifar10_root)] if name in WITH_CIFAR10 else []
        options += ["--against", "HEAD"] if name == "startup" else []
        options += ["--folder", str(tmp_path / "runs")] if len(names) > 1 else []
        importlib.import_module(name).main(options)
        found = json.loads((tmp_path / f"{name}.json").read_text())
        assert list(found) == ["claim", "command", "date", "environment", "tables"]
        assert found["claim"].endswith(".")
        assert found["command"].startswith(f"python benchmarks/{name}.py --quick")
        assert {"torch", "threads", "cpu"} <= found["environment"].keys()
        assert found["tables"]
        for table in found["tables"]:
            assert table["title"]
            assert table["rows"]
            assert all(row.keys() == table["rows"][0].keys() for row in table["rows"])


@pytest.mark.slow
def test_throughput_compares_with_a_commit(mnist_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "against.json"
    options = ["--quick", "--against", "HEAD", "--root", str(mnist_root), "--json", str(path)]
    importlib.import_module("throughput").main(options)
    (table,) = json.loads(path.read_text())["tables"]
    assert [row["default model"] for row in table["rows"]] == [
        f"{what}, {size}" for size in ("28 x 28", "32 x 32 in colour") for what in ("training", "inference")
    ]
    assert all(value > 0 for row in table["rows"] for name, value in row.items() if name != "default model")


def test_a_commit_is_known_by_its_hash_and_needs_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(tmp_path), *arguments]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()

    git("init")
    git("commit", "--allow-empty", "-m", "no code")
    two_commits = importlib.import_module("harness.two_commits")
    monkeypatch.setattr(two_commits, "PROJECT", tmp_path)
    commit = two_commits.known_commit("HEAD")
    assert commit == git("rev-parse", "--short", "HEAD")
    with pytest.raises(SystemExit, match=rf"^error: commit {commit} cannot be compared: .*src"):
        two_commits.tree_of(commit, tmp_path / "code")


def test_the_known_accuracy_is_reported_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.accuracy_training.run_job", None)
    path, folder = tmp_path / "accuracy.json", tmp_path / "folder"
    importlib.import_module("accuracy").main(["--report-only", "--json", str(path), "--folder", str(folder)])
    tables = {table["title"]: table["rows"] for table in json.loads(path.read_text())["tables"]}
    (row,) = (row for row in tables["mnist_rot"] if row["model"] == "rot_stn, ensemble of 3")
    assert row["test error, %"] == "0.64 +- 0.01 (0.63, 0.65, 0.64)"
    assert (row["runs"], row["device"], row["date"]) == (3, "NVIDIA H200", "2026-11-26")
    assert {file.name for file in folder.iterdir()} == {"few_labels.png", "mnist_rot.png"}
    assert "| rot_stn, ensemble of 3 | 3 | 0.64 +- 0.01" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("accuracy", ["--models", "none"], "--models.*expected some of"),
        ("accuracy", ["--report-only", "--runs", "none.jsonl"], "expected the file of the results"),
        ("throughput", ["--against", "no-such-commit"], "--against: expected a commit of this repository"),
        ("startup", ["--against", "no-such-commit"], "--against: expected a commit of this repository"),
        ("conjugate", ["--samples", "20"], "expected a multiple of 250"),
        ("correlation", ["--rounds", "0"], "expected a whole number of at least 1, got 0"),
        ("escnn_curve", ["--minutes", "0"], "expected more than 0"),
        (
            "render",
            ["--json", "nowhere/render.json"],
            "expected a file in a folder that exists, got nowhere",
        ),
    ],
)
def test_bad_input_is_one_line(
    name: str, options: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match="2"):
        importlib.import_module(name).main(options)
    assert re.search(message, capsys.readouterr().err.splitlines()[-1])


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_list_of_benchmarks_has_the_claim_and_the_command(name: str) -> None:
    text = ast.get_docstring(ast.parse((ROOT / "benchmarks" / f"{name}.py").read_text()))
    assert text is not None
    claim, usage = text.split("\n\n")[:2]
    assert f"| {claim} | `python benchmarks/{name}.py" in (ROOT / "benchmarks" / "README.md").read_text()
    assert f"python benchmarks/{name}.py" in usage
