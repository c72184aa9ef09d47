"""The handwritten digits in scikit-learn: real images without a download."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from stnrot.data.image_set import ImageSet, Splits
from stnrot.data.rng import permutation

TRAIN, VAL, TEST = 1000, 297, 500


def digits(root: Path | None, split_seed: int) -> Splits:
    """Return 1,797 digits at 28 x 28: 1,000 to train, 297 to validate, 500 to test, drawn by `split_seed`.

    The 8 x 8 originals (values 0 to 16) are enlarged bicubically to 20 x 20 and centred on black, as in MNIST. So no
    rotation cuts the corners of a digit off. `root` is not used.

    Source: the test part of E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    table = torch.from_numpy(_table())
    small = table[:, :64].reshape(-1, 1, 8, 8).float() * (255 / 16)
    large = F.interpolate(small, size=(20, 20), mode="bicubic", align_corners=False)
    image = F.pad(large, (4, 4, 4, 4)).round().clamp(0, 255).to(torch.uint8)
    everything = ImageSet(image, table[:, 64].long())
    train, val, test = permutation((split_seed,), len(image)).split((TRAIN, VAL, TEST))
    return Splits(everything.subset(train), everything.subset(val), everything.subset(test), tuple("0123456789"))


def _table() -> np.ndarray:
    """Return scikit-learn's table: one row for each image, 64 pixels and the class.

    The file is read without an import of scikit-learn, which takes a second.
    """
    package = find_spec("sklearn")
    for folder in [] if package is None else package.submodule_search_locations or []:
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits  # another release may keep the file elsewhere

    found = load_digits()
    return np.column_stack((found.data, found.target))
