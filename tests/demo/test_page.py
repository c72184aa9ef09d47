"""The page of `stnrot demo`: a real server, asked over HTTP and in Chromium, with photographs that Pillow turned."""

import io
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from stnrot.demo.page import served
from stnrot.errors import InputError
from stnrot.prediction.predictor import Predictor, load

pytestmark = pytest.mark.ci
CHINA = Image.fromarray(load_sample_images().images[0])  # upright
DIAL = re.compile(r"points (-?[\d.]+) degrees clockwise")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of temporary files."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("temporary")
        patch.setattr(tempfile, "tempdir", str(folder))
        yield folder


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return load("photos")


@pytest.fixture(scope="module")
def url(place: Path, predictor: Predictor) -> Iterator[str]:
    with served(predictor, "photos", None) as address:
        yield address.rstrip("/")
    assert not list(place.glob("stnrot-demo-*"))  # what was uploaded is gone


def upload(url: str, data: bytes, name: str = "picture.png") -> httpx.Response:
    return httpx.post(f"{url}/gradio_api/upload", files={"files": (name, data, "image/png")})


def uploaded(url: str, image: Image.Image) -> dict[str, Any]:
    file = io.BytesIO()
    image.save(file, "PNG")
    return {"path": upload(url, file.getvalue()).json()[0], "meta": {"_type": "gradio.FileData"}}


def answer(url: str, function: str, *data: Any) -> str:
    """Call a function of the page as its JavaScript does."""
    number = next(
        each["id"] for each in httpx.get(f"{url}/config").json()["dependencies"] if each["api_name"] == function
    )
    call = {"fn_index": number, "data": data, "session_hash": "test"}
    assert httpx.post(f"{url}/gradio_api/queue/join", json=call).status_code == 200
    with httpx.stream("GET", f"{url}/gradio_api/queue/data?session_hash=test", timeout=60) as lines:
        return next(line for line in lines.iter_lines() if "process_completed" in line)


def test_a_picture_turned_on_the_page_is_found(url: str) -> None:
    found = DIAL.search(answer(url, "one", uploaded(url, CHINA.crop((0, 0, 427, 427))), 40))
    assert found is not None
    assert float(found[1]) == pytest.approx(40, abs=10)


def test_two_pictures_are_aligned(url: str) -> None:
    square = CHINA.crop((100, 0, 500, 400))
    pair = uploaded(url, square.rotate(-25, Image.Resampling.BICUBIC)), uploaded(url, square)
    found = DIAL.search(answer(url, "two", *pair, "rotation"))
    assert found is not None
    assert float(found[1]) == pytest.approx(25, abs=0.5)


def test_nothing_from_the_page_leaves_its_folder(url: str, place: Path) -> None:
    written = upload(url, b"<script>alert(1)</script>", "../../../evil.html").json()[0]
    assert Path(written).resolve().is_relative_to(next(place.glob("stnrot-demo-*")))
    reply = httpx.get(f"{url}/gradio_api/file={written}")
    assert reply.headers["content-disposition"].startswith("attachment")  # a browser does not run it
    assert "default-src 'self'" in reply.headers["content-security-policy"]
    assert httpx.get(f"{url}/gradio_api/file=/etc/hostname").status_code == 403
    refused = answer(url, "one", {"path": "/etc/hostname", "meta": {"_type": "gradio.FileData"}}, 0)
    assert '"success":false' in refused


def test_bad_pictures_are_refused_and_the_server_goes_on(url: str) -> None:
    assert upload(url, bytes(21 * 2**20)).status_code == 413
    broken = {"path": upload(url, b"no picture").json()[0], "meta": {"_type": "gradio.FileData"}}
    bomb = uploaded(url, Image.new("1", (30_000, 30_000)))
    for bad in (broken, bomb, uploaded(url, Image.new("L", (1, 1)))):
        assert '"success":false' in answer(url, "one", bad, 0)
    assert '"success":true' in answer(url, "one", uploaded(url, CHINA), 0)


def test_a_port_that_is_taken_is_named(predictor: Predictor) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--port={port}: is taken"), served(predictor, "photos", port):
            pass


@pytest.mark.slow
def test_in_a_browser(url: str, tmp_path: Path) -> None:
    """Chromium drops a picture, turns it with the slider, and reads the angle; it asks no other machine."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    CHINA.save(tmp_path / "china.png")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        page.locator("input[type=file]").first.set_input_files(tmp_path / "china.png")
        page.wait_for_selector("#dial svg")
        page.locator("#slider input[type=number]").fill("-60")
        page.keyboard.press("Enter")
        page.wait_for_function("document.querySelector('#found').innerText.match(/-[0-9]{2}/)")
        found = re.search(r"-?[\d.]+", page.inner_text("#found"))
        assert found is not None
        assert float(found[0]) == pytest.approx(-60, abs=10)
        browser.close()
    assert {each.split("/")[2] for each in asked if "://" in each} == {url.split("/")[2]}
