"""The commands as a user types them, and what they are compared with in this process."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ENVIRONMENT, ROOT, SMALL, command, composed, epochs, made_once, rows
from omegaconf import OmegaConf

from evaluate import evaluate

Job = Callable[..., tuple[float, Path]]
Ends = Callable[..., object]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small finished run below outputs/, made by the command."""

    def train(work: Path) -> None:
        done = command("train.py", *SMALL, "trainer.max_epochs=2", "trainer.precision=auto", cwd=work)
        assert done.returncode == 0, done.stderr

    folder = made_once(tmp_path_factory, "finished", train)
    (run,) = (folder / "outputs" / "train").glob("*/*")
    return run


def metrics(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


def of_the_test(folder: Path) -> dict[str, float]:
    return {name: value for name, value in metrics(folder).items() if name.startswith("test/")}


def evaluated(ckpt: str, folder: Path, *overrides: str) -> Path:
    """Evaluate in this process; return the folder of the results."""
    folder.mkdir()
    evaluate(composed("evaluate", f"ckpt='{ckpt}'", f"output_dir={folder}", "trainer.accelerator=cpu", *overrides))
    return folder


def test_evaluate_repeats_the_numbers_of_training(finished: Path) -> None:
    work = finished.parents[3]
    done = command(
        "evaluate.py", "ckpt=latest", "trainer.accelerator=cpu", "callbacks.alignment_figures.samples=10", cwd=work
    )
    assert done.returncode == 0, done.stderr
    (again,) = (work / "outputs" / "evaluate").glob("*/*")
    assert metrics(again) == of_the_test(finished)
    assert (again / "predictions.csv").read_text() == (finished / "predictions.csv").read_text()
    assert (again / "pictures" / "test" / "alignment.png").read_bytes() == (
        finished / "pictures" / "test" / "alignment.png"
    ).read_bytes()
    assert "test/accuracy" in done.stdout


def test_evaluate_on_other_data_and_changed_data(finished: Path, tmp_path: Path) -> None:
    ckpt = str(finished / "checkpoints" / "best.ckpt")
    other = evaluated(ckpt, tmp_path / "other", "data=rotated_digits", "data.max_angle_deg=10")
    changed = evaluated(ckpt, tmp_path / "changed", "+data.max_angle_deg=10")
    assert metrics(other) == metrics(changed)
    assert metrics(other) != of_the_test(finished)


def test_a_killed_run_resumes_as_if_nothing_had_been(job: Job, tmp_path: Path) -> None:
    """kill -9 after the second epoch; the continued run ends with the numbers of the whole one. Pictures of each epoch,
    which tell when to kill, are drawn in the killed run alone."""
    options = ["trainer.max_epochs=4", "data.n_train=200"]
    _, whole = job(*options, "callbacks.alignment_figures=null", folder=tmp_path / "whole")
    arguments = [sys.executable, str(ROOT / "train.py"), *SMALL, *options, f"hydra.run.dir={tmp_path / 'cut'}"]
    process = subprocess.Popen(
        arguments, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "cut" / "pictures" / "epoch_001").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    assert last.is_file()
    assert not (tmp_path / "cut" / "metrics.json").exists()
    _, resumed = job(*options, "callbacks.alignment_figures=null", f"ckpt_path={last}", folder=tmp_path / "on")
    assert metrics(resumed) == metrics(whole)
    assert epochs(resumed) < epochs(whole) == {0, 1, 2, 3}


def test_sigterm_says_so(tmp_path: Path) -> None:
    arguments = [
        sys.executable,
        str(ROOT / "train.py"),
        *SMALL,
        "trainer.max_epochs=500",
        "hydra.run.dir=run",
    ]
    process = subprocess.Popen(
        arguments, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_two_processes_end_with_the_metrics_of_one(job: Job, tmp_path: Path) -> None:
    """Without what each process draws for itself (dropout), and in 64 bits: training makes much of rounding. The polar
    encoder has no max pooling, which would too: a tie goes one way or the other."""
    options = [
        "data=image_pairs",
        "task=register",
        "model.encoder.dropout=0",
        "trainer.precision=64-true",
        "data.n_train=200",
        "data.repeats=1",
        "trainer.max_epochs=2",
        "data.batch_size=50",
    ]
    job(*options, "callbacks.alignment_figures=null", folder=tmp_path / "one")
    two = command("train.py", *SMALL, *options, "trainer=ddp", "hydra.run.dir=two", cwd=tmp_path)
    assert two.returncode == 0, two.stderr
    expected, found = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-3, abs=2e-3), name
    tables = [(tmp_path / run / "predictions.csv").read_text().splitlines() for run in ("one", "two")]
    assert len(tables[0]) == len(tables[1]) == 501
    assert [row.split(",")[:2] for row in tables[0]] == [row.split(",")[:2] for row in tables[1]]


def test_multirun_ends_with_a_table(ends: Ends, tmp_path: Path) -> None:
    done = command("train.py", "-m", *SMALL, "model=cnn,rot_stn", "seed=1,2", cwd=tmp_path, timeout=400)
    assert done.returncode == 0, done.stderr
    jobs_table, seeds_table = done.stdout[done.stdout.rindex("\njob") :].split("mean ± standard deviation")
    (sweep,) = (tmp_path / "outputs" / "train").glob("*/*-multirun")
    for number, job in enumerate(("cnn 1", "cnn 2", "rot_stn 1", "rot_stn 2")):
        (line,) = (line for line in jobs_table.splitlines() if line.split()[:3] == [str(number), *job.split()])
        assert f"{metrics(sweep / str(number))['test/accuracy']:.4f}" in line
    jobs = rows(sweep / "jobs.csv")
    assert [(row["job"], row["model"], row["seed"]) for row in jobs] == [
        ("0", "cnn", "1"), ("1", "cnn", "2"), ("2", "rot_stn", "1"), ("3", "rot_stn", "2")]  # fmt: skip
    for name in ("val/nll", "test/nll"):
        assert [float(row[name]) for row in jobs] == [metrics(sweep / str(k))[name] for k in range(4)]
    for model, pair in (("cnn", jobs[:2]), ("rot_stn", jobs[2:])):
        (line,) = (line for line in seeds_table.splitlines() if line.split()[:2] == ["2", model])
        values = [float(row["test/nll"]) for row in pair]
        assert f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}" in line

    best = "checkpoints/best.ckpt"
    both = evaluated(f"{sweep}/[23]/{best}", tmp_path / "both")
    losses = [metrics(folder)["test/nll"] for folder in (both, sweep / "2", sweep / "3")]
    assert losses[0] <= (losses[1] + losses[2]) / 2, "the logarithm is concave"
    for pattern, words in (
        (f"*/{best}", r"error: the runs differ in model\._target_: .*CNN.*RotSTN"),
        ("2/checkpoints/*.ckpt", r"error: .*last\.ckpt has the seed 1 of a run before it"),
        ("*/none.ckpt", "matches no file"),
    ):
        said = ends("evaluate.py", f"ckpt={sweep}/{pattern}", f"hydra.run.dir={tmp_path / 'refused'}")
        assert re.search(words, str(said))


