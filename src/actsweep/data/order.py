"""The order of examples: which records make up each training step."""

from functools import lru_cache
from typing import SupportsIndex

import numpy as np

from actsweep.utils.errors import bad_value

SPLIT_STREAM = 4


def split_order(seed: int, n: int) -> np.ndarray:
    """Return the order by which n examples are divided into splits: ids, by `data.split_seed`."""
    seeds = np.random.SeedSequence([seed, 0, SPLIT_STREAM])
    return np.random.Generator(np.random.Philox(seeds)).permutation(n)


def split_size(size: float, n: int) -> int:
    """Return a number of examples, from a number or a share of n; at least one."""
    return max(1, round(size * n)) if size < 1 else int(size)


class BatchOrder:
    """A grain random-access source whose element k is the record ids of global batch k.

    Epoch e is `Generator(Philox(SeedSequence([seed, e]))).permutation(n)` cut into batches; the
    last partial batch is dropped. The position is the step, so a resumed run needs nothing else,
    and the ids depend on nothing but `(seed, epoch, n, batch_size)`. Safe to read from several
    threads.

    Args:
        n: number of training examples.
        batch_size: examples a step.
        seed: a member's seed.
        epochs: length; the default is longer than any training.

    Raises:
        UserError: the batch is larger than the training set.
    """

    def __init__(self, n: int, batch_size: int, seed: int, epochs: int = 1_000_000) -> None:
        if not 1 <= batch_size <= n:
            fix = f"trainer.batch_size={min(n, 256)}"
            raise bad_value(
                "trainer.batch_size", batch_size, f"from 1 to the {n} training examples", fix
            )
        self.n, self.batch_size, self.seed, self.epochs = n, batch_size, seed, epochs
        self.steps_per_epoch = n // batch_size
        # Two epochs: a reader that is ahead crosses into the next one while another finishes this.
        self._epoch = lru_cache(maxsize=2)(self._draw)

    def __len__(self) -> int:
        return self.epochs * self.steps_per_epoch

    def __getitem__(self, step: SupportsIndex) -> np.ndarray:
        """Return the record ids of a step: int32 `[batch_size]`."""
        k = step.__index__()
        if not 0 <= k < len(self):
            raise IndexError(f"step {k} is not in 0..{len(self) - 1}")
        epoch, place = divmod(k, self.steps_per_epoch)
        return self._epoch(epoch)[place * self.batch_size : (place + 1) * self.batch_size]

    def __repr__(self) -> str:
        return f"BatchOrder(n={self.n}, batch_size={self.batch_size}, seed={self.seed})"

    def _draw(self, epoch: int) -> np.ndarray:
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, epoch])))
        ids = rng.permutation(self.n).astype(np.int32)
        ids.flags.writeable = False
        return ids
