"""`stnrot upright` with the model that ships: photographs are compared with Pillow and NumPy, tables read with csv."""

import io
import json
import os
import resource
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import Called, model, refused, rows
from PIL import ExifTags, Image, ImageOps
from skimage.data import rocket

from stnrot.errors import InputError
from stnrot.prediction.predict_files import predict_files
from stnrot.prediction.predictor import Predictor
from stnrot.prediction.upright_files import UprightOptions, upright_files
from stnrot.runs.checkpoints import read_checkpoint
from stnrot.turning import record
from stnrot.turning.destination import InFolder
from stnrot.turning.places import copy_file, write_file
from stnrot.turning.record import TurnedInPlace

ROCKET = Image.fromarray(rocket()).crop((0, 0, 427, 427)).resize((160, 160))  # confidence above 0.9
MODEL = ("--model", "photos", "--min-confidence", "0.8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a photograph in several turns and formats, one without an upright, and a broken file."""
    scans = tmp_path / "scans"
    (scans / "a").mkdir(parents=True)
    (scans / "b").mkdir()
    ROCKET.save(scans / "a" / "1.jpg", quality=95)
    ROCKET.rotate(90).save(scans / "b" / "1.jpg", quality=95)
    ROCKET.rotate(180).save(scans / "b" / "2.png", dpi=(300, 300))
    ROCKET.rotate(25, Image.Resampling.BICUBIC, fillcolor="grey").save(scans / "3.png")
    Image.effect_noise((90, 90), 60).convert("RGB").save(scans / "noise.png")
    (scans / "b" / "broken.png").write_text("nothing")
    return tmp_path


def shown(path: Path) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(path)))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_turned_into_another(called: Called, folder: Path) -> None:
    before = files(folder / "scans")
    arguments = ("upright", "scans", *MODEL, "--out", "scans/upright")  # a folder below the images
    status, printed = called(*arguments, "--dry-run", cwd=folder)
    assert status == 1
    assert "nothing is written" in printed
    assert files(folder / "scans") == before
    status, printed = called(*arguments, "--json", cwd=folder)
    assert status == 1
    answers = {each["image"]: each for each in map(json.loads, printed.splitlines())}
    actions = {name: each["action"] for name, each in answers.items()}
    assert actions == {
        "scans/3.png": "turned",
        "scans/a/1.jpg": "upright",
        "scans/b/1.jpg": "turned",
        "scans/b/2.png": "turned",
        "scans/b/broken.png": "error",
        "scans/noise.png": "unsure",
    }
    out = folder / "scans" / "upright"
    after = files(folder / "scans")
    assert {name: after[name] for name in before} == before
    assert set(files(out)) == {"3.png", "a/1.jpg", "b/1.jpg", "b/2.png", "noise.png"}
    assert files(out)["noise.png"] == before["noise.png"]
    assert (out / "noise.png").stat().st_mtime == (folder / "scans" / "noise.png").stat().st_mtime
    assert files(out)["a/1.jpg"] == before["a/1.jpg"]
    assert np.array_equal(shown(out / "b" / "1.jpg"), np.rot90(shown(folder / "scans/b/1.jpg"), -1))
    assert np.array_equal(shown(out / "b" / "2.png"), np.asarray(ROCKET))
    assert Image.open(out / "b" / "2.png").info["dpi"] == pytest.approx((300, 300), abs=0.1)
    found = answers["scans/3.png"]
    assert found["angle_deg"] == pytest.approx(-25, abs=8)
    turned = Image.open(folder / "scans/3.png").rotate(found["angle_deg"], Image.Resampling.BICUBIC)
    new = Image.open(out / "3.png")
    left, top = (turned.width - new.width) / 2, (turned.height - new.height) / 2
    expected = turned.transform(new.size, Image.Transform.EXTENT, (left, top, left + new.width, top + new.height))
    assert np.abs(np.asarray(new).astype(float) - np.asarray(expected))[5:-5, 5:-5].mean() < 5

    (out / "b" / "2.png").unlink()
    (out / "3.png").write_text("mine")
    status, printed = called(*arguments, cwd=folder)
    assert status == 1
    assert printed.splitlines()[-1] == "6 images: 1 turned, 4 kept as they were, 1 with an error"
    assert np.array_equal(shown(out / "b" / "2.png"), np.asarray(ROCKET))
    assert (out / "3.png").read_text() == "mine"
    assert called("upright", "scans/3.png", *MODEL, "--out", "scans/upright", "--overwrite", cwd=folder)[0] == 0
    assert shown(out / "3.png").shape == np.asarray(new).shape


