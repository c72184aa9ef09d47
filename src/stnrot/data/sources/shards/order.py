"""The order in which a training goes through the images of shards, made with little memory for large sets."""

import numpy as np
import torch
from jaxtyping import Int, UInt32
from torch import Tensor

from stnrot.data.rng import Key, bits

CHUNK = 2**18  # images whose random numbers are in memory at once, at least one shard's


def shard_order(shard: UInt32[np.ndarray, "N"], parts: int, key: Key, count: int) -> Int[Tensor, "{count}"]:
    """Return a random order of `range(count)`, for `count` a multiple of the number of images, shard by shard.

    Each pass goes through the shards in a random order, and through the images of a shard in a random order. This
    sequence is cut into `parts` equal parts, from which the images are taken in turn. While it is made, it takes up to
    32 bytes of memory an image, and less than 100 MB more unless a shard has many images.

    Args:
        shard: of each image.
        parts: from 1 to the number of images.
        key: of the random numbers.
        count: of all passes together.
    """
    images = np.argsort(shard, kind="stable")
    size = np.bincount(shard)
    start = np.cumsum(size) - size
    sequence = torch.empty(len(shard), dtype=torch.int64)
    whole = len(shard) - len(shard) % parts
    order = torch.empty(count, dtype=torch.int64)
    for number, taken in enumerate(order.view(-1, len(shard))):
        turn = bits((*key, number, 0), torch.arange(len(size)), 1)[:, 0].argsort(stable=True).numpy()
        end = np.cumsum(size[turn])
        done = first = 0
        while done < len(shard):
            last = max(first + 1, int(np.searchsorted(end, done + CHUNK, "right")))
            shards = turn[first:last]
            chunk = np.concatenate([images[start[each] : start[each] + size[each]] for each in shards])
            inside = bits((*key, number, 1), torch.from_numpy(chunk), 1)[:, 0].numpy()
            mixed = chunk[np.lexsort((inside, np.repeat(np.arange(len(shards)), size[shards])))]
            sequence[done : done + len(chunk)] = torch.from_numpy(mixed)
            done, first = done + len(chunk), last
        taken[:whole].view(-1, parts).copy_(sequence[:whole].view(parts, -1).T)
        taken[whole:] = sequence[whole:]
        taken += number * len(shard)
    return order
