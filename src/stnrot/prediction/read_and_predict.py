"""Read image files and predict for them on all cores, a portion of files in each thread."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

from stnrot.errors import InputError
from stnrot.machine import allowed_cores
from stnrot.prediction.image_predictor import ImagePredictor

MAX_FILES, MAX_VALUES = 128, 2**21  # of a portion: its files, and their values for the model
MIN_FILES, MAX_BYTES = 16, 2**20  # a portion of larger files has fewer; PyTorch is slow at very few images

T = TypeVar("T")
Pixels = UInt8[np.ndarray, "C H W"]


def read_and_predict(
    predictor: ImagePredictor, files: Iterable[Path], answers: Callable[[UInt8[np.ndarray, "B C H W"]], Iterable[T]]
) -> Iterator[T | InputError]:
    """Yield for each file, in order, what `answers` gives for its image, or why the file cannot be read.

    Few portions are in memory at once. `answers` is called in several threads, so the model should use one core.
    """
    most = max(1, min(MAX_FILES, MAX_VALUES // int(np.prod(predictor.spec.shape))))
    one_at_a_time = Lock()

    def read_portion(portion: Sequence[Path], is_small: bool) -> list[T | InputError]:
        # A small file needs the interpreter more than the decoder: threads that read such files wait for each other.
        with one_at_a_time if is_small else nullcontext():
            read = [read_or_error(predictor, file) for file in portion]
        good = [pixels for pixels in read if not isinstance(pixels, InputError)]
        found = iter(answers(np.stack(good)) if good else ())
        return [pixels if isinstance(pixels, InputError) else next(found) for pixels in read]

    cores = allowed_cores()
    running: deque[Future[list[T | InputError]]] = deque()
    with ThreadPoolExecutor(cores) as pool:
        try:
            for portion, size in _portions(files, most):
                running.append(pool.submit(read_portion, portion, size < MAX_BYTES))
                if len(running) > 2 * cores:
                    yield from running.popleft().result()
            while running:
                yield from running.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def read_or_error(predictor: ImagePredictor, file: Path) -> Pixels | InputError:
    """Decode a file for a model, or return why it cannot be read."""
    try:
        return predictor.decoding.read(file)
    except InputError as error:
        return error
    except OSError as error:  # a name that no file can have, or a folder without permission
        return InputError(f"{file}: {error}")


def _portions(files: Iterable[Path], most: int) -> Iterator[tuple[list[Path], int]]:
    """Divide files; yield each portion with its bytes."""
    files = iter(files)
    while first := next(files, None):
        portion, size = [first], _bytes(first)
        for file in islice(files, most - 1):
            portion.append(file)
            size += _bytes(file)
            if size >= MAX_BYTES and len(portion) >= MIN_FILES:
                break
        yield portion, size


def _bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except (OSError, ValueError):  # has its error when it is read
        return 0
