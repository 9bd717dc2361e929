"""What `actsweep experiment` and `actsweep claims` do."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table as Shown

from actsweep import experiments, figures
from actsweep.errors import UserError
from actsweep.experiments import base, claims
from actsweep.experiments.base import Experiment, Quantities
from actsweep.experiments.claims import Claim, Found
from actsweep.experiments.training import Stopped
from actsweep.ledger import write_atomic, write_json
from actsweep.table import plain_console

FOLDER = "experiments"


def show_list() -> int:
    """A line for each experiment."""
    table = Shown(box=None, pad_edge=False, header_style="bold")
    for title in ("experiment", "of", "question", "parameters"):
        table.add_column(title, overflow="fold")
    for one in experiments.EXPERIMENTS.values():
        typed = " ".join(f"{k}={base.as_typed(v)}" for k, v in one.params.items())
        table.add_row(one.name, one.source, one.question, typed)
    plain_console().print(table)
    return 0


def do(name: str, words: Sequence[str], outputs: Path) -> int:
    """Do one experiment and write its page; the exit code.

    Raises:
        UserError: an unknown name or parameter.
    """
    experiment = experiments.get(name)
    params = base.settle(experiment, words) | {"outputs": outputs}
    try:
        found = base.measure(experiment, params)
    except Stopped as stopped:
        return stopped.code
    decided = [one for one in claims.CLAIMS if one.experiment == name]
    plain = params == base.settle(experiment, ()) | {"outputs": outputs}
    said = [claims.short(decided, {name: found})] if plain and decided else []
    page = base.write(experiment, params, found, outputs / FOLDER / name, said)
    for table in experiment.tables(found):
        _print(plain_console(), table)
    for text in said:
        print(text + "\n")
    print(f"page: {page}")
    return 0


def _print(console: Console, table: base.Table) -> None:
    shown = Shown(box=None, pad_edge=False, title=table.title, title_justify="left")
    for title in table.heading:
        shown.add_column(title, overflow="fold")
    for row in table.rows:
        shown.add_row(*map(base.cell, row))
    console.print(shown)
    console.print()


def check(outputs: Path, docs: Path, *, everything: bool) -> int:
    """Compute every verdict and write the page about them; the exit code.

    Args:
        outputs: where runs are, and are trained.
        docs: the folder of claims.md. The numbers of what needs training are kept in its
            `experiments/<name>.json`, and read from there unless `everything` is to be done.
        everything: whether to train what is needed.
    """
    found: dict[str, Quantities] = {}
    recorded: dict[str, Quantities] = {}
    try:
        for name, one in experiments.EXPERIMENTS.items():
            start = time.perf_counter()
            folder = docs / FOLDER
            if everything or one.quick is not None:
                params = dict(base.settle(one, ())) | ({} if everything else dict(one.quick or {}))
                params |= {"cost": False} if "cost" in one.params else {}
                found[name] = base.measure(one, params | {"outputs": outputs})
                if not one.trains or everything:
                    _draw(one, found[name], folder)
            if one.trains:
                recorded[name] = _kept(one, found.get(name) if everything else None, folder)
            print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)
    except Stopped as stopped:
        return stopped.code
    verdicts = decide(found, recorded)
    write_atomic(docs / "claims.md", claims.page(verdicts))
    for kind, count in claims.tally(verdicts).items():
        print(f"{count:3} {kind}")
    print(f"page: {docs / 'claims.md'}")
    return 0


def decide(
    found: Mapping[str, Quantities], recorded: Mapping[str, Quantities]
) -> dict[Claim, Found]:
    """The verdict on every claim: from what was just measured, or, if training is needed, from what
    was recorded."""
    return {
        one: one.decide((recorded if one.trained else found)[one.experiment])
        for one in claims.CLAIMS
    }


def _kept(one: Experiment, new: Quantities | None, folder: Path) -> Quantities:
    """What an experiment that trains has found, written down or read back.

    Raises:
        UserError: there is nothing to read.
    """
    file = folder / f"{one.name}.json"
    if new is not None:
        write_json(file, base.record(one, base.settle(one, ()), new))
        return new
    if not file.is_file():
        raise UserError(f"{file}: isn't there; type actsweep claims --all, which trains")
    return json.loads(file.read_text())["found"]


def _draw(one: Experiment, found: Quantities, folder: Path) -> None:
    with figures.look():
        drawn = one.draw(found)
    for name, figure in drawn.items():
        figures.save(figure, folder / f"{one.name}-{name}")
