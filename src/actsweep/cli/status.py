"""The command `actsweep status`: the newest sweeps, and one as it is now. No jax."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from actsweep.sweeps import find, table
from actsweep.sweeps.status import take_snapshot
from actsweep.sweeps.status_text import as_plain, describe
from actsweep.utils.errors import UserError
from actsweep.utils.files import json_text

if TYPE_CHECKING:
    from rich.table import Table

NEWEST = 10  # sweeps in the list


def show(
    outputs: Path, name: str | None, stream: TextIO | None = None, width: int | None = None
) -> None:
    """Print the runs of one sweep; without a name the newest sweeps, and the runs of the last one.

    Args:
        outputs: `paths.outputs`.
        name: the name of a sweep, a path, or `last`.
        stream: where to print; standard output by default.
        width: columns of text; by default the terminal's.

    Raises:
        UserError: there is no such sweep, or none at all.
    """
    console = table.plain_console(stream, width)
    last = find.find_sweep(outputs, name or find.LAST)
    if name is None:
        folders = find.newest(outputs)
        console.print(_list(folders[:NEWEST], console.width))
        if len(folders) > NEWEST:
            console.print(f"and {len(folders) - NEWEST} older ones in {outputs}/sweeps")
        console.print()
    describe(take_snapshot(last), console)


def show_json(outputs: Path, name: str | None) -> None:
    """Print a sweep as JSON; `outputs` and `name`, and what is raised, as for `show`."""
    print(json_text(as_plain(take_snapshot(find.find_sweep(outputs, name or find.LAST)))))


def _list(folders: Sequence[Path], width: int) -> "Table":
    """Return a table of sweeps: name, states, and the command, cut to the remaining width."""
    rows = []
    for folder in folders:
        try:
            sweep = take_snapshot(folder)
            rows.append((folder.name, find.given_name(folder) or "", sweep.counts(), sweep.command))
        except (UserError, KeyError) as error:
            rows.append((folder.name, "", "?", str(error)))
    named = any(row[1] for row in rows)
    room = width - 4 - 2 * named - sum(max(len(row[column]) for row in rows) for column in range(3))
    from rich.table import Table

    sweeps = Table(box=None, pad_edge=False, header_style="bold")
    sweeps.add_column("sweep", no_wrap=True)
    if named:
        sweeps.add_column("name", no_wrap=True)
    sweeps.add_column("runs", min_width=16)
    sweeps.add_column("command", no_wrap=True)
    for folder_name, name, counts, command in rows:
        names = [folder_name, name] if named else [folder_name]
        sweeps.add_row(*names, counts, textwrap.shorten(command, max(room, 16), placeholder=" …"))
    return sweeps
