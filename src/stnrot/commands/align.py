"""`stnrot align`: what `stnrot.align` finds, for one pair or for a list of them."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stnrot.alignment.aligner import Aligner, Alignment, confidence
from stnrot.alignment.inputs import read_file
from stnrot.alignment.manifest import align_manifest
from stnrot.commands.output import check_output, write_picture
from stnrot.errors import InputError
from stnrot.geometry import rotate

LIKELY = 0.02  # an angle of less confidence is not worth a line


def add(commands: Any) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "align",
        help="tell by how much two pictures are turned against each other",
        description="Find the angle that turns IMAGE, counter-clockwise, onto REFERENCE, and how sure that is: the "
        "probability that it is right within 5 degrees. Without --ckpt the pictures themselves are correlated, which "
        "is for two pictures of the same thing; with it the encoder of a run of `train.py` looks at them.",
    )
    command.add_argument("image", nargs="?", type=Path, metavar="IMAGE")
    command.add_argument("reference", nargs="?", type=Path, metavar="REFERENCE")
    command.add_argument(
        "--manifest",
        type=Path,
        metavar="CSV",
        help="a list of pairs: a table with the columns image,reference, paths relative to it. Needs --out; what is "
        "written there already is not done again. A pair that cannot be aligned has its reason in the column error, "
        "and then the command exits with 1",
    )
    command.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where to write the aligned picture or, of a manifest, the table: "
        "line,image,reference,angle_deg,confidence,model,error",
    )
    command.add_argument(
        "--ckpt",
        type=Path,
        metavar="CKPT",
        help="best.ckpt of a run of model=rot_stn, on pairs or not",
    )
    command.add_argument("--json", action="store_true", help="print JSON (of one pair)")
    command.set_defaults(run=_align)


def _align(args: argparse.Namespace) -> int:
    if args.manifest is not None:
        if args.image is not None or args.json:
            raise InputError("--manifest takes the place of IMAGE and REFERENCE, and writes a table, not JSON")
        if args.out is None:
            raise InputError("--manifest needs --out: expected the CSV file to write, such as --out results.csv")
        return align_manifest(args.manifest, args.out, args.ckpt)
    if args.reference is None:
        raise InputError("expected two pictures, IMAGE REFERENCE, or --manifest pairs.csv")
    if args.out is not None:
        check_output(args.out, args.image, args.reference)
    found = Aligner(args.ckpt)(args.image, args.reference)
    _print(args, found)
    if args.out is not None:
        _write_aligned(args.image, found.angle, args.out)
    return 0


def _print(args: argparse.Namespace, found: Alignment) -> None:
    angles, chances = found.orientation.angle[0].rad2deg().tolist(), confidence(found.orientation)[0].tolist()
    every = dict(zip(angles, chances, strict=True))  # a hypothesis that is missing repeats the best
    best, *others = ({"angle_deg": angle, "confidence": chance} for angle, chance in every.items())
    likely = [best, *(other for other in others if other["confidence"] >= LIKELY)]
    if args.json:
        print(json.dumps({"image": str(args.image), "reference": str(args.reference)} | best | {"hypotheses": likely}))
        return
    print(f"angle      {_degrees(angles[0])} degrees counter-clockwise\nconfidence {chances[0]:.3f}")
    for other in likely[1:]:
        print(f"or         {_degrees(other['angle_deg'])} degrees, confidence {other['confidence']:.3f}")


def _degrees(angle: float) -> str:
    return f"{round(angle, 2) + 0.0:.2f}"  # no minus before zero


def _write_aligned(path: Path, angle: torch.Tensor, out: Path) -> None:
    """Turn the picture as it is in its file: in colour or deep, also where it was compared in grey; no transparency."""
    picture = read_file(path, channels=None)[None]
    most, kind = (255, np.uint8) if picture.dtype is torch.uint8 else (65535, np.uint16)
    scale = 1 if picture.dtype is torch.uint8 else most
    turned = (rotate(picture.float(), angle, "bicubic") * scale).round().clamp(0, most)[0]
    write_picture(turned.permute(1, 2, 0).squeeze(2).numpy().astype(kind), out)