def test_a_folder_is_turned_in_place_once(called: Called, folder: Path) -> None:
    scans = folder / "scans"
    (folder / "link.png").symlink_to("scans/3.png")
    (scans / "b" / "2.png").chmod(0o640)
    before = files(scans)
    arguments = ("upright", "link.png", "scans", *MODEL, "--in-place")
    status, printed = called(*arguments, cwd=folder)
    assert status == 1
    assert printed.splitlines()[-1] == "6 images: 3 turned, 1 upright, 1 unsure, 1 with an error"
    after = files(scans)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"3.png", "b/1.jpg", "b/2.png"}
    assert set(after) - set(before) == {"turned.csv", "b/turned.csv"}
    assert (scans / "b" / "2.png").stat().st_mode & 0o777 == 0o640
    assert (folder / "link.png").is_symlink()
    assert np.array_equal(shown(scans / "b" / "2.png"), np.asarray(ROCKET))
    for table in (scans / "turned.csv", scans / "b" / "turned.csv"):
        for row in rows(table):
            assert row["sha256"] == sha256((table.parent / row["image"]).read_bytes()).hexdigest()
    status, printed = called(*arguments, cwd=folder)
    assert printed.splitlines()[-1] == "6 images: 1 upright, 1 unsure, 3 kept as they were, 1 with an error"
    assert files(scans) == after

    (scans / "b" / "1.jpg").write_bytes(before["b/1.jpg"])  # as after a kill between the row and the file
    status, printed = called(*arguments, cwd=folder)
    assert files(scans) == after


def test_a_kill_leaves_the_old_or_the_new_file(called: Called, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = folder / "scans"
    before = files(scans)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(record, "write_file", interrupted)
        status, _ = called("upright", "scans", *MODEL, "--in-place", cwd=folder)
    assert status == 130
    assert {name: files(scans)[name] for name in before} == before
    called("upright", "scans", *MODEL, "--in-place", cwd=folder)
    assert np.array_equal(shown(scans / "b" / "2.png"), np.asarray(ROCKET))
    assert [row["image"] for row in rows(scans / "turned.csv")] == ["3.png"]


def put(destination: TurnedInPlace, image: Path, content: bytes) -> None:
    destination.put(image, image, content, {"angle_deg": 90.0, "confidence": 1.0, "model": "photos"})


def test_a_table_of_another_program_and_a_full_disk(called: Called, folder: Path) -> None:
    """Nothing is written to a foreign table, and a part of a row does not stay in the table of its folder."""
    scans = folder / "scans"
    (scans / "turned.csv").write_text("mine,too\n1,2\n")
    shutil.copy(scans / "3.png", scans / "4.png")
    before = files(scans)
    status, printed = called("upright", scans / "3.png", scans / "4.png", *MODEL, "--in-place", cwd=folder)
    assert status == 1
    assert printed.count("turned.csv is not a table of stnrot upright") == 2
    assert files(scans) == before

    (scans / "turned.csv").unlink()
    with TurnedInPlace() as turned:
        put(turned, scans / "3.png", b"3")
        size = (scans / "turned.csv").stat().st_size
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 9, hard))
        try:
            with pytest.raises(OSError, match="too large"):
                put(turned, scans / "4.png", b"4")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (scans / "turned.csv").stat().st_size == size
        assert (scans / "4.png").read_bytes() == before["4.png"]
        put(turned, scans / "noise.png", b"5")
    assert [each["image"] for each in rows(scans / "turned.csv")] == ["3.png", "noise.png"]


def test_a_second_process_waits_for_the_first(folder: Path) -> None:
    """In place there is no other --out to choose."""
    with TurnedInPlace() as first, TurnedInPlace() as second:
        put(first, folder / "scans" / "3.png", b"3")
        with pytest.raises(InputError, match=r"another process: wait until it ends, then run the same command again$"):
            put(second, folder / "scans" / "noise.png", b"4")


def test_permissions_stay_and_a_copy_has_its_time(folder: Path) -> None:
    private, out = folder / "private.png", folder / "out"
    ROCKET.save(private)
    private.chmod(0o600)
    os.utime(private, (1e9, 1e9))
    copy_file(private, out / "a" / "copied.png")
    write_file(b"turned", out / "a" / "turned.png", like=private)
    assert (out / "a" / "copied.png").read_bytes() == private.read_bytes()
    assert (out / "a" / "copied.png").stat().st_mtime == 1e9
    assert (out / "a" / "turned.png").stat().st_mtime > 1e9
    assert {path.stat().st_mode & 0o777 for path in (out / "a").iterdir()} == {0o600}


