"""Alignment by a trained run: on pairs, or with a learned reference."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sample_images import by_pillow, scene
from scipy import stats
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from stnrot import Aligner, align
from stnrot.alignment.posterior import fuse_posteriors
from stnrot.data.sources.digits import digits
from stnrot.errors import InputError
from stnrot.geometry import correlate
from stnrot.models.confidence import confidence
from stnrot.models.outputs import Orientation


def off(found: torch.Tensor, degrees: np.ndarray) -> np.ndarray:
    return np.abs((np.degrees(found.numpy()) - degrees + 180) % 360 - 180)


@pytest.mark.ci
def test_a_trained_run_aligns(job) -> None:
    _, folder = job(
        "task=register", "data=image_pairs", "data.n_train=null", "data.repeats=4", "callbacks.alignment_figures=null"
    )
    checkpoint = folder / "checkpoints" / "best.ckpt"
    aligner = Aligner(checkpoint)
    image, turns = scene(64, 64), range(10, 370, 30)
    batch = torch.stack([tv.rotate(image, turn, InterpolationMode.BILINEAR) for turn in turns])
    found = aligner(batch, image)
    error = off(found.angle, -np.array(turns))
    assert error.max() < 0.3
    alone = Aligner(checkpoint, refine=False)(batch, image)
    assert error.max() < off(alone.angle, -np.array(turns)).max() < 5
    assert found.confidence.dtype is found.angle.dtype is torch.float32, "also where the encoder runs in bf16"
    for double in (aligner(batch.double(), image), aligner(batch, image.double())):
        np.testing.assert_allclose(double.angle.numpy(), found.angle.numpy(), atol=1e-3)
    wide = torch.nn.functional.pad(image, (20, 20, 0, 0))
    np.testing.assert_allclose(aligner(batch, wide).angle.numpy(), found.angle.numpy(), atol=1e-3)
    once = align(batch, image, model=checkpoint)
    assert torch.equal(once.angle, found.angle)
    with pytest.raises(InputError, match="the image has 3 channels: expected 1"):
        aligner(torch.rand(3, 30, 30), torch.rand(3, 30, 30))
    with pytest.raises(InputError, match=r"the reference has values from .* expected 0 to 1"):
        aligner(image, 2 * image)


@pytest.mark.ci
def test_a_run_with_a_learned_reference_aligns(job) -> None:
    """Two upright digits, each rotated by torchvision: the angle between them is the difference."""
    _, folder = job(
        "task=register",
        "model.reference=features",
        "data.n_train=null",
        "data.repeats=4",
        "callbacks.alignment_figures=null",
    )
    val = digits(None, 0).val.image[:60]
    turns = np.random.default_rng(0).uniform(-180, 180, (60, 2))
    image, reference = (
        torch.stack([tv.rotate(p, turn, InterpolationMode.BILINEAR) for p, turn in zip(val, turns[:, k], strict=True)])
        for k in (0, 1)
    )
    aligner = Aligner(folder / "checkpoints" / "best.ckpt")
    found = aligner(image, reference.roll(1, 0))  # another digit
    true = np.roll(turns[:, 1], 1) - turns[:, 0]
    error = off(found.angle, true)
    assert np.median(error) < 30
    assert found.orientation.log_posterior is not None
    sure = found.confidence > found.confidence.median()
    assert np.median(error[sure]) <= np.median(error)


def test_a_checkpoint_without_a_search_encoder_is_refused(job, tmp_path: Path) -> None:
    pairs_too = ("debug=one_batch", "task=register", "data=image_pairs", "model/encoder=cnn", "model.reference=batch")
    for options in (("debug=one_batch", "model=cnn"), ("debug=one_batch", "model=affine_stn"), pairs_too):
        _, folder = job(
            *options, "callbacks.alignment_figures=null", folder=tmp_path / str(len(list(tmp_path.iterdir())))
        )
        with pytest.raises(
            InputError, match="has no encoder that searches the angle: train model=rot_stn model/encoder=polar"
        ):
            Aligner(folder / "checkpoints" / "best.ckpt")


@pytest.mark.parametrize("bins", [64, 512])
@pytest.mark.parametrize("off_deg", [0.0, 2.0])
def test_the_confidence_is_the_mass_within_5_degrees(bins: int, off_deg: float) -> None:
    """Of a von Mises distribution in equal bins, by scipy; its mean lies between two bins."""
    mean = math.radians(43.3)
    bin_angle = torch.arange(bins, dtype=torch.float64) * (2 * math.pi / bins)
    log_posterior = (50 * (bin_angle - mean).cos()).log_softmax(0)[None]
    angle = torch.tensor([[mean + math.radians(off_deg)]], dtype=torch.float64)
    found = confidence(Orientation(angle, torch.zeros_like(angle), log_posterior)).item()
    low, high = (stats.vonmises.cdf(math.radians(off_deg + side), 50) for side in (-5, 5))
    assert found == pytest.approx(high - low, abs=0.02)


def posterior(degrees: float, concentration: float) -> Orientation:
    bin_angle = torch.arange(64) * (2 * math.pi / 64)
    angle = torch.full((1, 1), math.radians(degrees))
    return Orientation(angle, torch.zeros(1, 1), (concentration * (bin_angle - angle).cos()).log_softmax(1))


def test_matching_pixels_correct_the_encoder() -> None:
    image = scene(64, 64)[None]
    turned, degrees = by_pillow(image[0])
    for wrong in (3, 100):
        found = fuse_posteriors(posterior(degrees + wrong, 5), correlate(image, turned[None]), 2)
        assert math.degrees(found.angle[0, 0].item()) == pytest.approx(degrees, abs=0.2)
        assert confidence(found)[0, 0].item() > 0.95


def test_fusion_never_raises_the_photometric_error() -> None:
    """Pairs rotated by Pillow with strong noise, and an encoder that is off by some degrees."""
    rng = np.random.default_rng(0)
    changed = 0
    for _ in range(30):
        image = scene(64, 64)
        turned, degrees = by_pillow(image)
        noisy = (turned + 0.4 * torch.from_numpy(rng.normal(size=turned.shape)).float())[None]
        given = posterior(degrees + rng.normal(0, 6), 30)
        correlation = correlate(image[None], noisy)
        found = fuse_posteriors(given, correlation, 1)
        before, after = (correlation.value_and_derivatives(each.angle)[0].abs().item() for each in (given, found))
        assert after >= before
        changed += after > before
    assert changed > 15


def test_fusion_keeps_the_encoder_where_the_pixels_do_not_match() -> None:
    image = scene(64, 64)[None]
    turned, degrees = by_pillow(image[0])
    noisy = turned[None] + 2 * torch.randn(1, 1, 64, 64)
    given = posterior(degrees + 100, 20)
    found = fuse_posteriors(given, correlate(image, noisy), 2)
    assert math.degrees(found.angle[0, 0].item()) == pytest.approx(degrees + 100, abs=5)
    assert confidence(found)[0, 0].item() == pytest.approx(confidence(given)[0, 0].item(), abs=0.1)
