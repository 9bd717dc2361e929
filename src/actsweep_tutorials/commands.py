"""What `actsweep experiment` and `actsweep claims` do."""

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table as Shown

from actsweep.report import plotting
from actsweep.runtime.devices import set_up_devices
from actsweep.sweeps.table import plain_console
from actsweep.utils.errors import UserError
from actsweep.utils.files import finite, write_atomic
from actsweep_tutorials import base, catalogue, claims
from actsweep_tutorials.base import Experiment, Quantities
from actsweep_tutorials.claims import Claim, Verdict
from actsweep_tutorials.training import Stopped

FOLDER = "experiments"


def show_list() -> int:
    """A line for each experiment."""
    table = Shown(box=None, pad_edge=False, header_style="bold")
    for title in ("experiment", "of", "question", "parameters"):
        table.add_column(title, overflow="fold")
    for one in catalogue.EXPERIMENTS.values():
        typed = " ".join(f"{k}={base.as_typed(v)}" for k, v in one.params.items())
        table.add_row(one.name, one.source, one.question, typed)
    plain_console().print(table)
    return 0


def do(name: str, words: Sequence[str], outputs: Path) -> int:
    """Do one experiment and write its page; the exit code.

    Raises:
        UserError: an unknown name or parameter.
    """
    experiment = catalogue.get(name)
    set_up_devices()
    params = base.resolve_parameters(experiment, words) | {"outputs": outputs}
    try:
        found = base.measure(experiment, params)
    except Stopped as stopped:
        return stopped.code
    decided = [one for one in claims.CLAIMS if one.experiment == name]
    plain = params == base.resolve_parameters(experiment, ()) | {"outputs": outputs}
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
    """Compute every verdict, draw every figure, and write the pages about them; the exit code.

    Args:
        outputs: where runs are, and are trained.
        docs: the folder of claims.md and gallery.md. The numbers of what needs training are kept in
            its `experiments/<name>.json`, and read from there unless `everything` is to be done.
        everything: whether to train what is needed.
    """
    set_up_devices()
    if everything:
        (docs / FOLDER).mkdir(parents=True, exist_ok=True)  # before hours of training
    trained = [] if everything else [n for n, e in catalogue.EXPERIMENTS.items() if e.trains]
    recorded = {name: _recorded(catalogue.get(name), docs) for name in trained}
    try:
        fresh = _measured(outputs, everything)
    except Stopped as stopped:
        return stopped.code
    whole = {name: (fresh | recorded)[name] for name in catalogue.EXPERIMENTS}
    if everything:
        for name, one in catalogue.EXPERIMENTS.items():
            if one.trains:
                kept = base.record(one, base.resolve_parameters(one, ()), whole[name])
                write_atomic(_record_of(one, docs), json.dumps(finite(kept)) + "\n")
    verdicts = decide(fresh, whole)
    write_atomic(docs / "claims.md", claims.page(verdicts))
    write_atomic(docs / "gallery.md", _gallery(whole, docs))
    for kind, count in claims.tally(verdicts).items():
        print(f"{count:3} {kind}")
    print(f"pages: {docs / 'claims.md'}, {docs / 'gallery.md'}")
    return 0


def _measured(outputs: Path, everything: bool) -> dict[str, Quantities]:
    """What every experiment finds, by name. What doesn't train is done two at a time: most of it is
    compiling, which leaves a core idle."""

    def one_of(name: str) -> Quantities:
        one, start = catalogue.get(name), time.perf_counter()
        trains = everything and one.trains
        params = base.resolve_parameters(one, ()) | ({} if trains else dict(one.quick or {}))
        params |= {"cost": False} if "cost" in one.params else {}
        found = base.measure(one, params | {"outputs": outputs})
        print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)
        return found

    wanted = [n for n, one in catalogue.EXPERIMENTS.items() if everything or one.quick is not None]
    training = [n for n in wanted if everything and catalogue.get(n).trains]
    others = sorted(set(wanted) - set(training), key=lambda name: name != "gradient-flow")
    with ThreadPoolExecutor(2) as pool:  # the longest first
        found = dict(zip(others, pool.map(one_of, others), strict=True))
    found |= {name: one_of(name) for name in training}
    return {name: found[name] for name in wanted}


def decide(
    fresh: Mapping[str, Quantities], whole: Mapping[str, Quantities]
) -> dict[Claim, Verdict]:
    """The verdict on every claim: from what was just measured, or, if training is needed, from all
    that is known."""
    return {
        one: one.decide((whole if one.trained else fresh)[one.experiment]) for one in claims.CLAIMS
    }


def _record_of(one: Experiment, docs: Path) -> Path:
    return docs / FOLDER / f"{one.name}.json"


def _recorded(one: Experiment, docs: Path) -> Quantities:
    """What an experiment that trains has found before.

    Raises:
        UserError: it isn't there.
    """
    file = _record_of(one, docs)
    if not file.is_file():
        raise UserError(f"{file}: isn't there; type actsweep claims --all, which trains")
    return json.loads(file.read_text())["found"]


def _gallery(whole: Mapping[str, Quantities], docs: Path) -> str:
    """Draw every figure into docs/experiments; the page that shows them."""
    lines = [_HEAD]
    for name, found in whole.items():
        one = catalogue.get(name)
        with plotting.use_style():
            drawn = one.draw(found)
        lines += [f"\n## {name}\n", f"{one.question} ({one.source})\n"]
        typed = base.resolve_parameters(one, ()) | ({} if one.trains else dict(one.quick or {}))
        lines += [f"```bash\n{base.command(one, typed)}\n```\n"]
        for key, figure in drawn.items():
            path = docs / FOLDER / f"{name}-{key}"
            plotting.save_figure(figure, path, ("png",))
            lines += [f"![{name}: {key}]({FOLDER}/{path.name}.png)"]
        if name == "gallery":
            lines += [f"\n{table.markdown()}" for table in one.tables(found)]
    return "\n".join(lines) + "\n"


_HEAD = """# Gallery

Every figure of the tutorials has its counterpart here, drawn by the command above it; `actsweep
claims` draws them all, those of trained networks from the numbers in `docs/experiments/`. An
activation has the same colour everywhere; layers stand from input to output. What the tutorials
say about them, and whether it is so, is in [claims.md](claims.md)."""
