"""The `stnrot` command itself: help, version, completion, usage errors and exit codes."""

import inspect
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, Called

from stnrot.cli import main
from stnrot.commands.pose import pose
from stnrot.geometry.splat import SATURATIONS, Camera

COMMANDS = ("align", "pose", "study")
HEAVY = ("torch", "numpy", "PIL", "optuna", "hydra", "lightning", "matplotlib")


@pytest.mark.parametrize("arguments", [(), *((command,) for command in COMMANDS)])
def test_help_fits_80_columns_and_has_examples(called: Called, monkeypatch, tmp_path: Path, arguments: tuple) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, printed = called(*arguments, "--help", cwd=tmp_path)
    assert code == 0
    lines = printed.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in printed, "no colours in a pipe"
    words = " ".join(printed.split())
    if arguments:
        assert f"Usage: stnrot {arguments[0]} [OPTIONS]" in words
        assert 2 <= sum(f"• stnrot {arguments[0]}" in line for line in lines) <= 3
    else:
        assert all(command in words for command in (*COMMANDS, "--install-completion", "--version"))


def test_help_names_every_default(called: Called, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    words = " ".join(called("pose", "--help", cwd=tmp_path)[1].split())
    for default in ("XZ", "2.0", "90.0", "2.5", "0.05", "clamp"):
        assert f"[default: {default}]" in words


def test_the_camera_of_the_command_is_the_default_camera() -> None:
    parameters = inspect.signature(pose).parameters
    for name in ("distance", "fov_deg", "sigma", "near", "saturation"):
        assert parameters[name].default == getattr(Camera(), name)
    assert parameters["saturation"].annotation.__origin__.__args__ == SATURATIONS


@pytest.mark.parametrize("arguments", [["--help"], ["align", "--help"], ["study"]])
def test_help_and_usage_errors_import_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
from stnrot.cli import main
sys.argv = ["stnrot", *{arguments}]
try:
    main()
except SystemExit:
    print(sorted(set({HEAVY}) & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.stderr.splitlines()[-1] == "[]", done.stderr


def test_names_cannot_command_the_terminal(called: Called, tmp_path: Path) -> None:
    """A name of a file can hold a line break and the sequences that colour or clear a terminal."""
    name = "\x1b[2Jfirst\nsecond"
    shown = r"\x1b[2Jfirst\nsecond"
    lines = (("study", name), ("align", name, name), ("predict", "a.png", "--model", name), ("align", "--stack", name))
    for line in lines:
        message = str(called(*line, cwd=tmp_path)[0])
        assert message.startswith("error: ")
        assert name not in message
        assert shown in message or line[-2] == "--stack"


def test_a_path_that_cannot_be_examined_is_one_line(called: Called, tmp_path: Path) -> None:
    """Its name is too long, or nobody may look into its folder: the judge is the file system."""
    long = "x" * 300
    for line in (
        ("study", long),
        ("shards", ".", long),
        ("merge", "a.csv", "--out", long),
        ("merge", long, "--out", "a"),
    ):
        message = str(called(*line, cwd=tmp_path)[0])
        assert message.startswith("error: ")
        assert long in message
        assert len(message.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may look into every folder")
def test_a_folder_that_is_closed_is_one_line(called: Called, tmp_path: Path) -> None:
    (tmp_path / "closed" / "in").mkdir(parents=True)
    (tmp_path / "closed").chmod(0)
    try:
        for line in (
            ("study", "closed/in/a.log"),
            ("shards", ".", "closed/in/a"),
            ("merge", "closed/in/a", "--out", "b"),
        ):
            assert "Permission denied" in str(called(*line, cwd=tmp_path)[0])
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_version_and_a_bare_command(called: Called, tmp_path: Path) -> None:
    assert called("--version", cwd=tmp_path) == (0, f"stnrot {version('stnrot')}\n")
    code, printed = called(cwd=tmp_path)
    assert code == 2
    assert "Usage: stnrot [OPTIONS] COMMAND" in printed


@pytest.mark.parametrize(
    ("line", "words", "command"),
    [
        ("align --cpkt best.ckpt", "No such option", "stnrot align"),
        ("align --ckpt", "'--ckpt' requires an argument", "stnrot align"),
        ("study a.db b.db", "unexpected extra argument", "stnrot study"),
        ("pose a.png", "Missing option '--points'", "stnrot pose"),
        ("pose --points torus", "Missing argument 'IMAGE'", "stnrot pose"),
        ("pose a.png --points torus --distance far", "Invalid value for '--distance'", "stnrot pose"),
        ("pose a.png --points torus --saturation x", "'x' is not one of 'clamp', 'soft'", "stnrot pose"),
        ("study", "Missing argument 'STORAGE'", "stnrot study"),
        ("alig a.png b.png", "No such command 'alig'", "stnrot"),
        ("--verbose", "No such option", "stnrot"),
    ],
)
def test_a_usage_error_is_one_line(monkeypatch, capsys, line: str, words: str, command: str) -> None:
    monkeypatch.setattr(sys, "argv", ["stnrot", *line.split()])
    with pytest.raises(SystemExit) as stopped:
        main()
    printed, error = capsys.readouterr()
    assert (stopped.value.code, printed) == (2, "")
    assert error.startswith("error: ")
    assert error.endswith(f" See `{command} --help`.\n")
    assert len(error.splitlines()) == 1
    assert words in error


def test_a_bug_prints_a_plain_traceback(tmp_path: Path) -> None:
    code = """
import sys
import stnrot.commands.study
from stnrot.cli import main
stnrot.commands.study.needs_extra = lambda command: 1 / 0
sys.argv = ["stnrot", "study", "study.db"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_ctrl_c_and_a_closed_pipe(tmp_path: Path) -> None:
    """The work is replaced by what an interrupt and `| head` raise."""
    code = """
import sys
import stnrot.commands.study
from stnrot.cli import main
def work(command):
    raise {error}
stnrot.commands.study.needs_extra = work
sys.argv = ["stnrot", "study", "study.db"]
main()
"""
    for error, status in (("KeyboardInterrupt", 130), ("BrokenPipeError", 141)):
        line = [sys.executable, "-c", code.format(error=error)]
        done = subprocess.run(line, capture_output=True, text=True, env=ENVIRONMENT, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


@pytest.mark.parametrize("line", ["--help", "pose --help", "--version", ""])
def test_a_pipe_that_closes_early_ends_the_help_quietly(line: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "stnrot.cli", *line.split()]
    with open(writer, "w") as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_behind_the_output_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "stnrot.cli", "--version"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the output cannot be written: ")
    assert len(done.stderr.splitlines()) == 1


def test_the_shell_completes_commands_and_options(tmp_path: Path) -> None:
    for typed, place, expected in (("stnrot al", 1, "align"), ("stnrot align --man", 2, "--manifest")):
        done = subprocess.run(
            [str(Path(sys.executable).with_name("stnrot"))],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=ENVIRONMENT | {"_STNROT_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(place)},
        )
        assert done.stdout.split() == [expected], done.stderr


def test_a_light_install_aligns_and_names_the_extra_that_is_missing(tmp_path: Path) -> None:
    code = """
import sys
missing = "hydra lightning matplotlib omegaconf optuna sklearn torchmetrics torchvision trimesh"
sys.modules |= dict.fromkeys(missing.split())  # importing them raises ModuleNotFoundError
import torch
from PIL import Image
from stnrot import Rotation, align, rotate
from stnrot.cli import main
image = torch.rand(64, 64)
assert abs(align(image, torch.rot90(image)).angle.item() - torch.pi / 2) < 0.01
for name, pixels in (("image", image), ("reference", torch.rot90(image))):
    Image.fromarray((pixels * 255).byte().numpy()).save(f"{name}.png")
Image.new("L", (32, 32)).save("black.png")
open("solid.obj", "w").write("v 0 0 0")
open("pairs.csv", "w").write("image,reference\\nimage.png,reference.png\\n")
for line in (
    "align image.png reference.png --out aligned.png",
    "align --manifest pairs.csv --out results.csv",
    "align image.png reference.png --ckpt best.ckpt",
    "pose black.png --points torus --ckpt best.ckpt",
    "pose black.png --points solid.obj",
    "study sqlite:///study.db",
    "train model=rot_stn",
):
    sys.argv = ["stnrot", *line.split()]
    try:
        main()
    except SystemExit as stopped:
        print(stopped.code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, cwd=tmp_path)
    angle, _, zero, *table, checkpoint, start, mesh, study, train = done.stdout.splitlines()
    assert angle == "angle      90.00 degrees counter-clockwise"
    assert (zero, table) == ("0", ["1 pairs in results.csv", "0"]), done.stderr
    for line, what in (
        (checkpoint, "a checkpoint"),
        (start, "a checkpoint"),
        (mesh, "a mesh"),
        (study, "stnrot study"),
        (train, "stnrot train"),
    ):
        assert line.startswith(f"error: {what}")
        assert line.endswith('which is not installed: pip install "stnrot[train]"')
