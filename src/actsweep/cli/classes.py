"""A run's accuracy class by class, as a table."""

from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from actsweep.sweeps.table import plain_console

if TYPE_CHECKING:
    from actsweep.runs.load import Run


def print_classes(run: "Run") -> None:
    """Print each class of the test set with its accuracy, and what it is most often taken for.

    Raises:
        UserError: the run learned no classes, or has no checkpoint.
    """
    confusion, labels = run.confusion(), run.dataset().labels
    names = labels or tuple(map(str, range(len(confusion))))
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column("class")
    for title in ("test examples", "accuracy, %", "most often taken for (times)"):
        table.add_column(title, justify="left" if title.startswith("most") else "right")
    for name, row, right in zip(names, confusion, np.diag(confusion), strict=True):
        wrong = np.where(np.arange(len(row)) == names.index(name), 0, row)
        other = f"{names[int(wrong.argmax())]} ({wrong.max()})" if wrong.any() else "–"
        share = f"{100 * right / row.sum():.2f}" if row.any() else "–"
        table.add_row(name, str(row.sum()), share, other)
    plain_console().print(table)
