"""A process that reads a set as `data.stream` says, for an epoch, and prints how it grew.

Its arguments are the TFDS folder, the side of the images, and `data.stream`. It prints by how much
its anonymous memory grew: what it has allocated, without mapped files, which can be dropped.
"""

import sys
import threading
import time
from pathlib import Path

import grain  # noqa: F401  so that its import isn't measured
import tensorflow_datasets  # noqa: F401

from actsweep.config.schema import DataConfig
from actsweep.data import load
from actsweep.data.feed import StreamingFeed

BATCH, CHUNK = 16, 4


def anonymous() -> int:
    """Bytes of memory that belong to no file."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


def main(root: str, side: int, stream: bool | str) -> None:
    """Decode, read every batch of an epoch, and print the largest growth seen meanwhile."""
    before, peaks = anonymous(), [0]

    def watch() -> None:
        while True:
            peaks[0] = max(peaks[0], anonymous() - before)
            time.sleep(0.002)

    threading.Thread(target=watch, daemon=True).start()
    known = {"source": "tfds", "name": "rock_paper_scissors", "dir": root, "val_size": 8}
    data = load(DataConfig(**known, test_size=8, size=[side, side, 3], stream=stream))
    feed = StreamingFeed(data, [0], BATCH, CHUNK)
    chunks = len(data.train_x) // BATCH // CHUNK
    total = sum(int(feed.chunk(CHUNK * i, CHUNK)[0].sum(dtype=int)) for i in range(chunks))
    feed.close()
    print(peaks[0], len(data.train_x) * side * side * 3, total)


main(sys.argv[1], int(sys.argv[2]), {"true": True, "disk": "disk"}[sys.argv[3]])
