"""Use the wheel as someone who installed nothing else, in an empty folder: the API and the `stnrot` command."""

import importlib.util
import subprocess
import sys
from pathlib import Path

HEAVY = ("hydra", "lightning", "matplotlib", "omegaconf", "optuna", "sklearn", "tensorboard", "torchvision", "trimesh")
installed = [name for name in HEAVY if importlib.util.find_spec(name)]
assert not installed, f"the light install brings {installed}"

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

import stnrot  # noqa: E402

assert "site-packages" in stnrot.__file__, stnrot.__file__
assert (Path(stnrot.__file__).parent / "py.typed").is_file()
assert (Path(stnrot.__file__).parent / "configs" / "train.yaml").is_file()
assert (Path(stnrot.__file__).parent / "report" / "page" / "report.html").is_file()
for name in stnrot.__all__:
    assert getattr(stnrot, name) is not None

image = torch.rand(64, 64)
assert abs(stnrot.align(image, torch.rot90(image)).angle.rad2deg().item() - 90) < 0.01
assert torch.allclose(
    stnrot.rotate(image[None, None], torch.tensor([torch.pi / 2]))[0, 0], torch.rot90(image), atol=1e-4
)
upright = stnrot.Upright(torch.nn.Flatten(), "photos").eval()  # its weights are in the wheel
assert upright(torch.rand(2, 3, 40, 40)).shape == (2, 4800)
assert stnrot.Upright(torch.nn.Flatten(), "digits").eval()(torch.rand(2, 1, 28, 28)).shape == (2, 784)
stnrot.create_model("rot_stn", classes=10).loss(torch.rand(4, 1, 28, 28), torch.arange(4)).backward()
layer = stnrot.Rotation(8, init="haar")
z = torch.randn(4, 8)
assert torch.allclose(layer.inverse(layer(z)), z, atol=1e-5)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [str(Path(sys.executable).with_name("stnrot")), *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=300)


pixels = (image.numpy() * 255).astype(np.uint8)
Image.fromarray(pixels).save("image.png")
Image.fromarray(np.rot90(pixels)).save("reference.png")
for arguments in (["--help"], ["align", "--help"], ["align", "image.png", "reference.png", "--out", "aligned.png"]):
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
assert "90.00 degrees" in done.stdout, done.stdout
assert Image.open("aligned.png").size == (64, 64)
Image.new("L", (128, 128)).save("black.png")
done = command("pose", "black.png", "--points", "torus", "--json")
assert done.returncode == 0, done.stderr

# a command that needs more packages prints one line, with the extra that brings them
for arguments in (
    ["study", "sqlite:///study.db"],
    ["align", "image.png", "reference.png", "--ckpt", "image.png"],
    ["train", "model=rot_stn"],
    ["evaluate", "ckpt=latest"],
):
    done = command(*arguments)
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith("error: "), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "stnrot[train]" in done.stderr, done.stderr
print(f"the light install works: {', '.join(stnrot.__all__)}")
