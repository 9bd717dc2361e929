"""The order of examples, and that both feeds give the same ones."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from actsweep.data import Dataset
from actsweep.data.feed import ResidentFeed, StreamingFeed
from actsweep.data.order import BatchOrder
from actsweep.utils.errors import UserError


def dataset(n=50, regression=False):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (n, 4, 4, 1), dtype=np.uint8)
    y = np.arange(n, dtype=np.int32) % 10
    if regression:
        x, y = x.reshape(n, -1).astype(np.float32), y.astype(np.float32)[:, None]
    return Dataset("d", x, y, x, y, x, y, classes=None if regression else 10)


@pytest.mark.parametrize(("n", "batch"), [(50, 8), (48, 8), (7, 7), (5, 1), (1, 1)])
def test_an_epoch_holds_every_record_at_most_once(n, batch):
    order = BatchOrder(n, batch, seed=0)
    for epoch in range(3):
        steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
        ids = np.concatenate([order[k] for k in steps])
        assert ids.dtype == np.int32
        assert len(ids) == n // batch * batch
        assert len(set(ids.tolist())) == len(ids)
        assert ids.min() >= 0
        assert ids.max() < n


def test_ids_are_the_documented_philox_permutation():
    order = BatchOrder(1000, 64, seed=7)
    philox = np.random.Philox(np.random.SeedSequence([7, 3]))
    expected = np.random.Generator(philox).permutation(1000)
    np.testing.assert_array_equal(order[3 * 15 + 4], expected[4 * 64 : 5 * 64])


def test_any_order_of_reading_and_any_thread_gives_the_same():
    steps = list(range(60)) * 3
    reference = {k: BatchOrder(50, 8, seed=2)[k].tolist() for k in range(60)}
    random.Random(0).shuffle(steps)
    order = BatchOrder(50, 8, seed=2)
    with ThreadPoolExecutor(8) as pool:
        for k, ids in zip(steps, pool.map(order.__getitem__, steps), strict=True):
            assert ids.tolist() == reference[k]


def test_seeds_and_epochs_differ_and_do_not_mirror_each_other():
    firsts = {
        (seed, epoch): tuple(BatchOrder(1000, 100, seed)[epoch * 10])
        for seed in (0, 1, 2, 2**32 - 1)
        for epoch in (0, 1, 2)
    }
    assert len(set(firsts.values())) == len(firsts)


def test_batches_are_as_mixed_as_chance():
    n, batch = 20_000, 200
    order = BatchOrder(n, batch, seed=0)
    means = np.array([order[k].mean() for k in range(5 * order.steps_per_epoch)])
    ideal = (n / np.sqrt(12)) / np.sqrt(batch) * np.sqrt(1 - batch / n)
    assert abs(means.std() / ideal - 1) < 0.1
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.15


def test_bounds():
    order = BatchOrder(50, 8, seed=0, epochs=2)
    assert len(order) == 12
    for k in (-1, 12):
        with pytest.raises(IndexError):
            order[k]
    for batch in (0, 51):
        with pytest.raises(UserError, match=r"trainer\.batch_size=.*trainer\.batch_size=50"):
            BatchOrder(50, batch, seed=0)


def test_resident_ids_pair_members_by_seed_and_pad_with_zeros():
    feed = ResidentFeed(dataset(), [5, 0, 5], 8, chunk_steps=10)
    ids = feed.chunk(4, 7)
    assert ids.shape == (3, 10, 8)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids[0], ids[2])
    assert not np.array_equal(ids[0], ids[1])
    assert not ids[:, 7:].any()
    for member, seed in enumerate([5, 0, 5]):
        alone = ResidentFeed(dataset(), [seed], 8, chunk_steps=10).chunk(4, 7)
        np.testing.assert_array_equal(ids[member], alone[0])
        np.testing.assert_array_equal(ids[member, 2], BatchOrder(50, 8, seed)[6])


@pytest.mark.parametrize("regression", [False, True])
def test_both_feeds_give_bitwise_the_same_examples(regression):
    data, seeds = dataset(regression=regression), [3, 0, 3]
    resident = ResidentFeed(data, seeds, 8, chunk_steps=5)
    streaming = StreamingFeed(data, seeds, 8, chunk_steps=5)
    # In sequence, on and past short chunks, a resume in mid-epoch, back to the start.
    for start, n in [(0, 5), (5, 5), (10, 2), (15, 2), (17, 5), (101, 5), (106, 5), (0, 5)]:
        ids = resident.chunk(start, n)
        x, y = streaming.chunk(start, n)
        assert (x.dtype, y.dtype) == (data.train_x.dtype, data.train_y.dtype)
        np.testing.assert_array_equal(x[:, :n], data.train_x[ids[:, :n]])
        np.testing.assert_array_equal(y[:, :n], data.train_y[ids[:, :n]])
        assert x.shape[:3] == y.shape[:3] == (3, 5, 8)
        assert not x[:, n:].any()
    streaming.close()
    resident.close()


def test_streamed_chunks_are_not_overwritten_by_later_ones():
    streaming = StreamingFeed(dataset(), [0], 8, chunk_steps=3)
    x, _ = streaming.chunk(0, 3)
    kept = x.copy()
    streaming.chunk(3, 3)
    np.testing.assert_array_equal(x, kept)
    streaming.close()


def test_the_next_chunk_is_read_ahead():
    data = dataset()
    streaming = StreamingFeed(data, [0], 8, chunk_steps=4)
    streaming.chunk(0, 4)
    fetched = []
    fetch = streaming._fetch
    streaming.close()
    streaming._fetch = lambda ids: (fetched.append(1), fetch(ids))[1]
    streaming.chunk(4, 4)
    deadline = time.monotonic() + 5
    while len(fetched) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(fetched) >= 8
    streaming.close()


def test_a_chunk_of_nothing_or_too_much_is_refused():
    for feed in (ResidentFeed(dataset(), [0], 8, 5), StreamingFeed(dataset(), [0], 8, 5)):
        for start, n in [(0, 0), (0, 6), (-1, 5)]:
            with pytest.raises(ValueError, match="a chunk has 1 to 5"):
                feed.chunk(start, n)
