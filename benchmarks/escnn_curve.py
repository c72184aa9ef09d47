"""Error against training time on rotated MNIST, beside escnn: equal minutes, the same pictures, the same machine.

    pip install escnn==1.0.11 "numpy<2"        # builds py3nj, which takes a Fortran compiler
    python benchmarks/escnn_curve.py --root data [--minutes 2 8 30] [--png PATH] [--json PATH]

trains each network for so many minutes on the 12,000 pictures of `experiment=mnist_rot`, in a plain loop: AdamW, its
learning rate one cycle over the time, not over steps, so that whoever is slower takes fewer of them. Tested, once, on
the whole 50,000. Takes 80 minutes by itself; nothing else should run. Without escnn its rows are left out.

The network of escnn (M. Weiler and G. Cesa, General E(2)-Equivariant Steerable CNNs, 2019) is equivariant to turns
by multiples of 45 degrees, in the form of that paper's small models: regular fields, inner batch norm, antialiased
pooling, pooling over the group, its width chosen on the validation pictures for each time. Its training pictures are
turned by any angle and deformed by the same amounts as those of stnrot.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from timing import environment, markdown  # type: ignore[import-not-found]
from torch import Tensor, nn
from train import composed  # type: ignore[import-not-found]
