"""On mnist_rot, CLAIM.

    python benchmarks/misread.py --root data [--options model/classifier=residual ...] [--folder FOLDER] [--json PATH]

27 core-minutes of training and one minute of reading. Needs MNIST. Trains `experiment=mnist_rot` on 10,000 images,
with further options if there are any, unless --folder has a finished run. Then it reads 10,000 images that no training
and no test uses: the 2,000 of validation, and the 8,000 of MNIST's 70,000 that mnist_rot leaves out. Each is rotated by
any angle. So the tables may be looked at before options are chosen.

- The first table divides the misread images into those that the classifier also misreads if it is told the true angle,
  and those that are misread only because of the angle that was found.
- The second divides all images by the error of the angle that counts most.
- The third counts the pairs of classes that are confused most, in either order.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.datasets import MNIST

from harness.environment import environment
from harness.jobs import QUICK, trained
from harness.plain_loop import composed
from harness.report import Options, Row, Table, absolute, report
from stnrot.data.image_data import ImageData
from stnrot.data.image_set import ImageSet
from stnrot.data.rng import Split, permutation
from stnrot.geometry import angular_distance, rotate
from stnrot.models.rot_stn import RotSTN
from stnrot.runs.checkpoints import read_checkpoint, rebuild
from stnrot.runs.command_line import one_line_errors

EXPERIMENT = ("experiment=mnist_rot", "data.source.fit_validation=false")
USED = 62_000  # of MNIST's 70,000 images, by mnist_rot
BATCH = 500
LIMITS_DEG = (5, 15, 45, 150, 180)
PAIRS = 10


class Read(NamedTuple):
    """What a model makes of some images."""

    label: Int[Tensor, "N"]
    wrong: Bool[Tensor, "N"]
    wrong_at_true_angle: Bool[Tensor, "N"]
    predicted: Int[Tensor, "N"]
    off_deg: Float[Tensor, "N"]  # error of the angle of the hypothesis that counts most


def held_out(root: Path, validation: ImageSet, split_seed: int) -> ImageSet:
    """Return the validation images of mnist_rot and the images that it does not use."""
    parts = [MNIST(str(root), train=train) for train in (True, False)]
    image, label = (torch.cat([getattr(part, name) for part in parts]) for name in ("data", "targets"))
    unused = permutation((split_seed,), len(image))[USED:]
    assert validation.label is not None
    return ImageSet(torch.cat((validation.image, image[unused, None])), torch.cat((validation.label, label[unused])))


def read(model: RotSTN, data: ImageData) -> Read:
    """Classify the test images of `data`, at the angle that is found and at the true one."""
    assert model.classifier is not None
    batches = []
    for index in torch.arange(len(data.splits.test)).split(BATCH):
        batch = data.view(data.splits.test.__getitems__(index), Split.TEST)
        assert batch.label is not None
        assert batch.angle is not None
        with torch.inference_mode():
            found = model(batch.image, None)
            told = model.classifier(rotate(batch.image, batch.angle)).argmax(1)
        predicted = found.log_probability.argmax(1)
        off = angular_distance(found.orientation.angle[:, 0], batch.angle).rad2deg()
        batches.append(Read(batch.label, predicted != batch.label, told != batch.label, predicted, off))
    return Read(*map(torch.cat, zip(*batches, strict=True)))


def percent(part: Tensor) -> str:
    """Return the share of an array of truth values."""
    return f"{100 * part.float().mean():.2f}" if len(part) else ""


def by_cause(found: Read) -> list[Row]:
    """Divide the misread images."""
    both = found.wrong & found.wrong_at_true_angle
    rows = {
        "misread": found.wrong,
        "of these, misread at the true angle too": both,
        "of these, misread only at the angle that was found": found.wrong & ~found.wrong_at_true_angle,
        "misread at the true angle": found.wrong_at_true_angle,
    }
    return [{"images": name, "% of all": percent(part), "number": int(part.sum())} for name, part in rows.items()]


def by_angle_error(found: Read) -> list[Row]:
    """Divide the images by the error of the angle."""
    rows: list[Row] = []
    for low, high in zip((0, *LIMITS_DEG), LIMITS_DEG, strict=False):
        inside = (found.off_deg >= low) & ((found.off_deg < high) | (high == LIMITS_DEG[-1]))
        rows.append(
            {
                "error of the angle, degrees": f"{low} to {high}",
                "images, %": percent(inside),
                "misread of these, %": percent(found.wrong[inside]),
                "misread at the true angle, %": percent(found.wrong_at_true_angle[inside]),
                "share of all misread, %": percent(inside[found.wrong]),
            }
        )
    return rows


def by_pair(found: Read) -> list[Row]:
    """Count the most frequent confusions."""
    told = found.wrong_at_true_angle[found.wrong].tolist()
    pairs = [
        (min(pair), max(pair))
        for pair in zip(found.label[found.wrong].tolist(), found.predicted[found.wrong].tolist(), strict=True)
    ]
    counts, also = Counter(pairs), Counter(pair for pair, too in zip(pairs, told, strict=True) if too)
    return [
        {"classes": f"{first}, {second}", "misread": number, "at the true angle too": also[first, second]}
        for (first, second), number in counts.most_common(PAIRS)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, read and report."""
    options = Options(__file__, __doc__)
    options.add_root()
    options.add_argument("--folder", type=absolute, default=absolute("outputs/misread"), help="of the run")
    options.add_argument("--options", nargs="+", default=[], metavar="OPTION", help="more options of train.py")
    args = options.read(arguments)
    overrides = [*EXPERIMENT, f"data.root={args.root}", *args.options, *(QUICK * args.quick)]
    checkpoint = trained(args.folder, overrides)
    model: RotSTN = rebuild(read_checkpoint(checkpoint), checkpoint).model.eval().to(memory_format=torch.channels_last)
    data, _ = composed(*EXPERIMENT, f"data.root={args.root}")
    assert isinstance(data.splits.val, ImageSet)
    images = held_out(args.root, data.splits.val, data.split_seed)
    data.splits = replace(data.splits, test=images.subset(torch.arange(BATCH)) if args.quick else images)
    found = read(model, data)
    facts = environment("cpu") | {"images": len(found.label), "parameters": sum(p.numel() for p in model.parameters())}
    tables = [Table("cause", by_cause(found)), Table("by the error of the angle", by_angle_error(found))]
    report(args, facts, *tables, Table("classes that are confused", by_pair(found)))


if __name__ == "__main__":
    with one_line_errors():
        main()
