"""train.py -m: a table of the jobs, an ensemble of them, and jobs that fail."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import NO_FIGURES, SMALL, command, evaluated, metrics_of, rows

Ends = Callable[..., object]


@pytest.mark.ci
def test_multirun_ends_with_a_table(ends: Ends, tmp_path: Path) -> None:
    done = command("train.py", "-m", *SMALL, NO_FIGURES, "model=cnn,rot_stn", "seed=1,2", cwd=tmp_path, timeout=400)
    assert done.returncode == 0, done.stderr
    jobs_table, seeds_table = done.stdout[done.stdout.rindex("\njob") :].split("mean ± standard deviation")
    (sweep,) = (tmp_path / "outputs" / "train").glob("*/*-multirun")
    for number, job in enumerate(("cnn 1", "cnn 2", "rot_stn 1", "rot_stn 2")):
        (line,) = (line for line in jobs_table.splitlines() if line.split()[:3] == [str(number), *job.split()])
        assert f"{metrics_of(sweep / str(number))['test/accuracy']:.4f}" in line
    jobs = rows(sweep / "jobs.csv")
    assert [(row["job"], row["model"], row["seed"]) for row in jobs] == [
        ("0", "cnn", "1"), ("1", "cnn", "2"), ("2", "rot_stn", "1"), ("3", "rot_stn", "2")]  # fmt: skip
    for name in ("val/nll", "test/nll"):
        assert [float(row[name]) for row in jobs] == [metrics_of(sweep / str(k))[name] for k in range(4)]
    for model, pair in (("cnn", jobs[:2]), ("rot_stn", jobs[2:])):
        (line,) = (line for line in seeds_table.splitlines() if line.split()[:2] == ["2", model])
        values = [float(row["test/nll"]) for row in pair]
        assert f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}" in line

    best = "checkpoints/best.ckpt"
    both = evaluated(f"{sweep}/[23]/{best}", tmp_path / "both")
    losses = [metrics_of(folder)["test/nll"] for folder in (both, sweep / "2", sweep / "3")]
    assert losses[0] <= (losses[1] + losses[2]) / 2, "the logarithm is concave"
    for pattern, words in (
        (f"*/{best}", r"error: the runs differ in model\._target_: .*CNN.*RotSTN"),
        ("2/checkpoints/*.ckpt", r"error: .*last\.ckpt has the seed 1 of a run before it"),
        ("*/none.ckpt", "matches no file"),
    ):
        said = ends("evaluate.py", f"ckpt={sweep}/{pattern}", f"hydra.run.dir={tmp_path / 'refused'}")
        assert re.search(words, str(said))


@pytest.mark.slow
def test_the_other_jobs_run_after_one_has_failed(tmp_path: Path) -> None:
    """The data refuses the option, in a process of joblib."""
    key = "data.n_train=5000,100"
    options = [*SMALL, "debug=one_batch", key, "model=cnn", "hydra/launcher=joblib"]
    done = command("train.py", "-m", *options, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: 1 of 2 jobs did not finish")
    assert "Traceback" not in done.stderr
    assert "job 0 did not finish" in done.stdout.splitlines()
    (sweep,) = (tmp_path / "outputs" / "train").glob("*/*-multirun")
    assert metrics_of(sweep / "1")


def test_the_other_jobs_run_after_one_that_hydra_cannot_build(
    ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    said = ends("train.py", "-m", *SMALL, "debug=one_batch", "model=cnn", "model.classifier.width=0,8")
    assert str(said).startswith("error: 1 of 2 jobs did not finish")
    printed = "".join(capfd.readouterr())
    assert "Traceback" not in printed
    assert "did not finish" in printed
    (sweep,) = (tmp_path / "outputs" / "train").glob("*/*-multirun")
    assert metrics_of(sweep / "1")


def test_multirun_over_several_processes_is_refused(
    ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = ends("train.py", "-m", *SMALL, "seed=1,2", "trainer=ddp")
    assert "asks for 2 processes" in str(said).splitlines()[-1]
    assert not list(tmp_path.rglob("*.ckpt"))
