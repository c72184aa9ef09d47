import torch

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
