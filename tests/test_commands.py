"""The commands as a user types them, each in a process of its own."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from conftest import ENVIRONMENT, ROOT, SMALL, command, rows
from omegaconf import OmegaConf


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small finished run below outputs/, made by the command."""
    folder = tmp_path_factory.mktemp("work")
    done = command("train.py", *SMALL, "trainer.max_epochs=2", "trainer.precision=auto", cwd=folder)
    assert done.returncode == 0, done.stderr
    (run,) = (folder / "outputs" / "train").glob("*/*")
    return run


def metrics(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


def test_evaluate_repeats_the_numbers_of_training(finished: Path) -> None:
    work = finished.parents[3]
    done = command("evaluate.py", "ckpt=latest", "trainer.accelerator=cpu", "callbacks.watch.samples=10", cwd=work)
    assert done.returncode == 0, done.stderr
    (again,) = (work / "outputs" / "evaluate").glob("*/*")
    assert metrics(again) == metrics(finished)
    assert (again / "predictions.csv").read_text() == (finished / "predictions.csv").read_text()
    assert (again / "pictures" / "test" / "alignment.png").read_bytes() == (
        finished / "pictures" / "test" / "alignment.png"
    ).read_bytes()
    assert "test/accuracy" in done.stdout


def test_evaluate_on_other_data_and_changed_data(finished: Path, tmp_path: Path) -> None:
    ckpt = finished / "checkpoints" / "best.ckpt"
    other = command("evaluate.py", f"ckpt={ckpt}", "data=rotated_digits", "data.max_angle_deg=10", cwd=tmp_path)
    assert other.returncode == 0, other.stderr
    changed = command("evaluate.py", f"ckpt={ckpt}", "+data.max_angle_deg=10", "hydra.run.dir=changed", cwd=tmp_path)
    assert changed.returncode == 0, changed.stderr
    (first,) = (tmp_path / "outputs" / "evaluate").glob("*/*")
    assert metrics(first) == metrics(tmp_path / "changed")
    assert metrics(first) != metrics(finished)


def test_a_killed_run_resumes_as_if_nothing_had_been(tmp_path: Path) -> None:
    """kill -9 after the second epoch; the continued run ends with the numbers of the whole one."""
    options = [*SMALL, "trainer.max_epochs=5", "data.n_train=200"]
    whole = command("train.py", *options, f"hydra.run.dir={tmp_path / 'whole'}", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    arguments = [sys.executable, str(ROOT / "train.py"), *options, f"hydra.run.dir={tmp_path / 'cut'}"]
    process = subprocess.Popen(
        arguments, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "cut" / "pictures" / "epoch_002").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    assert last.is_file()
    assert not (tmp_path / "cut" / "metrics.json").exists()
    resumed = command("train.py", *options, f"ckpt_path={last}", f"hydra.run.dir={tmp_path / 'on'}", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert metrics(tmp_path / "on") == metrics(tmp_path / "whole")


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


def test_two_processes_end_with_the_metrics_of_one(tmp_path: Path) -> None:
    """Without what each process draws for itself (dropout), and in 64 bits: training makes much of rounding. The polar
    encoder has no max pooling, which would too: a tie goes one way or the other."""
    options = [*SMALL, "data=image_pairs", "task=register"]
    options += [
        "model.encoder.dropout=0",
        "trainer.precision=64-true",
        "data.n_train=200",
        "data.repeats=1",
        "trainer.max_epochs=2",
        "data.batch_size=50",
        "trainer=ddp",
    ]
    one = command("train.py", *options, "trainer.devices=1", "hydra.run.dir=one", cwd=tmp_path)
    two = command("train.py", *options, "trainer.devices=2", "hydra.run.dir=two", cwd=tmp_path)
    assert one.returncode == 0, one.stderr
    assert two.returncode == 0, two.stderr
    expected, found = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-3, abs=2e-3), name
    tables = [(tmp_path / run / "predictions.csv").read_text().splitlines() for run in ("one", "two")]
    assert len(tables[0]) == len(tables[1]) == 501
    assert [row.split(",")[:2] for row in tables[0]] == [row.split(",")[:2] for row in tables[1]]


def test_multirun_ends_with_a_table(tmp_path: Path) -> None:
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
    assert [float(row["test/nll"]) for row in jobs] == [metrics(sweep / str(k))["test/nll"] for k in range(4)]
    for model, pair in (("cnn", jobs[:2]), ("rot_stn", jobs[2:])):
        (line,) = (line for line in seeds_table.splitlines() if line.split()[:2] == ["2", model])
        values = [float(row["test/nll"]) for row in pair]
        assert f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}" in line

    best = "checkpoints/best.ckpt"
    both = command("evaluate.py", f"ckpt='{sweep}/[23]/{best}'", "hydra.run.dir=both", cwd=tmp_path)
    assert both.returncode == 0, both.stderr
    losses = [metrics(folder)["test/nll"] for folder in (tmp_path / "both", sweep / "2", sweep / "3")]
    assert losses[0] <= (losses[1] + losses[2]) / 2, "the logarithm is concave"
    mixed = command("evaluate.py", f"ckpt={sweep}/*/{best}", "hydra.run.dir=mixed", cwd=tmp_path)
    assert re.search(r"error: the runs differ in model\._target_: .*CNN.*RotSTN", mixed.stderr)
    twice = command("evaluate.py", f"ckpt={sweep}/2/checkpoints/*.ckpt", "hydra.run.dir=twice", cwd=tmp_path)
    assert re.search(r"error: .*last\.ckpt has the seed 1 of a run before it", twice.stderr)
    none = command("evaluate.py", f"ckpt={sweep}/*/none.ckpt", "hydra.run.dir=none", cwd=tmp_path)
    assert "matches no file" in none.stderr


@pytest.mark.parametrize(
    ("key", "launcher"), [("data.n_train=5000,100", "joblib"), ("model.classifier.width=0,8", "basic")]
)
def test_a_multirun_goes_on_after_a_bad_job(key: str, launcher: str, tmp_path: Path) -> None:
    """Found in the data, and in what Hydra builds; in processes of joblib, and in this one."""
    options = [*SMALL, "debug=one_batch", key, "model=cnn", f"hydra/launcher={launcher}"]
    done = command("train.py", "-m", *options, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: 1 of 2 jobs did not finish")
    assert "Traceback" not in done.stderr
    assert "job 0 did not finish" in done.stdout.splitlines()
    (sweep,) = (tmp_path / "outputs" / "train").glob("*/*-multirun")
    assert metrics(sweep / "1")


def test_multirun_over_several_processes_is_refused(tmp_path: Path) -> None:
    done = command("train.py", "-m", *SMALL, "seed=1,2", "trainer=ddp", cwd=tmp_path)
    assert done.returncode != 0
    assert "asks for 2 processes" in done.stderr.splitlines()[-1]


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
    assert config["images"]["classes"] == 10
    assert config["data"]["n_train"] == 100
