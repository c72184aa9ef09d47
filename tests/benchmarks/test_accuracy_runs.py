"""The results that benchmarks/accuracy.py keeps of its runs, the rows that summarise them, and the order of runs."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from harness import accuracy_training
from harness.accuracy_runs import Runs, summary
from harness.accuracy_tables import STARTED, all_options

ERRORS = {"0": (0.5, -179.0, 150.5, -149.5), "1": (90.0, 20.0)}  # degrees, by class: two of six are half turns


def finished(folder: Path, accuracy: float) -> Path:
    folder.mkdir(parents=True)
    metrics = {"test/accuracy": accuracy, "test/angle_mean_deg": 4.0, "test/angle_median_deg": 1.0}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    rows = [f"{name},{error}" for name, errors in ERRORS.items() for error in errors]
    (folder / "predictions.csv").write_text("\n".join(["class,angle_error_deg", *rows]) + "\n")
    return folder


def test_the_next_process_reads_the_result_of_a_run(tmp_path: Path) -> None:
    path, options = tmp_path / "runs.jsonl", {("mnist_rot", "rot_stn"): ["model.hypotheses=2"]}
    Runs(path, options).add(("mnist_rot", "rot_stn", 2), finished(tmp_path / "run", 0.9), 12.34)
    Runs(path, options).add(("mnist_rot", "rot_stn", 1), finished(tmp_path / "another", 0.8), 1.0)
    again = Runs(path, options)
    first, second = again.of("mnist_rot", "rot_stn", [1, 2, 3])
    assert (first["seed"], second["seed"], second["core_minutes"]) == (1, 2, 12.3)
    assert second["half_turns"] == pytest.approx({"0": 50.0, "1": 0.0, "all": 100 / 3})
    assert again.of("mnist_rot", "cnn", [1, 2, 3]) == []
    assert not Runs(path, {("mnist_rot", "rot_stn"): ["model.hypotheses=3"]}).results
    for wrong in (path.read_text().splitlines()[1][:-40], '{"table": "mnist_rot"}', "3"):
        path.write_text(path.read_text().splitlines()[0] + "\n" + wrong)
        with pytest.raises(SystemExit, match="line 2: expected the result of a run"):
            Runs(path, options)
    with pytest.raises(SystemExit, match="expected a file in a folder that exists"):
        Runs(tmp_path / "nowhere" / "runs.jsonl", options)


def test_a_row_is_the_mean_and_the_deviation_over_the_seeds(tmp_path: Path) -> None:
    runs, accuracies = Runs(tmp_path / "runs.jsonl", {("t", "m"): []}), [0.9912, 0.9934, 0.9925]
    for seed, accuracy in enumerate(accuracies):
        runs.add(("t", "m", seed), finished(tmp_path / str(seed), accuracy), 2.0)
    row = summary(runs.of("t", "m", [0, 1, 2]))
    errors = 100 - 100 * np.array(accuracies)
    assert row["test error, %"] == f"{errors.mean():.2f} +- {errors.std(ddof=1):.2f} (0.88, 0.66, 0.75)"
    assert row["angle error: mean; median (degrees)"].startswith("4.0 +- 0.0")
    assert row["half-turns, %"].startswith("33.3 +- 0.0")


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_run_starts_from_the_short_run_with_the_lowest_nll(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    """In place of train.py a function records how it was called, and writes a val/nll that is lowest for start 3."""
    called: list[list[str]] = []

    def train_py(script: str, folder: Path, overrides: list[str], threads: int) -> float:
        called.append(overrides)
        finished(folder, 0.9)
        metrics = json.loads((folder / "metrics.json").read_text())
        nll = abs(int(folder.name) % 10 - 3) + 0.5
        (folder / "metrics.json").write_text(json.dumps(metrics | {"val/nll": nll}))
        return 2.0

    runs = Runs(tmp_path / "runs.jsonl", all_options())
    training = accuracy_training.Training(tmp_path / "runs", Path("data"), runs, jobs, threads=1)
    monkeypatch.setattr(accuracy_training, "run_job", train_py)
    training.run_all({"mnist_rot": {STARTED: [1, 2]}})
    for seed in (1, 2):
        (line,) = runs.of("mnist_rot", STARTED, [seed])
        assert (line["core_minutes"], line["nll_of_starts"]) == (10.0, [2.5, 1.5, 0.5, 1.5])
        (begun,) = [command for command in called if f"seed={seed}" in command]
        (start,) = [option for option in begun if option.startswith("start_from=")]
        assert start.endswith(f"start/{seed}3/checkpoints/best.ckpt'")
        assert line["epochs_of_start"] == 1
    assert len(called) == 2 * 5
    seeds = [int(option.removeprefix("seed=")) for command in called for option in command if option[:5] == "seed="]
    if jobs == 1:  # starts come right before their run, so that an interrupted benchmark loses few
        assert seeds == [11, 12, 13, 14, 1, 21, 22, 23, 24, 2]
    for seed, command in zip(seeds, called, strict=True):
        short = {"trainer.max_epochs=1", "monitor.metric=val/nll", "monitor.mode=min"}
        assert short.issubset(command) == (seed > 10)

    def fails(script: str, folder: Path, overrides: list[str], threads: int) -> float:
        called.append(overrides)
        time.sleep(0.3 if len(called) > 1 else 0)  # until the first has failed
        raise SystemExit("failed")

    monkeypatch.setattr(accuracy_training, "run_job", fails)
    called.clear()
    with pytest.raises(SystemExit, match="failed"):
        training.run_all({"mnist_rot": {STARTED: [3, 4]}})
    assert len(called) <= 2 * jobs, "of eight"
