"""Every command that is printed can be pasted into a shell, whatever the names of the folders."""

import json
import logging
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import optuna
import pytest
from conftest import ENVIRONMENT, LOOPBACK, NO_FIGURES, SMALL, composed, listening

from stnrot.errors import InputError
from stnrot.runs.config_checks import check_folder
from stnrot.runs.overrides import as_override
from stnrot.search.report import report
from stnrot.search.study import SearchSpec, join_study

NAME = "Läufe, 'neu' $HOME [a]=1 \"x\""


def argv(line: str) -> list[str]:
    """Return the arguments of a command as a real shell passes them."""
    code = "import json, sys; print(json.dumps(sys.argv[1:]))"
    python = shlex.join([sys.executable, "-c", code])
    done = subprocess.run(["bash", "-c", f"{python} {line}"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture
def tensorboard(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> str:
    """The command that a run in a folder with an awkward name prints."""
    from train import train

    folder = tmp_path / NAME
    folder.mkdir()
    smallest = (*SMALL, "model=cnn", "model.classifier.width=4", "debug=one_batch", NO_FIGURES)
    with caplog.at_level(logging.INFO):
        train(composed("train", *smallest, as_override("output_dir", folder.as_posix())))
    (line,) = (each for each in caplog.messages if each.startswith("to view them: "))
    return line.removeprefix("to view them: ")


def test_the_command_for_tensorboard_names_the_folder(tensorboard: str, tmp_path: Path) -> None:
    assert argv(tensorboard)[:3] == ["tensorboard", "--logdir", str(tmp_path / NAME)]


@pytest.mark.ci
def test_the_command_for_tensorboard_serves_the_run(tensorboard: str) -> None:
    """In a shell, on a free port, asked over HTTP. No other machine can reach it."""
    environment = ENVIRONMENT | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    line = f"exec {tensorboard} --port 0 --load_fast false"
    server = subprocess.Popen(
        ["bash", "-c", line], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        assert server.stderr is not None
        port = next(m[1] for each in server.stderr if (m := re.search(r"http://localhost:(\d+)/", each)))
        address = f"http://localhost:{port}/"
        assert set() < listening(int(port)) <= LOOPBACK
        deadline = time.monotonic() + 60
        tags: dict[str, dict[str, object]] = {}
        while not any("val/loss" in found for found in tags.values()) and time.monotonic() < deadline:
            tags = json.loads(urllib.request.urlopen(f"{address}data/plugin/scalars/tags", timeout=30).read())
            time.sleep(0.2)
        assert any("val/loss" in found for found in tags.values())
    finally:
        server.terminate()
        server.wait()


def test_the_option_that_resumes_a_run(tmp_path: Path) -> None:
    last = tmp_path / NAME / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.touch()
    with pytest.raises(InputError) as raised:
        check_folder(tmp_path / NAME, None)
    (option,) = argv(str(raised.value).partition("resume it with ")[2])
    assert composed("train", option).resume == str(last.parents[1])


def test_the_command_that_repeats_the_best_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = as_override("data.root", NAME)
    study = join_study(f"sqlite:///{tmp_path}/study.db", "awkward", SearchSpec("minimize", "val/nll", {}, [fixed]))
    space = {"start_from": optuna.distributions.CategoricalDistribution([NAME])}
    study.add_trial(optuna.trial.create_trial(params={"start_from": NAME}, distributions=space, value=1.0))
    report(study, tmp_path)
    python, script, *options = argv(capsys.readouterr().out.splitlines()[-1])
    assert (python, script) == ("python", "train.py")
    cfg = composed("train", *options)
    assert (cfg.data.root, cfg.start_from) == (NAME, NAME)
