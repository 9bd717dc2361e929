"""One of several processes that prepare the same set: name, files, TFDS folder, start time."""

import sys
import time
from pathlib import Path

import idx

from actsweep.data import prepare, routes

name, files, root, start = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])
idx.register(name, files)
taken = routes.local_files


def slow(*args: object) -> Path:
    time.sleep(0.5)  # long enough for the others to arrive
    print("PREPARES", flush=True)
    return taken(*args)


prepare.ROUTES = (("fixture", slow),)
time.sleep(max(0.0, start - time.time()))
prepare.prepare(name, root, lambda line: print(line, flush=True))
print("LABELS", prepare.arrays(name, root)["train_labels"].tolist(), flush=True)
