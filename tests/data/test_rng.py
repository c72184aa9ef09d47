import numpy as np
import torch
from scipy import stats

from stnrot.data.rng import bits, normal, permutation, uniform


def test_values_do_not_depend_on_the_batch() -> None:
    counters = torch.arange(1000)
    whole = uniform((3, 1, 4), counters, 5)
    shuffled = torch.randperm(1000)
    torch.testing.assert_close(uniform((3, 1, 4), counters[shuffled], 5), whole[shuffled], rtol=0, atol=0)


def test_published_splitmix64_sequence() -> None:
    """The generator of Steele, Lea and Flood from seed 1234567, as its reference implementation prints it."""
    from stnrot.data.rng import GOLDEN, _mix

    state = 1234567 + GOLDEN * torch.arange(1, 6)
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [int(z) % 2**64 for z in _mix(state)] == expected


def test_a_key_is_mixed_in_word_by_word() -> None:
    """By Python's integers modulo 2^64, in which nothing overflows."""

    def mix(z: int) -> int:
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    golden, key = 0x9E3779B97F4A7C15, (2**63 - 1, 0, 9)
    state = 0
    for part in key:
        state = mix((state * golden + part + 1) % 2**64)
    expected = [mix((mix((state + 77 * golden) % 2**64) + column * golden) % 2**64) for column in (1, 2)]
    assert [int(z) % 2**64 for z in bits(key, torch.tensor([77]), 2)[0]] == expected


def test_distributions_by_kolmogorov_smirnov() -> None:
    counters = torch.arange(200_000)
    assert stats.kstest(uniform((0,), counters, 1)[:, 0].numpy(), "uniform").pvalue > 1e-3
    assert stats.kstest(normal((0,), counters, 1)[:, 0].numpy(), "norm").pvalue > 1e-3


def test_keys_counters_and_columns_are_independent() -> None:
    counters = torch.arange(50_000)
    columns = torch.cat([uniform(key, counters, 3) for key in ((0, 0), (0, 1), (1, 0))], 1).numpy()
    correlation = np.corrcoef(columns.T) - np.eye(9)
    assert np.abs(correlation).max() < 0.02
    neighbours = uniform((0, 0), counters, 1)[:, 0]
    assert abs(np.corrcoef(neighbours[1:], neighbours[:-1])[0, 1]) < 0.02


def test_permutation_holds_everything_once() -> None:
    order = permutation((7,), 1000)
    assert sorted(order.tolist()) == list(range(1000))
    assert (order != permutation((8,), 1000)).float().mean() > 0.9
