"""Two ways for a chunk of training steps to get its examples; both give the same ones."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from actsweep.data.dataset import Dataset
from actsweep.data.order import BatchOrder


class ResidentFeed:
    """Chunks of record ids, for a training set that lives on the device.

    Args:
        dataset: its training set is the one that the ids point into.
        seeds: one for each member; members with equal seeds see equal batches.
        batch_size: examples a step and member.
        chunk_steps: steps in a full chunk, K.
    """

    def __init__(
        self, dataset: Dataset, seeds: Sequence[int], batch_size: int, chunk_steps: int
    ) -> None:
        self.steps = _Steps(len(dataset.train_x), seeds, batch_size)
        self.chunk_steps = chunk_steps

    def chunk(self, start_step: int, n: int) -> np.ndarray:
        """Return the ids of steps `start_step … start_step + n - 1`.

        Returns:
            int32 `[members, chunk_steps, batch]`; rows from n on are zeros.
        """
        _check_chunk(start_step, n, self.chunk_steps)
        out = np.zeros((self.steps.members, self.chunk_steps, self.steps.batch_size), np.int32)
        for row in range(n):
            out[:, row] = self.steps[start_step + row][self.steps.member]
        return out

    def close(self) -> None:
        """Do nothing; only the streaming feed has threads to end."""


class StreamingFeed:
    """Chunks of examples, read ahead by grain's threads, for a training set kept on the host.

    Chunks are meant to be asked for one after the other; another `start_step`, as after a resume,
    starts a new stream there. Arguments as for `ResidentFeed`, and:

    Args:
        threads: how many read.
    """

    def __init__(
        self,
        dataset: Dataset,
        seeds: Sequence[int],
        batch_size: int,
        chunk_steps: int,
        threads: int = 2,
    ) -> None:
        self.x, self.y = dataset.train_x, dataset.train_y
        self.steps = _Steps(len(self.x), seeds, batch_size)
        self.chunk_steps, self.threads = chunk_steps, threads
        self._stream: Any = None
        self._next = -1

    def chunk(self, start_step: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the examples of steps `start_step … start_step + n - 1`.

        Returns:
            x `[members, chunk_steps, batch, ...]` and y `[members, chunk_steps, batch, ...]`, of
            the stored dtypes; rows from n on are zeros. The arrays are new in each call.
        """
        _check_chunk(start_step, n, self.chunk_steps)
        if start_step != self._next:
            self.close()
            self._stream = self._open(start_step)
        lead = (self.steps.members, self.chunk_steps, self.steps.batch_size)
        x = np.zeros(lead + self.x.shape[1:], self.x.dtype)
        y = np.zeros(lead + self.y.shape[1:], self.y.dtype)
        for row in range(n):
            ahead_x, ahead_y = next(self._stream)
            x[:, row], y[:, row] = ahead_x[self.steps.member], ahead_y[self.steps.member]
        self._next = start_step + n
        return x, y

    def close(self) -> None:
        """End the reading threads."""
        if self._stream is not None:
            self._stream.close()
        self._stream, self._next = None, -1

    def _open(self, start_step: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        import grain

        options = grain.ReadOptions(
            num_threads=self.threads, prefetch_buffer_size=max(self.chunk_steps, self.threads)
        )
        source = grain.MapDataset.source(self.steps)[start_step:]
        return iter(source.map(self._fetch).to_iter_dataset(options))

    def _fetch(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.x[ids], self.y[ids]


class _Steps:
    """A grain source: element k holds the ids of step k, a row for each *different* seed.

    `member[m]` is the row of member m.
    """

    def __init__(self, n: int, seeds: Sequence[int], batch_size: int) -> None:
        different = sorted(set(seeds))
        self.members, self.batch_size = len(seeds), batch_size
        self.member = np.array([different.index(seed) for seed in seeds], np.int32)
        self.orders = [BatchOrder(n, batch_size, seed) for seed in different]

    def __len__(self) -> int:
        return len(self.orders[0])

    def __getitem__(self, step: int) -> np.ndarray:
        return np.stack([order[step] for order in self.orders])

    def __repr__(self) -> str:
        return f"Steps({self.orders})"


def _check_chunk(start_step: int, n: int, chunk_steps: int) -> None:
    if start_step < 0 or not 1 <= n <= chunk_steps:
        raise ValueError(f"{n} steps from {start_step} on; a chunk has 1 to {chunk_steps}")
