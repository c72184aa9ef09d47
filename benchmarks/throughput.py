"""The default model trains on 850 to 1,500 and classifies 5,000 to 6,000 digits of 28 x 28 pixels a second.

    python benchmarks/throughput.py [--root data] [--device cuda] [--batch 4096] [--json PATH] [--against COMMIT]

Three minutes on two cores. Needs MNIST. The model first takes 300 training steps, since it looks at fewer hypotheses
where one is certain. Prints the images a second of training steps, of inference and of the encoder alone. The last row
is a job of train.py: the rate from the end of the first epoch to the end of the third, with validation, figures and
checkpoints. On a GPU an epoch of that job is ten times the training set.

With `--against COMMIT` it compares this code with that of another commit instead: training and inference on MNIST and
on images in colour of 32 x 32 pixels. Two processes take turns, a few steps at a time. They have the same data and
options, and each loads its own code and configuration. A ratio is the time of the commit divided by that of this code:
the median of the rounds' ratios. The memory is the largest of the process so far. On a busy machine set
OMP_NUM_THREADS=1; otherwise the time that threads wait for one another is measured.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from harness.environment import environment
from harness.jobs import QUICK, run_job
from harness.plain_loop import built, composed, fed, rotated_mnist, stepper, training_batches
from harness.report import Options, Row, Table, at_least_one, report
from harness.timing import alternate
from harness.two_commits import SIDE, compare, known_commit, photographs
from stnrot.models.rot_stn import RotSTN
from stnrot.runs.command_line import one_line_errors
from stnrot.runs.precision import auto_precision

REPEATS = {"cpu": 1, "cuda": 10}  # of the training set in an epoch of train.py
EPOCHS = 3


def default_model(root: Path, batch: int, steps: int, device: str, bf16: bool, rounds: int) -> list[Row]:
    """Train the default model for some steps; then time training and inference, and the encoder alone."""
    data, cfg = composed(*rotated_mnist(root, batch))
    task = built(cfg, device)
    step = stepper(task, task.configure_optimizers(), device, bf16, cfg.trainer.gradient_clip_val)
    batches = training_batches(data, device)
    for _ in range(steps):
        step(next(batches))
    images = torch.cat([next(batches).image for _ in range(4)])

    def infer(model: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            task.eval()
            with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bf16):
                model()
            task.train()

        return run

    net = task.model
    assert isinstance(net, RotSTN)

    def with_one(call: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            net.hypotheses = 1
            call()
            net.hypotheses = cfg.model.hypotheses

        return run

    train, classify = fed(step, batches), infer(lambda: net(images, None))
    methods = {
        "training, images and network": (train, batch),
        "the same, model.hypotheses=1": (with_one(train), batch),
        "inference": (classify, len(images)),
        "inference, model.hypotheses=1": (with_one(classify), len(images)),
        "inference, encoder alone": (infer(lambda: net.orient(images, None)), len(images)),
    }
    times = alternate({name: call for name, (call, _) in methods.items()}, rounds, lead_in=1, calls=5, device=device)
    parameters = sum(p.numel() for p in task.parameters())
    return [
        {"default model": name, "images/s": size / median(times[name]), "parameters": f"{parameters:,}"}
        for name, (_, size) in methods.items()
    ]


def whole_job(root: Path, batch: int, device: str, quick: bool) -> Row:
    """Run train.py and return its rate from the end of the first epoch to the end of the last."""
    with TemporaryDirectory() as folder:
        overrides = [*rotated_mnist(root, batch), f"trainer={'cpu' if device == 'cpu' else 'gpu'}"]
        overrides += [f"data.repeats={REPEATS[device]}", *(QUICK if quick else ()), f"trainer.max_epochs={EPOCHS}"]
        run_job("train.py", Path(folder) / "run", overrides)
        losses = EventAccumulator(str(Path(folder) / "run" / "tensorboard")).Reload().Scalars("train/loss")
    steps = losses[-1].step - losses[0].step
    rate = steps * batch / (losses[-1].wall_time - losses[0].wall_time)
    return {"default model": f"train.py, {steps * batch:,} images", "images/s": rate, "parameters": ""}


def main(arguments: Sequence[str] | None = None) -> None:
    """Time the steps, then the job, and report."""
    options = Options(__file__, __doc__, rounds=1, batch=8, steps=2)
    options.add_device()
    options.add_rounds(10)
    options.add_root()
    options.add_argument("--batch", type=at_least_one, default=128)
    options.add_argument("--steps", type=at_least_one, default=300, help="of training before the first measurement")
    options.add_argument("--against", type=known_commit, metavar="COMMIT", help="compare with this commit instead")
    args = options.read(arguments)
    precision = auto_precision(args.device)
    facts = environment(args.device) | {"precision": precision, "batch": args.batch}
    if args.against is not None:
        with TemporaryDirectory() as name:
            folder = Path(name)
            colour = ["data=image_folder", f"data.root={photographs(folder / 'photographs')}"]
            colour += [f"data.source.image_size=[{SIDE},{SIDE}]"]
            data = {
                "28 x 28": rotated_mnist(args.root, args.batch),
                "32 x 32 in colour": [*colour, f"data.batch_size={args.batch}"],
            }
            calls = 1 if args.quick else 3
            rows = compare(args.against, data, args.device, args.steps, args.rounds, calls, folder / "code")
        report(args, facts, Table(f"the default model, beside that of commit {args.against}", rows))
        return
    torch.manual_seed(0)
    rows = default_model(args.root, args.batch, args.steps, args.device, precision == "bf16-mixed", args.rounds)
    rows.append(whole_job(args.root, args.batch, args.device, args.quick))
    report(args, facts, Table("rates of the default model", rows))


if __name__ == "__main__":
    with one_line_errors():
        main()
