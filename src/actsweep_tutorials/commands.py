"""The commands `actsweep experiment` and `actsweep claims`."""

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from actsweep.report import plotting
from actsweep.runtime.devices import set_up_devices
from actsweep.sweeps.table import plain_console
from actsweep.utils.errors import UserError
from actsweep.utils.files import finite, write_atomic
from actsweep.utils.progress import counted, slow
from actsweep_tutorials import base, catalogue, claims
from actsweep_tutorials.base import Experiment, Quantities
from actsweep_tutorials.claims import Claim, Verdict
from actsweep_tutorials.training import TrainingStopped

FOLDER = "experiments"
WITH_TABLES = ("gallery", "architectures", "output-layers")
"""Experiments whose tables are in docs/gallery.md, too."""


def list_experiments() -> int:
    """Print a line for each experiment; return the exit code."""
    table = RichTable(box=None, pad_edge=False, header_style="bold")
    for title in ("experiment", "of", "question", "parameters"):
        table.add_column(title, overflow="fold")
    for experiment in catalogue.EXPERIMENTS.values():
        parameters = " ".join(f"{k}={base.as_typed(v)}" for k, v in experiment.params.items())
        table.add_row(experiment.name, experiment.source, experiment.question, parameters)
    plain_console().print(table)
    return 0


def run_experiment(name: str, words: Sequence[str], outputs: Path) -> int:
    """Run one experiment and write its page; return the exit code.

    Raises:
        UserError: the name or a parameter is unknown.
    """
    experiment = catalogue.get(name)
    set_up_devices()
    params = base.resolve_parameters(experiment, words) | {"outputs": outputs}
    try:
        with contextlib.nullcontext() if experiment.trains else slow(f"{name}: measuring"):
            result = base.measure(experiment, params)
    except TrainingStopped as stopped:
        return stopped.code
    own_claims = [claim for claim in claims.CLAIMS if claim.experiment == name]
    plain = params == base.resolve_parameters(experiment, ()) | {"outputs": outputs}
    verdicts = [claims.short(own_claims, {name: result})] if plain and own_claims else []
    page = base.write(experiment, params, result, outputs / FOLDER / name, verdicts)
    for table in experiment.tables(result):
        _print(plain_console(), table)
    for text in verdicts:
        print(text + "\n")
    print(f"page: {page}")
    return 0


def _print(console: Console, table: base.Table) -> None:
    rich_table = RichTable(box=None, pad_edge=False, title=table.title, title_justify="left")
    for title in table.heading:
        rich_table.add_column(title, overflow="fold")
    for row in table.rows:
        rich_table.add_row(*map(base.format_cell, row))
    console.print(rich_table)
    console.print()


def check_claims(outputs: Path, docs: Path, *, everything: bool) -> int:
    """Compute every verdict, draw every figure and write their pages; return the exit code.

    Args:
        outputs: the folder of the runs, old and new.
        docs: the folder of claims.md and gallery.md. Its `experiments/<name>.json` keeps the result
            of each experiment that trains; it is read from there unless `everything` is true.
        everything: whether to run the experiments that train, too.
    """
    set_up_devices()
    if everything:
        (docs / FOLDER).mkdir(parents=True, exist_ok=True)  # before hours of training
    trained = [] if everything else [name for name in catalogue.EXPERIMENTS if _recorded_by(name)]
    records = {name: _recorded(catalogue.get(name), docs) for name in trained}
    recorded = {name: record["found"] for name, record in records.items()}
    try:
        fresh = _measured(outputs, everything)
    except TrainingStopped as stopped:
        return stopped.code
    results = {name: (fresh | recorded)[name] for name in catalogue.EXPERIMENTS if _shown(name)}
    if everything:
        for name, experiment in catalogue.EXPERIMENTS.items():
            if _recorded_by(name):
                record = base.record(
                    experiment, base.resolve_parameters(experiment, ()), results[name]
                )
                write_atomic(_record_of(experiment, docs), json.dumps(finite(record)) + "\n")
    verdicts = decide(fresh, results)
    write_atomic(docs / "claims.md", claims.page(verdicts))
    asked = {name: record["params"] for name, record in records.items()}
    write_atomic(docs / "gallery.md", _gallery(results, asked, docs))
    for kind, count in claims.tally(verdicts).items():
        print(f"{count:3} {kind}")
    print(f"pages: {docs / 'claims.md'}, {docs / 'gallery.md'}")
    return 0


