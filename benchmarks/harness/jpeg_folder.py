"""A folder of many JPEG files."""

import io
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_image

IN_CLASS, KINDS = 1000, 50


def write_images(root: Path, files: int, side: int) -> int:
    """Write square parts of a photograph into class folders of 1,000; return the bytes of all files.

    There are 50 different files; the others are copies.
    """
    photograph = Image.fromarray(load_sample_image("china.jpg"))
    contents = []
    for k in range(KINDS):
        part = io.BytesIO()
        photograph.crop((7 * k, 3 * k, 7 * k + side, 3 * k + side)).save(part, "JPEG")
        contents.append(part.getvalue())
    for k in range(files):
        folder = root / f"class{k // IN_CLASS:04d}"
        if k % IN_CLASS == 0:
            folder.mkdir(parents=True)
        with open(f"{folder}/{k:07d}.jpg", "wb") as file:
            file.write(contents[k % KINDS])
    return sum(len(contents[k % KINDS]) for k in range(files))
