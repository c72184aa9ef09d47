"""Draw the figures of the explanation pages into docs/images.

python docs/draw_figures.py outputs/train/.../checkpoints/best.ckpt

The checkpoint is that of a run of `python train.py model=rot_stn`.
"""

import math
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from torch import Tensor

from stnrot import rotate
from stnrot.data.rng import Split
from stnrot.geometry import rotate_bicubic, to_polar
from stnrot.geometry.planar import rotation_theta
from stnrot.runs.checkpoints import read_checkpoint, rebuild

plt.rcParams["font.size"] = 8
IMAGES = Path(__file__).parent / "images"
BINS = 11  # of 64: the rotation in the figure of the search encoder, 61.9 degrees
MARKED = 20  # the column that is marked before and after that rotation
BLUE, RED, GREEN = "tab:blue", "tab:red", "tab:green"


def show(axes: Any, image: Tensor, title: str = "") -> None:
    """Show one image [1, H, W] or [H, W]."""
    axes.imshow(image.squeeze(), cmap="gray", vmin=0, interpolation="nearest")
    axes.set_title(title, fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])


def search_encoder(model: Any, digit: Tensor) -> None:
    """One digit, the same rotated: polar samplings, scores of all shifts, posteriors of the upright angle."""
    encoder = model.encoder
    bins = encoder.angles
    angle = torch.tensor([2 * math.pi * BINS / bins])
    pair = torch.cat((digit, rotate_bicubic(digit, angle)))
    polar = to_polar(pair, encoder.radii, bins, encoder.blur)
    between = encoder(pair[:1], pair[1:], 1).log_posterior[0]
    upright = encoder(pair, model.reference, 1).log_posterior.exp()

    figure, grid = plt.subplots(2, 3, figsize=(7.6, 4.2), width_ratios=(1, 1.8, 2.2), layout="constrained")
    names = "the image", f"rotated by {math.degrees(angle):.0f}°"
    for k, (row, name, colour) in enumerate(zip(grid, names, (BLUE, RED), strict=True)):
        show(row[0], pair[k], name)
        show(row[1], polar[k], "its polar sampling")
        row[1].set(xlabel="direction (column)", ylabel="radius (row)", aspect="auto")
        row[1].axvline(MARKED + k * BINS, color=colour, linewidth=2)
    score = between - between.max()
    grid[0, 2].plot(score, ".-", color="black", linewidth=0.8)
    grid[0, 2].axvline(BINS, color=RED, linewidth=0.8, linestyle="--")
    grid[0, 2].set(xlabel="shift (columns)", ylabel="score, highest = 0")
    grid[0, 2].set_title("score of the two at all shifts", fontsize=8)
    degrees = torch.arange(bins) * 360 / bins
    for probability, colour, label in zip(upright, (BLUE, RED), ("the image", "rotated"), strict=True):
        grid[1, 2].plot(degrees, probability, ".-", color=colour, linewidth=0.8, label=label)
    grid[1, 2].set(xlabel="angle (degrees)", ylabel="probability")
    grid[1, 2].set_title("posterior of the upright angle", fontsize=8)
    grid[1, 2].legend(fontsize=7)
    save(figure, "search_encoder.png")


def two_peaks(model: Any, images: Tensor, labels: Tensor) -> None:
    """The 6 or 9 of the test set whose second hypothesis has the largest weight."""
    found = model.encoder(images, model.reference, 2)
    weight = found.log_weight.exp()
    chosen = int((weight[:, 1] * torch.isin(labels, torch.tensor([6, 9]))).argmax())
    image, angle, weight = images[chosen : chosen + 1], found.angle[chosen : chosen + 1], weight[chosen]
    rotated = rotate(image, angle)[0]
    class_probability = model.classifier(rotated).softmax(1)
    mixture = model(image, None)
    probability, classes = mixture.log_probability[0].exp().topk(2)
    print(
        f"two peaks: test image {chosen}, a {int(labels[chosen])}; mixture: {classes.tolist()} {probability.tolist()},"
    )
    print(f"with the angles' weights {mixture.orientation.log_weight[0].exp().tolist()}")

    figure, grid = plt.subplots(1, 4, figsize=(7.6, 2.4), width_ratios=(1, 1.6, 1, 1), layout="constrained")
    show(grid[0], image[0], "the image")
    posterior = found.log_posterior[chosen].exp()
    grid[1].plot(torch.arange(len(posterior)) * 360 / len(posterior), posterior, ".-", color="black", linewidth=0.8)
    grid[1].set(xlabel="angle (degrees)", ylabel="probability")
    grid[1].set_title("posterior of the upright angle", fontsize=8)
    for k, colour in enumerate((BLUE, RED)):
        degrees = math.degrees(angle[0, k]) % 360
        grid[1].axvline(degrees, color=colour, linewidth=1, linestyle="--")
        best = int(class_probability[k].argmax())
        title = f"by {degrees:.0f}°, v = {weight[k]:.2f}\nread as {best}, {class_probability[k, best]:.0%}"
        show(grid[2 + k], rotated[k], title)
        for spine in grid[2 + k].spines.values():
            spine.set(color=colour, linewidth=2)
    save(figure, "two_peaks.png")


def conventions() -> None:
    """A positive angle, and what happens to an image that is not square without its aspect ratio in the matrix."""
    height, width = 120, 200
    y, x = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")
    image = 0.25 + 0.15 * (((x / 20).floor() + (y / 20).floor()) % 2)  # squares
    image[(x.hypot(y) - 40).abs() < 2] = 0.8
    image[(y.abs() < 3) & (x > 0) & (x < 80) | (x > 60) & (x + y.abs() * 1.5 < 85)] = 1.0
    image = image[None, None]
    angle = torch.tensor([math.radians(30)])
    theta = rotation_theta(angle, height, width)
    theta[:, 0, 1], theta[:, 1, 0] = -angle.sin(), angle.sin()  # the aspect ratio is left out
    sheared = F.grid_sample(image, F.affine_grid(theta, list(image.shape), align_corners=False), align_corners=False)
    figure, grid = plt.subplots(1, 3, figsize=(7.6, 1.9), layout="constrained")
    show(grid[0], image[0], "image, 120 x 200 pixels")
    show(grid[1], rotate(image, angle)[0], "rotated by 30°")
    show(grid[2], sheared[0], "without the aspect ratio")
    save(figure, "conventions.png")


def save(figure: Any, name: str) -> None:
    """Write on white, so that it can be read on a dark page too."""
    figure.savefig(IMAGES / name, dpi=130, facecolor="white")
    print(IMAGES / name)


@torch.inference_mode()
def main(path: Path) -> None:
    """Draw all three."""
    saved = read_checkpoint(path)
    model = rebuild(saved, path).model
    data = instantiate(saved["config"]["data"], _convert_="all")
    data.setup()
    upright = data.splits.test.__getitems__(torch.arange(len(data.splits.test)))
    batch = data.view(upright, Split.TEST)
    search_encoder(model, upright.image[(upright.label == 2).nonzero()[0]].float() / 255)
    two_peaks(model, batch.image, batch.label)
    conventions()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
