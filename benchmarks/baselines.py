"""The rotation-only transformer against its baselines on the embedded digits, by whole runs of train.py.

    python benchmarks/baselines.py [--seeds 5] [--json PATH] [key=value ...]

takes about 20 minutes on two cores. Every model has the same classifier, data, turns, epochs and optimizer, and
the losses that it can have: `rot_stn` alone predicts an angle, is told the true ones in training, and has a
reference picture to lie on; `--told-nothing` adds a row of it with the classification loss alone. Each run tests,
once, the checkpoint that was best on the validation set. Further arguments are passed on to train.py,
data=rotated_mnist for example.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev

from timing import environment, report  # type: ignore[import-not-found]

TRAIN = Path(__file__).resolve().parents[1] / "train.py"
MODELS = ("rot_stn", "affine_stn", "cnn")


def results(model: str, seeds: int, overrides: list[str]) -> list[dict[str, float]]:
    """Train one model with every seed; return the test metrics of each run."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [f"model={model}", f"seed={','.join(str(1 + s) for s in range(seeds))}", *overrides]
        subprocess.run(
            [sys.executable, str(TRAIN), "-m", *arguments, f"hydra.sweep.dir={folder}"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return [json.loads((Path(folder) / str(s) / "metrics.json").read_text()) for s in range(seeds)]


def main() -> None:
    """Train, test and report."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, default=5, help="at least 2")
    options.add_argument("--json", type=Path, metavar="PATH", help="write the table there as well")
    options.add_argument("--told-nothing", action="store_true", help="a row more")
    args, overrides = options.parse_known_args()
    methods = {model: (model, overrides) for model in MODELS}
    if args.told_nothing:
        weights = ["task.angle_weight=0", "task.photometric_weight=0"]
        methods["rot_stn, classes alone"] = ("rot_stn", [*overrides, *weights])
    rows = []
    for name, (model, options_of_it) in methods.items():
        runs = results(model, args.seeds, options_of_it)
        errors = [100 * (1 - run["test/accuracy"]) for run in runs]
        medians = [run["test/angle_median_deg"] for run in runs if "test/angle_median_deg" in run]
        rows.append(
            {
                "model": name,
                "test error, %": f"{mean(errors):.2f} +- {stdev(errors):.2f}",
                "each seed": ", ".join(f"{error:.1f}" for error in errors),
                "median angle error, degrees": f"{mean(medians):.1f}" if medians else "",
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
    report(environment("cpu") | {"seeds": args.seeds}, rows, args.json)


if __name__ == "__main__":
    main()
