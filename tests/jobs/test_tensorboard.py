"""A finished run in TensorBoard."""

import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path


def test_tensorboard_serves_images_scalars_and_hparams(finished: Path) -> None:
    """A real server on a free port of this machine answers over HTTP."""
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
        image = get("plugin/images/individualImage", **dict(urllib.parse.parse_qsl(shown[0]["query"])))
        assert image.startswith(b"\x89PNG")
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
