"""`BlockRotation` is exact where the Neumann series of OFT is off by 0.1 or more, and takes at most 1.3 times its time.

    python benchmarks/block_rotations.py [--device cuda] [--blocks 32 64 ...] [--json PATH]

One minute on two cores. A step is forward and backward, to input and weights, of a batch of rows `[batch, n * 32]`,
such as the tokens of a language model. The peers have the same parameters and rotate the rows by the same product. They
differ in how they compute R = (I + Q) (I - Q)^-1 from the skew matrices Q:

- series: I + 2 Q + 2 Q^2 + 2 Q^3 + Q^4, the first five terms of (I + Q) (I + Q + Q^2 + ...). Source: Z. Qiu et al.,
  Orthogonal finetuning made scalable, 2025.
- solve: `torch.linalg.solve`.

The entries of Q are normal with deviation 0.06, so the norm of Q is about 0.7 for blocks of 32. Prints the milliseconds
of a step, the time of `BlockRotation` divided by that of the peer (the median of the rounds' ratios), and
max |R^T R - I|.
"""

from collections.abc import Sequence
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

from harness.environment import environment
from harness.report import Options, Row, Table, report
from harness.timing import alternate, speedup
from stnrot import BlockRotation
from stnrot.geometry import rotation_defect
from stnrot.runs.command_line import one_line_errors

BLOCK, DEVIATION = 32, 0.06
BATCHES = {32: 10, 256: 5, 2048: 1}  # calls in a round
ROUNDS = 15


class Peer(nn.Module):
    """Orthogonal fine-tuning as it is published: blocks of rotations from skew matrices."""

    def __init__(self, oft_r: Tensor, exact: bool) -> None:
        super().__init__()
        self.weight, self.exact = nn.Parameter(oft_r.clone()), exact
        self.register_buffer("upper", torch.triu_indices(BLOCK, BLOCK, 1))
        self.register_buffer("identity", torch.eye(BLOCK))
        self.upper: Tensor
        self.identity: Tensor

    def matrix(self) -> Tensor:
        """Return R of each block."""
        half = self.weight.new_zeros(len(self.weight), BLOCK, BLOCK)
        half[:, self.upper[0], self.upper[1]] = self.weight
        q = half - half.mT
        if self.exact:
            return torch.linalg.solve(self.identity - q, self.identity + q)
        square = q @ q
        cube = square @ q
        return self.identity + 2 * (q + square + cube) + cube @ q

    def forward(self, z: Tensor) -> Tensor:
        """Return the rows z R."""
        x = z.view(len(z), -1, BLOCK).transpose(0, 1)
        return torch.bmm(x, self.matrix()).transpose(0, 1).reshape(z.shape)


def step(layer: BlockRotation | Peer, x: Tensor, upstream: Tensor) -> None:
    """Run forward, and backward to the input and the weights."""
    x.grad = layer.weight.grad = None
    layer(x).backward(upstream)


def main(arguments: Sequence[str] | None = None) -> None:
    """Time the layers at all sizes and report."""
    options = Options(__file__, __doc__, rounds=1, blocks=[2])
    options.add_device()
    options.add_rounds(ROUNDS)
    options.add_argument("--blocks", type=int, nargs="+", default=[32, 64, 128], metavar="N", help="numbers of blocks")
    args = options.read(arguments)
    torch.manual_seed(0)
    rows: list[Row] = []
    for count in args.blocks:
        oft_r = DEVIATION * torch.randn(count, BLOCK * (BLOCK - 1) // 2)
        ours = BlockRotation(count * BLOCK, BLOCK)
        ours.weight.data = 2 * oft_r
        layers: dict[str, BlockRotation | Peer] = {"BlockRotation": ours.to(args.device)}
        layers |= {name: Peer(oft_r, exact=name == "solve").to(args.device) for name in ("series", "solve")}
        defects = {name: rotation_defect(layer.matrix()).max().item() for name, layer in layers.items()}
        for batch, calls in BATCHES.items():
            x, upstream = torch.randn(2, batch, count * BLOCK, device=args.device)
            x.requires_grad_()
            torch.testing.assert_close(layers["BlockRotation"](x), layers["solve"](x), rtol=0, atol=1e-4)
            methods = {name: partial(step, layer, x, upstream) for name, layer in layers.items()}
            times = alternate(methods, args.rounds, lead_in=1, calls=calls, device=args.device)
            rows.append(
                {"blocks": count, "batch": batch}
                | {f"{name}, ms": 1000 * median(each) for name, each in times.items()}
                | {f"time / that of {name}": speedup(times, name, "BlockRotation") for name in ("series", "solve")}
                | {f"defect, {name}": each for name, each in defects.items()}
            )
    report(args, environment(args.device), Table(f"a step, forward and backward, blocks of {BLOCK}", rows))


if __name__ == "__main__":
    with one_line_errors():
        main()