def test_quarter_expand_and_an_orientation_that_is_honoured(called: Called, folder: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    ROCKET.rotate(90).save(folder / "sideways.jpg", exif=exif)  # and so it is shown upright
    photo = folder / "scans" / "3.png"
    for options, action, size in (
        (("--quarter",), "upright", (160, 160)),
        (("--expand",), "turned", None),
        (("--tolerance-deg", "45"), "upright", (160, 160)),
    ):
        printed = called("upright", photo, "sideways.jpg", *MODEL, *options, "--out", "o", "--json", cwd=folder)[1]
        tilted, sideways = map(json.loads, printed.splitlines())
        assert (tilted["action"], sideways["action"]) == (action, "upright")
        new = Image.open(tilted["output"])
        assert new.size == size if size else min(new.size) > 180
        shutil.rmtree(folder / "o")


def test_models_without_a_confidence_or_an_angle(digits_run: Path, folder: Path) -> None:
    path = digits_run / "checkpoints" / "best.ckpt"
    config = read_checkpoint(path)["config"]
    options = UprightOptions(0.9, False, 10.0, "crop", False)
    out = InFolder(folder / "o", overwrite=True)
    images = [folder / "scans" / "noise.png"]
    angle_alone = Predictor(SimpleNamespace(model=model("rot_stn", "model/encoder=cnn").eval()), config, path)
    with pytest.raises(InputError, match=r"has no confidence, .*: expected --min-confidence 0"):
        list(upright_files(angle_alone, images, out, options))
    (found,) = upright_files(angle_alone, images, out, replace(options, min_confidence=0.0))
    assert found["action"] in ("turned", "upright")
    assert "confidence" not in found
    (found,) = upright_files(angle_alone, images, out, replace(options, min_confidence=0.0, quarter=True))
    assert found["angle_deg"] % 90 == 0
    broken = model("rot_stn")
    with torch.no_grad():
        next(broken.parameters()).fill_(torch.nan)
    not_finite = Predictor(SimpleNamespace(model=broken.eval()), config, path)
    for found in (
        upright_files(not_finite, images, out, options),
        predict_files(not_finite, images),
    ):
        with pytest.raises(InputError, match="gives numbers that are not finite"):
            list(found)
    no_angle = Predictor(SimpleNamespace(model=model("cnn").eval()), config, path)
    with pytest.raises(InputError, match="does not predict an angle"):
        list(upright_files(no_angle, images, out, options))


def test_standard_input_and_a_name_that_is_no_utf8(
    called: Called, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = os.fsencode(folder) + b"/\xff\n\x1b.png"
    shutil.copy(folder / "scans" / "b" / "2.png", strange)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(strange + b"\0")))
    status, printed = called("upright", "-", *MODEL, "--in-place", cwd=folder)
    assert status == 0
    assert r"/\udcff\n\x1b.png  turned by 180.00 degrees" in printed
    assert np.array_equal(shown(Path(os.fsdecode(strange))), np.asarray(ROCKET))


def test_what_is_refused(called: Called, folder: Path) -> None:
    for path in (folder / "scans").rglob("*.*"):
        path.rename(folder / f"{path.parent.name}-{path.name}")
    shutil.rmtree(folder / "scans")
    (folder / "file").write_text("mine")
    for arguments, message in (
        ((), "expected --out DIR, a folder to write to, or --in-place, or --dry-run"),
        (("--out", "o", "--in-place"), "--out came with --in-place"),
        (("--out", "o", "--quarter", "--expand"), "--expand came with --quarter"),
        (("--in-place", "--overwrite"), "--overwrite came without --out"),
        (("--out", "file"), "--out=file is a file: expected a folder"),
        (("--out", "."), "--out=.: a-1.jpg is one of the images"),
        (("--out", "o", "--min-confidence", "2"), "--min-confidence=2.0: expected a number from 0 to 1"),
        (("--out", "o", "--tolerance-deg", "90"), "--tolerance-deg=90.0: expected a number from 0 to 45"),
    ):
        assert message in refused(called, folder, "upright", ".", "--model", "photos", *arguments)