@pytest.mark.slow
def test_a_multirun_goes_on_after_a_bad_job(tmp_path: Path) -> None:
    """Found in the data, in a process of joblib."""
    key = "data.n_train=5000,100"
    options = [*SMALL, "debug=one_batch", key, "model=cnn", "hydra/launcher=joblib"]
    done = command("train.py", "-m", *options, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: 1 of 2 jobs did not finish")
    assert "Traceback" not in done.stderr
    assert "job 0 did not finish" in done.stdout.splitlines()
    (sweep,) = (tmp_path / "outputs" / "train").glob("*/*-multirun")
    assert metrics(sweep / "1")


def test_a_multirun_goes_on_after_what_hydra_cannot_build(
    ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    said = ends("train.py", "-m", *SMALL, "debug=one_batch", "model=cnn", "model.classifier.width=0,8")
    assert str(said).startswith("error: 1 of 2 jobs did not finish")
    printed = "".join(capfd.readouterr())
    assert "Traceback" not in printed
    assert "did not finish" in printed
    (sweep,) = (tmp_path / "outputs" / "train").glob("*/*-multirun")
    assert metrics(sweep / "1")


def test_multirun_over_several_processes_is_refused(
    ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = ends("train.py", "-m", *SMALL, "seed=1,2", "trainer=ddp")
    assert "asks for 2 processes" in str(said).splitlines()[-1]
    assert not list(tmp_path.rglob("*.ckpt"))


def test_tensorboard_serves_images_scalars_and_hparams(finished: Path) -> None:
    """Over HTTP, from a real server on a free port of this machine."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", str(finished), "--port", "0", "--host", "127.0.0.1",
         "--samples_per_plugin", "images=1000", "--load_fast", "false"],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert server.stderr is not None
        address = next(m[0] for line in server.stderr if (m := re.search(r"http://127\.0\.0\.1:\d+/", line)))

        def get(path: str, **query: str) -> bytes:
            url = f"{address}data/{path}?{urllib.parse.urlencode(query)}"
            return urllib.request.urlopen(url, timeout=30).read()

        deadline = time.monotonic() + 60
        while not json.loads(get("plugin/images/tags")) and time.monotonic() < deadline:
            time.sleep(0.5)
        tags = json.loads(get("plugin/images/tags"))
        (run,) = (name for name, found in tags.items() if "val/alignment" in found)
        assert {"val/confusion", "val/angle_error", "val/angle_polar", "val/accuracy_by_angle",
                "val/angle_posterior", "test/alignment"} <= tags[run].keys()  # fmt: skip
        shown = json.loads(get("plugin/images/images", tag="val/alignment", run=run, sample="0"))
        assert len(shown) == 2  # one an epoch
        picture = get("plugin/images/individualImage", **dict(urllib.parse.parse_qsl(shown[0]["query"])))
        assert picture.startswith(b"\x89PNG")
        scalars = json.loads(get("plugin/scalars/tags"))[run]
        assert {
            "train/loss",
            "val/accuracy",
            "val/angle_median_deg",
            "val/angle_p95_deg",
            "val/angle_within_5deg",
        } <= scalars.keys()
        accuracy = json.loads(get("plugin/scalars/scalars", tag="val/accuracy", run=run))
        assert len(accuracy) == 2
        text = json.loads(get("plugin/text/text", tag="config/text_summary", run=run))
        assert "stnrot.models.rot_stn.RotSTN" in text[0]["text"]
        assert "val/angle_error_deg" in json.loads(get("plugin/histograms/tags"))[run]
        request = urllib.request.Request(
            f"{address}data/plugin/hparams/experiment", data=b'{"experimentName": ""}',
            headers={"Content-Type": "application/json"})  # fmt: skip
        experiment = json.loads(urllib.request.urlopen(request, timeout=30).read())
        assert {"model.hypotheses", "task.optimizer.lr", "model", "seed"} <= {
            h["name"] for h in experiment["hparamInfos"]
        }
        assert "test/accuracy" in {m["name"]["tag"] for m in experiment["metricInfos"]}
    finally:
        server.terminate()
        server.wait()


def test_the_saved_configuration_is_resolved(finished: Path) -> None:
    config = OmegaConf.load(finished / "config.yaml")
    assert config["data_spec"]["classes"] == 10
    assert config["data"]["n_train"] == 100
