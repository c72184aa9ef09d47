"""`stnrot shards`: tar files of the webdataset format from a folder of images."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from stnrot.errors import InputError, check_number, needs_extra
from stnrot.printed import printable
from stnrot.regular_file import real

EXAMPLES = """
Examples:

- `stnrot shards FOLDER shards`

- `stnrot shards FOLDER shards --shard-mb 64 --val-fraction 0.1 --test-fraction 0.1`
"""
Fraction = Annotated[float, typer.Option(help="Share of the images, class by class, if FOLDER has no folder for it.")]


def shards(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Folder of images: a folder for each class, or the same below train, val and test, as for "
            "data=image_folder.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder for the shards.")],
    shard_mb: Annotated[
        float, typer.Option(help="Largest size of a shard in megabytes, if it has several images.")
    ] = 256,
    val_fraction: Fraction = 0.15,
    test_fraction: Fraction = 0.15,
    seed: Annotated[int, typer.Option(help="Of the split, and of the order of the training images.")] = 0,
    on_bad_image: Annotated[
        Literal["error", "skip"], typer.Option(help="What to do with a file that is no image: stop, or leave it out.")
    ] = "error",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the shards in OUT.")] = False,
) -> int:
    """Write the images of a folder to tar files (shards) of the webdataset format.

    `train.py data=image_shards data.root=OUT` trains on them, also from a web server. The files of the images are
    copied as they are. The training images are shuffled; so a shard has images of all classes. The splits are those of
    data=image_folder with the same fractions and data.split_seed.
    """
    check_number("shard_mb", shard_mb, 1e-3, whole=False)
    check_number("seed", seed, 0, 2**32 - 1)
    check_number("val_fraction", val_fraction, 0, 1, whole=False)
    check_number("test_fraction", test_fraction, 0, 1, whole=False)
    if val_fraction + test_fraction > 1:
        raise InputError(
            f"val_fraction={val_fraction}: expected at most 1 - {test_fraction:g}, the share of the test set"
        )
    if not folder.is_dir():
        raise InputError(f"FOLDER {folder}: expected a folder of images, found none")
    with needs_extra("stnrot shards"):
        from stnrot.data.sources.image_folder import ImageFolder
        from stnrot.data.sources.shards.new_folder import new_folder
        from stnrot.data.sources.shards.write import write_shards
        from stnrot.runs.tables.growing_table import progress_bar

    if real(out) in (real(folder), *real(folder).parents):
        raise InputError(f"OUT {out} holds FOLDER {folder}: expected another folder")
    with new_folder(out, overwrite) as new:
        source = ImageFolder(
            image_size=(4, 4),  # nothing is decoded
            fit="crop",
            channels=None,
            max_pixels=100_000_000,
            on_bad_image=on_bad_image,
            memory_gb=0,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
        )
        try:
            splits = source(folder, seed)
        except InputError as error:
            raise InputError(str(error).replace("data.source.on_bad_image=", "--on-bad-image ")) from error
        if not len(splits.train):
            raise InputError(f"FOLDER {folder}: no image is left for training; lower --val-fraction or --test-fraction")
        count = sum(len(part) for part in (splits.train, splits.val, splits.test))
        with progress_bar(count, 0, "shards") as bar:
            info = write_shards(folder, splits, new, int(shard_mb * 1e6), seed, lambda: bar.advance(bar.task_ids[0]))
    for name, split in info.splits.items():
        print(printable(f"{name}: {split.num_samples} images in {len(split.filenames)} shards"))
    print(printable(f"written: {out}"))
    return 0
