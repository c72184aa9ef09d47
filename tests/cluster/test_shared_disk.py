"""A journal on disks with the limits of shared ones: no common locks between two mounts, or no symbolic links.

Two mounts of one folder by sshfs behave like two machines: locks of the kernel (`flock`, `fcntl`) hold within one mount
only, attributes are cached for 20 seconds, and the server alone decides who creates a file. The exFAT file system has
no links.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, NO_FIGURES, ROOT, SMALL
from optuna.trial import TrialState

from stnrot.search.study import find_study
from stnrot.search.trials import counted

pytestmark = pytest.mark.cluster
TRIALS = """
import sys
from stnrot.search.study import SearchSpec, join_study

study = join_study(sys.argv[1], "one", SearchSpec("minimize", "val/loss", {"x": "0 to 1"}, []))
for _ in range(10):
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    study.tell(trial.number, 1.0)
    print(trial.number)
"""


def needs(program: str, package: str) -> None:
    if shutil.which(program) is None:
        pytest.fail(f"needs {program}: apt-get install {package}")


def run(*arguments: str | Path) -> str:
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        pytest.fail(
            f"{arguments[0]} cannot be used here, expected root, /dev/fuse and /dev/loop-control: {done.stdout.strip()}"
        )
    return done.stdout.strip()


@pytest.fixture
def two_mounts(tmp_path: Path) -> Iterator[list[Path]]:
    """Mount a folder twice by sshfs, whose server is started without a network."""
    needs("sshfs", "sshfs openssh-sftp-server")
    served, mounts = tmp_path / "served", [tmp_path / "one", tmp_path / "two"]
    served.mkdir()
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\nexec /usr/lib/openssh/sftp-server\n")
    ssh.chmod(0o755)
    with ExitStack() as unmount:
        for mount in mounts:
            mount.mkdir()
            run("sshfs", "-o", f"ssh_command={ssh}", f"host:{served}", mount)
            unmount.callback(subprocess.run, ["umount", "--lazy", mount], check=True)
        yield mounts


@pytest.fixture
def without_links(tmp_path: Path) -> Iterator[list[Path]]:
    """Mount an exFAT file system."""
    needs("mount.exfat-fuse", "exfat-fuse exfatprogs")
    image, mount = tmp_path / "image", tmp_path / "exfat"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(20 * 2**20)
    run("mkfs.exfat", image)
    device = run("losetup", "--find", "--show", image)
    with ExitStack() as release:
        release.callback(subprocess.run, ["losetup", "--detach", device], check=True)
        run("mount.exfat-fuse", device, mount)
        release.callback(subprocess.run, ["umount", mount], check=True)
        with pytest.raises(OSError, match="not implemented"):
            (mount / "link").symlink_to("study.log")
        yield [mount]


@pytest.fixture(params=["two_mounts", "without_links"])
def disks(request: pytest.FixtureRequest) -> list[Path]:
    return request.getfixturevalue(request.param)


def outputs(start: Callable[[Path], subprocess.Popen[str]], disks: list[Path]) -> list[str]:
    """Run four processes at once, in turn on each disk; return what they print."""
    processes = [start(disks[number % len(disks)] / "study.log") for number in range(4)]
    printed = [process.communicate(timeout=500)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, printed
    return printed


def test_four_processes_write_one_journal(disks: list[Path]) -> None:
    def start(journal: Path) -> subprocess.Popen[str]:
        line = [sys.executable, "-c", TRIALS, str(journal)]
        return subprocess.Popen(line, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)

    numbers = [int(number) for printed in outputs(start, disks) for number in printed.split()]
    assert sorted(numbers) == list(range(40))
    for line in (disks[0] / "study.log").read_text().splitlines():
        json.loads(line)


def test_a_search_by_four_processes(disks: list[Path], tmp_path: Path) -> None:
    options = ["debug=one_batch", NO_FIGURES, "hparams_search=_search", "model=cnn", "hydra.sweeper.n_trials=5"]
    options.append("task.optimizer.lr=tag(log,interval(1e-4,1e-2))")

    def start(journal: Path) -> subprocess.Popen[str]:
        line = [sys.executable, str(ROOT / "train.py"), "-m", *SMALL, *options, f"hydra.sweeper.storage={journal}"]
        return subprocess.Popen(
            line, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    outputs(start, disks)
    study = find_study(str(disks[0] / "study.log"), None)
    assert study is not None
    done = counted(study.trials)
    assert len(done) == 5
    assert {trial.state for trial in done} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