def _shown(name: str) -> bool:
    """Return whether an experiment is part of the pages; one that only has a command isn't."""
    return _recorded_by(name) or catalogue.get(name).quick is not None


def _recorded_by(name: str) -> bool:
    """Return whether an experiment trains and the pages keep its result."""
    experiment = catalogue.get(name)
    return experiment.trains and experiment.on_record


def _measured(outputs: Path, everything: bool) -> dict[str, Quantities]:
    """Return the result of every experiment, by name.

    Those that don't train run two at a time: they mostly compile, which leaves a core idle.
    """

    def measure_by_name(name: str) -> Quantities:
        experiment, start = catalogue.get(name), time.perf_counter()
        trains = everything and experiment.trains
        params = base.resolve_parameters(experiment, ()) | (
            {} if trains else dict(experiment.quick or {})
        )
        params |= {"cost": False} if "cost" in experiment.params else {}
        with slow(f"{name}: measuring"):
            result = base.measure(experiment, params | {"outputs": outputs})
        print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)
        return result

    chosen = [
        name
        for name, experiment in catalogue.EXPERIMENTS.items()
        if (everything and _recorded_by(name)) or experiment.quick is not None
    ]
    training = [name for name in chosen if everything and catalogue.get(name).trains]
    others = sorted(set(chosen) - set(training), key=lambda name: name != "gradient-flow")
    with ThreadPoolExecutor(2) as pool:  # the longest first
        result = dict(zip(others, pool.map(measure_by_name, others), strict=True))
    result |= {name: measure_by_name(name) for name in training}
    return {name: result[name] for name in chosen}


def decide(
    fresh: Mapping[str, Quantities], results: Mapping[str, Quantities]
) -> dict[Claim, Verdict]:
    """Return the verdict on every claim.

    Args:
        fresh: the results that were just measured; they decide the claims that need no training.
        results: these and the recorded ones; they decide the claims that do.
    """
    return {
        claim: claim.decide((results if claim.needs_training else fresh)[claim.experiment])
        for claim in claims.CLAIMS
    }


def _record_of(experiment: Experiment, docs: Path) -> Path:
    return docs / FOLDER / f"{experiment.name}.json"


def _recorded(experiment: Experiment, docs: Path) -> dict[str, Any]:
    """Return the record of an experiment that trains: see `base.record`.

    Raises:
        UserError: there is no record.
    """
    file = _record_of(experiment, docs)
    if not file.is_file():
        raise UserError(
            f"{file}: no such record; type actsweep claims --all, which trains the networks"
        )
    record: dict[str, Any] = json.loads(file.read_text())
    return record


def _gallery(
    results: Mapping[str, Quantities], asked: Mapping[str, Mapping[str, Any]], docs: Path
) -> str:
    """Draw every figure into docs/experiments; return the page that shows them.

    Args:
        results: every experiment's result.
        asked: the parameters of the recorded ones, where they may differ from the defaults.
        docs: the folder of the page.
    """
    lines = [_HEAD]
    for name, result in counted([*results.items()], "drew the figures of {} experiments"):
        experiment = catalogue.get(name)
        with plotting.use_style():
            figures = experiment.draw(result)
        lines += [f"\n## {name}\n", f"{experiment.question} ({experiment.source})\n"]
        params = base.resolve_parameters(experiment, ()) | (
            {} if experiment.trains else dict(experiment.quick or {})
        )
        for key, value in asked.get(name, {}).items():
            params[key] = tuple(value) if isinstance(value, list) else value
        lines += [f"```bash\n{base.command(experiment, params)}\n```\n"]
        for key, figure in figures.items():
            path = docs / FOLDER / f"{name}-{key}"
            plotting.save_figure(figure, path, ("png",))
            lines += [f"![{name}: {key}]({FOLDER}/{path.name}.png)"]
        if name in WITH_TABLES:
            lines += [f"\n{table.markdown()}" for table in experiment.tables(result)]
    return "\n".join(lines) + "\n"


_HEAD = """# Gallery

Every figure of the tutorials has its counterpart here, drawn by the command above it; `actsweep
claims` draws them all, those of trained networks from the numbers in `docs/experiments/`. An
activation has the same colour everywhere; layers stand from input to output. What the tutorials
say about them, and whether it is so, is in [claims.md](claims.md)."""
