import math

import torch
from hypothesis import example, given
from hypothesis import strategies as st

from stnrot.data.batch_samplers import EvaluationBatches, TrainingBatches


def test_every_epoch_shows_every_image_repeats_times() -> None:
    batches = TrainingBatches(50, 20, 4, seed=0, epoch=lambda: 3, process=(0, 1))
    counters = torch.cat(list(batches))
    assert len(counters) == 200
    assert counters.unique().numel() == 200
    assert (counters // 200 == 3).all()
    assert ((counters % 50).bincount() == 4).all()


def test_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        batches = TrainingBatches(100, 10, 1, seed=seed, epoch=lambda: epoch, process=(0, 1))
        return (torch.cat(list(batches)) % 100).tolist()

    assert order(1, 5) == order(1, 5)
    assert order(1, 5) != order(1, 6)
    assert order(1, 5) != order(2, 5)


def test_processes_share_the_global_batch() -> None:
    whole = list(TrainingBatches(103, 20, 1, seed=0, epoch=lambda: 0, process=(0, 1)))
    shares = [list(TrainingBatches(103, 20, 1, seed=0, epoch=lambda: 0, process=(r, 4))) for r in range(4)]
    assert len(whole) == 5
    for k, batch in enumerate(whole):
        assert {len(share[k]) for share in shares} == {5}
        assert torch.equal(torch.cat([share[k] for share in shares]).sort().values, batch.sort().values)


def test_evaluation_covers_the_set_once_in_even_batches_of_all_processes() -> None:
    shares = [list(EvaluationBatches(301, 100, (r, 2))) for r in range(2)]
    assert len(shares[0]) == len(shares[1]) == 4
    assert torch.cat([b for share in shares for b in share]).sort().values.tolist() == list(range(301))
    assert {len(b) for share in shares for b in share} <= {37, 38}


@given(count=st.integers(1, 200), batch_size=st.integers(1, 32), processes=st.integers(1, 8))
@example(count=100, batch_size=8, processes=8)
@example(count=15, batch_size=8, processes=8)
def test_no_process_has_an_empty_share_of_an_evaluation_batch(count: int, batch_size: int, processes: int) -> None:
    """The oracle is the set itself: `range(count)`."""
    samplers = [EvaluationBatches(count, batch_size, (rank, processes)) for rank in range(processes)]
    shares = [[batch.tolist() for batch in sampler] for sampler in samplers]
    assert {len(mine) for mine in shares} == {len(sampler) for sampler in samplers}
    assert len(shares[0]) > 0
    assert sorted(index for mine in shares for batch in mine for index in batch) == list(range(count))
    sizes = [len(batch) for mine in shares for batch in mine]
    assert max(sizes) <= math.ceil(batch_size / processes) + 1
    assert min(sizes) > 0 or count < processes  # a datamodule refuses fewer samples than processes
    if processes == 1:
        assert len(shares[0]) == math.ceil(count / batch_size)


@given(
    count=st.integers(1, 200),
    per_process=st.integers(1, 8),
    repeats=st.integers(1, 3),
    processes=st.integers(1, 8),
)
def test_no_process_has_an_empty_share_of_a_training_batch(
    count: int, per_process: int, repeats: int, processes: int
) -> None:
    if count < processes:
        return  # a datamodule refuses it
    size = per_process * processes
    shares = [list(TrainingBatches(count, size, repeats, 0, lambda: 0, (rank, processes))) for rank in range(processes)]
    (steps,) = {len(mine) for mine in shares}
    assert steps == max(1, count * repeats // size)
    (each,) = {len(batch) for mine in shares for batch in mine}
    assert 0 < each <= per_process
    shown = torch.cat([batch for mine in shares for batch in mine])
    assert len(shown.unique()) == len(shown) == steps * each * processes
