"""The handwritten digits in scikit-learn: real images without a download."""

from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from stnrot.data.image_set import ImageSet, Splits
from stnrot.data.rng import permutation

TRAIN, VAL, TEST = 1000, 297, 500


def digits(root: Path | None, split_seed: int) -> Splits:
    """Return 1,797 digits at 28 x 28: 1,000 to train, 297 to validate, 500 to test, drawn by `split_seed`.

    The 8 x 8 originals (values 0 to 16) are enlarged bicubically to 20 x 20 and centred on black, as in MNIST. So no
    rotation cuts the corners of a digit off. `root` is not used.

    Source: the test part of E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    bunch = load_digits()
    small = torch.from_numpy(bunch.images).float()[:, None] * (255 / 16)
    large = F.interpolate(small, size=(20, 20), mode="bicubic", align_corners=False)
    image = F.pad(large, (4, 4, 4, 4)).round().clamp(0, 255).to(torch.uint8)
    everything = ImageSet(image, torch.from_numpy(bunch.target).long())
    train, val, test = permutation((split_seed,), len(image)).split((TRAIN, VAL, TEST))
    return Splits(everything.subset(train), everything.subset(val), everything.subset(test), tuple("0123456789"))
