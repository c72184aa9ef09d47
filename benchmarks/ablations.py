"""No option of the default models, changed alone, improves on the default by more than twice the scatter of the seeds.

    python benchmarks/ablations.py --root data --photographs data [--seeds 3] [--jobs 2] [--runs new.jsonl]

Nine hours of one core. Needs MNIST in --root and CIFAR-10 in --photographs. Trains `experiment=mnist_rot` for one epoch
and `experiment=upright_photos` for three, as they are and with one option changed, and tests each run once. So the
budgets are small: the default of `mnist_rot` has 12 epochs, that of photographs 46. Each result is a line of `--runs`,
by default docs/ablations.jsonl. A run with a line is not repeated. `--report-only` prints the tables of the known
results.

Prints a table for each experiment: the changed option, the test error or the angle within 5 degrees as mean +- standard
deviation (each seed), its mean difference to the default with the
same seed, and the core-minutes.
"""

from collections.abc import Sequence
from statistics import mean

from harness.ablation_tables import ABLATIONS, DEFAULT, MNIST, PHOTOGRAPHS
from harness.accuracy_runs import Result, Runs, spread, test_error
from harness.accuracy_tables import experiments_of, options_of
from harness.accuracy_training import Training
from harness.environment import Facts, environment
from harness.jobs import PROJECT, QUICK
from harness.report import Options, Row, Table, absolute, at_least_one, report
from stnrot.machine import allowed_cores
from stnrot.runs.command_line import one_line_errors


def within_5(result: Result) -> float:
    """Return the share of angles within 5 degrees, in percent."""
    return float(100 * result["test/angle_within_5deg"])


def rows(table: str, found: dict[str, list[Result]]) -> list[Row]:
    """Return the rows of a table; the first is the default."""
    column, score = ("test error, %", test_error) if table == MNIST else ("angle within 5 degrees, %", within_5)
    default = {each["seed"]: score(each) for each in found[DEFAULT]}
    table_rows: list[Row] = []
    for name, results in found.items():
        more = [score(each) - default[each["seed"]] for each in results if each["seed"] in default]
        table_rows.append(
            {
                "changed": f"`{name}`" if name != DEFAULT else name,
                "runs": len(results),
                column: spread([score(each) for each in results]),
                "more than the default": f"{mean(more):+.2f}" if more else "",
                "median angle error, degrees": spread([each["test/angle_median_deg"] for each in results], ".1f"),
                "core-minutes each": f"{mean(each['core_minutes'] for each in results):.0f}",
            }
        )
    return table_rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and test the runs without a result, and report."""
    options = Options(__file__, __doc__, seeds=1, runs=None, rows=[DEFAULT])
    options.add_root()
    options.add_argument("--photographs", type=absolute, default=absolute("data"), help="folder of CIFAR-10")
    options.add_argument("--only", nargs="+", choices=ABLATIONS, default=list(ABLATIONS), metavar="TABLE")
    options.add_argument("--rows", nargs="+", metavar="ROW", help="rows beside the default; all by default")
    options.add_argument("--seeds", type=at_least_one, default=3)
    options.add_argument("--jobs", type=at_least_one, default=1, help="runs at a time, which share the cores")
    options.add_argument("--folder", type=absolute, default=absolute("outputs/ablations"), help="of the runs")
    options.add_argument("--runs", type=absolute, default=PROJECT / "docs" / "ablations.jsonl", help="of results")
    options.add_argument("--report-only", action="store_true", help="train nothing")
    args = options.read(arguments)
    every = {name for _, rows_of in ABLATIONS.values() for name in rows_of}
    if args.rows and not every.issuperset(args.rows):
        options.error(f"--rows {sorted({*args.rows} - every)}: expected some of {sorted(every)}")
    if args.report_only and args.runs is not None and not args.runs.is_file():
        options.error(f"--runs {args.runs}: expected the file of the results to report")
    args.folder.mkdir(parents=True, exist_ok=True)
    seeds = list(range(1, args.seeds + 1))
    runs = Runs(args.runs or args.folder / "runs.jsonl", options_of(ABLATIONS))
    chosen = {
        table: [row for row in ABLATIONS[table][1] if args.rows is None or row in (DEFAULT, *args.rows)]
        for table in args.only
    }
    facts: Facts = {"seeds": args.seeds}
    if not args.report_only:
        threads = 1 if args.quick else max(1, allowed_cores() // args.jobs)
        for table, names in chosen.items():
            root = args.photographs if table == PHOTOGRAPHS else args.root
            quick = QUICK if args.quick else ()
            training = Training(args.folder, root, runs, experiments_of(ABLATIONS), args.jobs, threads, quick)
            training.run_all({table: dict.fromkeys(names, seeds)})
        facts |= environment("cpu") | {"threads": f"{threads} a run"}
    tables: list[Table] = []
    for table, names in chosen.items():
        found = {name: known for name in names if (known := runs.of(table, name, seeds))}
        if DEFAULT in found:
            tables.append(Table(table, rows(table, found)))
    report(args, facts, *tables)


if __name__ == "__main__":
    with one_line_errors():
        main()
