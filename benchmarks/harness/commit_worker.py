"""One of two processes that take turns: the training step and the inference of the code that PYTHONPATH names.

    PYTHONPATH=TREE/benchmarks:TREE/src python commit_worker.py DEVICE STEPS OVERRIDE ...

Takes STEPS training steps first. Then it reads from standard input: `train 5` or `infer 5` runs five calls, and the
answer is the seconds that one call takes; `memory` is answered by the largest resident memory so far, in MB.
"""

import resource
import sys
import time
from itertools import islice

import torch

from harness.plain_loop import built, composed, fed, stepper, training_batches
from stnrot.runs.precision import auto_precision

INFERRED = 4  # batches in one call


def main(device: str, steps: int, overrides: list[str]) -> None:
    """Build the task, train it for some steps and answer."""
    torch.manual_seed(0)
    data, cfg = composed(*overrides)
    task = built(cfg, device)
    bf16 = auto_precision(device) == "bf16-mixed"
    batches = training_batches(data, device)
    train = fed(stepper(task, task.configure_optimizers(), device, bf16, cfg.trainer.gradient_clip_val), batches)
    for _ in range(steps):
        train()
    images = torch.cat([batch.image for batch in islice(batches, INFERRED)])

    def infer() -> None:
        task.eval()
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bf16):
            task.model(images, None)
        task.train()

    calls = {"train": train, "infer": infer}
    print(f"ready {data.batch_size} {len(images)}", flush=True)
    for line in sys.stdin:
        name, *count = line.split()
        if name == "memory":
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)
            continue
        start = _now(device)
        for _ in range(int(count[0])):
            calls[name]()
        print((_now(device) - start) / int(count[0]), flush=True)


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
