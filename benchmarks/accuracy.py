"""The rotation-only transformer makes fewer errors on rotated images than its baselines, at equal budgets.

    python benchmarks/accuracy.py --root data [--only mnist_rot ...] [--seeds 3] [--jobs 2] [--runs new.jsonl]
    python benchmarks/accuracy.py --report-only --json docs/results/accuracy.json

One day on two cores for everything; the tables have the core-minutes of each run. Needs MNIST, except for
rotated_digits. Trains and tests every model of every experiment with every seed, by train.py. Each result is a line of
`--runs`, by default docs/accuracy.jsonl. A run with a line is not repeated, so that the same command resumes, also on
another machine. To measure from scratch, name a new file. `--report-only` prints the tables of the known results.

Prints a table for each experiment: test error in percent as mean +- standard deviation (each seed), angle error, share
of half turns, core-minutes and device. With the results of few_labels it draws few_labels.png in --folder, with those
of mnist_rot mnist_rot.png: the error against parameters and against minutes of training, beside published errors.

Equal budgets: in one experiment all models have the same data, classifier, optimizer, epochs and seeds, but for the
rows that name another classifier or number of epochs. `rot_stn` is the default model. In few_labels its classifier is
trained with deviations of up to 25 degrees, and with up to 1,000 images two options keep its encoder from memorising
them. The training images of both `rot_stn` are deformed after the encoder (`model.augment`), those of the others by the
same amounts before the network (`data.augment`). Where images are stored rotated, a deformation before the network is a
second resampling. It made the CNN worse on mnist_rot: 2.94 % error instead of 2.54, on validation images. There the
other models, and `rot_stn` with encoder=cnn, get further rotation by any angle instead, and few_labels has rows of the
CNN with both.

Each run is tested once, with the checkpoint that its experiment selects. The ensemble has three times the budget: three
runs with seeds of their own, tested as one by evaluate.py. The best of four starts also has the budget of its short
runs. It starts from the epoch, of all short runs, with the lowest val/nll (on mnist_rot its images are trained on too).
The test metrics of the short runs are not used.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from harness.accuracy_runs import Result, Runs, core_minutes, summary, test_error
from harness.accuracy_tables import CURVES, EXPERIMENTS, FEW, PUBLISHED, SIZES, all_options, chosen
from harness.accuracy_training import Training
from harness.environment import Facts, environment
from harness.figures import error_by_cost, error_curve
from harness.jobs import PROJECT, QUICK
from harness.plain_loop import parameters
from harness.report import Options, Row, Table, absolute, at_least_one, report
from stnrot.machine import allowed_cores
from stnrot.runs.command_line import one_line_errors


def tabulated(name: str, found: dict[str, list[Result]]) -> list[Table]:
    """Return the table of an experiment, and for `upright_angle` that of the half turns by class."""
    rows: list[Row] = [{"model": model, "runs": len(each), **summary(each)} for model, each in found.items()]
    tables = [Table(name, rows)]
    if name == "upright_angle":
        halves: list[Row] = [
            {"model": model} | {c: f"{mean(each['half_turns'][c] for each in runs):.1f}" for c in runs[0]["half_turns"]}
            for model, runs in found.items()
            if runs[0]["half_turns"]  # not of models without angle labels
        ]
        tables += [Table("upright_angle: angle errors near 180 degrees, % of each class", halves)] if halves else []
    return tables


def draw_curve(path: Path, runs: Runs, seeds: list[int]) -> None:
    """Draw the test error against the number of training images, with the deviation over the seeds."""
    figure, axes = error_curve("training images", FEW)
    means = {}
    for model in CURVES:
        errors = [[test_error(each) for each in runs.of(f"few_labels_{n}", model, seeds)] for n in FEW]
        deviations = [stdev(each) if len(each) > 1 else 0.0 for each in errors]
        means[model] = [mean(each) for each in errors]
        axes.errorbar(FEW, means[model], deviations, fmt="o-", label=model, capsize=3)
    baselines = zip(*(means[model] for model in CURVES if model.startswith("cnn")), strict=True)
    axes.plot(FEW, [each / 2 for each in means["cnn"]], "--", color="grey", label="half the errors of cnn")
    axes.plot(FEW, [min(each) / 2 for each in baselines], ":", color="grey", label="half those of the better cnn")
    axes.legend(fontsize=8, loc="upper right")
    figure.savefig(path)


def draw_sizes(path: Path, found: dict[str, list[Result]]) -> None:
    """Draw the error on mnist_rot of each size of the classifier, beside published errors."""
    points = {}
    for model in ("rot_stn", *SIZES):
        if known := found.get(model):
            minutes = core_minutes(known)
            size = parameters("experiment=mnist_rot", *known[0]["options"]) / 1e6
            points[model] = (size, mean(map(test_error, known)), mean(minutes) if minutes else None)
    error_by_cost(points, PUBLISHED, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and test the runs without a result, and report."""
    options = Options(__file__, __doc__, only=["upright_only"], models=["rot_stn"], seeds=1, runs=None)
    options.add_root()
    options.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS), metavar="TABLE")
    options.add_argument("--models", nargs="+", metavar="ROW", help="names of rows; default: all")
    options.add_argument("--seeds", type=at_least_one, default=3)
    options.add_argument("--jobs", type=at_least_one, default=1, help="runs at a time, which share the cores")
    options.add_argument("--folder", type=absolute, default=absolute("outputs/accuracy"), help="of runs and figure")
    options.add_argument("--runs", type=absolute, default=PROJECT / "docs" / "accuracy.jsonl", help="file of results")
    options.add_argument("--report-only", action="store_true", help="train nothing")
    args = options.read(arguments)
    names = {model for name in args.only for model in EXPERIMENTS[name][1]}
    if args.report_only and args.runs is not None and not args.runs.is_file():
        options.error(f"--runs {args.runs}: expected the file of the results to report")
    if args.models and not names.issuperset(args.models):
        options.error(f"--models {sorted({*args.models} - names)}: expected some of {sorted(names)}")
    args.folder.mkdir(parents=True, exist_ok=True)
    seeds = list(range(1, args.seeds + 1))
    runs = Runs(args.runs or args.folder / "runs.jsonl", all_options())

    tables = chosen(args.only, args.models, seeds)
    facts: Facts = {"seeds": args.seeds}
    if not args.report_only:
        threads = 1 if args.quick else max(1, allowed_cores() // args.jobs)
        Training(args.folder, args.root, runs, args.jobs, threads, QUICK if args.quick else ()).run_all(tables)
        facts |= environment("cpu") | {"threads": f"{threads} a run"}
    reported: list[Table] = []
    for name, rows in tables.items():
        if found := {model: known for model, each in rows.items() if (known := runs.of(name, model, each))}:
            reported += tabulated(name, found)
            if name == "mnist_rot":
                draw_sizes(args.folder / "mnist_rot.png", found)
    report(args, facts, *reported)
    points = [(f"few_labels_{n}", model) for n in FEW for model in CURVES]
    if all(model in tables.get(name, ()) and runs.of(name, model, seeds) for name, model in points):
        draw_curve(args.folder / "few_labels.png", runs, seeds)


if __name__ == "__main__":
    with one_line_errors():
        main()
