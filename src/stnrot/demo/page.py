"""The page: a picture that one drops and turns, or two, beside what the model finds."""

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image

from stnrot.demo.picture import MOTIONS, one_picture, two_pictures
from stnrot.errors import InputError, needs_extra
from stnrot.prediction.predictor import Predictor

UPLOAD = "20mb"
KEPT = (3600, 86_400)  # seconds: so often, files are removed that are so old
HOST = "127.0.0.1"
# the page loads nothing from other machines; Gradio's own page names some
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'"


@contextmanager
def served(predictor: Predictor, title: str, port: int | None) -> Iterator[str]:
    """Serve the page on this machine alone, and yield its address.

    Uploaded pictures lie in a temporary folder, which is removed at the end.

    Args:
        title: name of the model.
        port: None for the first free one from 7860.

    Raises:
        InputError: if the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="stnrot-demo-") as folder, _environment(folder):
        page, launch = _page(predictor, title)
        try:
            url = launch(server_name=HOST, server_port=port)
        except OSError as error:
            raise InputError(f"--port={port}: is taken: choose another, or leave the option out") from error
        try:
            yield url
        finally:
            page.close(verbose=False)


@contextmanager
def _environment(folder: str) -> Iterator[None]:
    """Let Gradio keep uploads in a folder, report nothing to its makers, and ask its own page past any proxy."""
    before = dict(os.environ)
    os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False", no_proxy=HOST, NO_PROXY=HOST)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _page(predictor: Predictor, title: str) -> tuple[Any, Any]:
    """Return the page, and a function that starts to serve it and returns its address."""
    with needs_extra("stnrot demo", "demo"):
        import gradio as gr
        from starlette.middleware import Middleware

    def picture(label: str) -> Any:
        return gr.Image(type="pil", image_mode=None, label=label, sources=["upload", "clipboard"], height=320)

    def shown(label: str) -> Any:
        return gr.Image(label=label, interactive=False, height=320, buttons=["download"])

    with gr.Blocks(title=f"stnrot: {title}", analytics_enabled=False, delete_cache=KEPT) as page:
        gr.Markdown(f"# {title}")
        with gr.Tab("One picture"):
            with gr.Row():
                image, turned, upright = picture("Drop a picture"), shown("Turned"), shown("Rotated upright")
            slider = gr.Slider(-180, 180, 0, step=1, label="Turn it clockwise, degrees", elem_id="slider")
            with gr.Row():
                drawing, text = gr.HTML(elem_id="dial"), gr.Markdown(elem_id="found")
                label = gr.Label(label="Class", num_top_classes=5, visible=bool(predictor.classes))

            def one(given: Image.Image | None, degrees: float) -> tuple[Any, ...]:
                return (None,) * 5 if given is None else one_picture(predictor, given, math.radians(degrees))

            single: dict[str, Any] = {"inputs": [image, slider], "outputs": [turned, upright, drawing, text, label]}
            for event in (image.change, slider.change):
                event(one, **single, show_progress="hidden", trigger_mode="always_last", api_visibility="private")
        with gr.Tab("Two pictures"):
            gr.Markdown("The first is aligned with the second by their pixels, without the model.")
            with gr.Row():
                first, second, aligned = picture("Drop a picture"), picture("Drop its reference"), shown("Aligned")
            motion = gr.Radio(MOTIONS, value=MOTIONS[0], label="What may differ")
            with gr.Row():
                pair_drawing, pair_text = gr.HTML(), gr.Markdown()

            def two(given: Image.Image | None, reference: Image.Image | None, kind: Any) -> tuple[Any, ...]:
                return (None,) * 3 if given is None or reference is None else two_pictures(given, reference, kind)

            pair: dict[str, Any] = {"inputs": [first, second, motion], "outputs": [aligned, pair_drawing, pair_text]}
            for event in (first.change, second.change, motion.change):
                event(two, **pair, trigger_mode="always_last", api_visibility="private")

    def launch(**where: Any) -> str:
        return page.launch(
            **where,
            theme=gr.themes.Base(font="system-ui", font_mono="monospace"),
            app_kwargs={"middleware": [Middleware(_Policy)]},
            max_file_size=UPLOAD,
            footer_links=[],
            prevent_thread_lock=True,
            quiet=True,
            show_error=True,
            share=False,
            ssr_mode=False,
        )[1]

    return page, launch


class _Policy:
    """Add the security policy to every answer; an ASGI middleware."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, sent if scope["type"] == "http" else send)
