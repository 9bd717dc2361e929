"""Runs to compare, and the factors that tell them apart. No jax."""

import difflib
import re
import shlex
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from actsweep.config.identity import pair_key, without_seeds
from actsweep.report.expressions import parse
from actsweep.report.run_columns import run_columns
from actsweep.runs import run_dir
from actsweep.runs.run_dir import RunDir
from actsweep.stats.paired import Cell
from actsweep.sweeps import plan, table
from actsweep.sweeps import tuning as tunings
from actsweep.sweeps.status import take_snapshot
from actsweep.sweeps.tuning import Protocol
from actsweep.utils.errors import UserError

Flat = Mapping[str, Any]
"""A run's config, dotted path -> value."""
Label = tuple[str, ...]
"""A group's values of the factors that are compared, as text."""
FOREIGN = "with another run's folder"
"""State of a run whose folder holds another run's summary."""
VALUES = re.compile(r"[\w.]+=(?!=)")
"""How a condition begins that lists values: `act=relu,elu`. Any other is an expression."""
MAX_SECOND_VALUES = 8
"""Values of a second factor up to which it is compared by default."""


@dataclass(frozen=True)
class Entry:
    """A run of the sweeps that are compared.

    Attributes:
        run: its folder.
        config: its config as nested plain values.
        state: its state as `actsweep status` shows it.
        summary: its summary; empty until it has ended.
        cause: why it isn't complete, if that is known.
        protocol: how its group was tuned, for a run of a tuning.
        choosing: it was trained to choose settings by, so that its score says nothing of its group.
    """

    run: RunDir
    config: Mapping[str, Any]
    state: str
    summary: Mapping[str, Any]
    cause: str | None
    protocol: Protocol | None = None
    choosing: bool = False


def gather(folders: Sequence[Path]) -> list[Entry]:
    """Return the runs of some sweeps, each once.

    Raises:
        UserError: a sweep's plan can't be read; or a run was used for choosing in one tuning, and
            is to be compared in another one.
    """
    entries: dict[str, Entry] = {}
    for folder in folders:
        plans = plan.read_frozen(folder)["members"]
        tuning = tunings.found(folder)
        choosing = tuning.choosing_runs if tuning else frozenset()
        for run_status in take_snapshot(folder).runs:
            status = run_status.status or {}
            summary = (
                run_dir.read_summary(run_status.run) if run_status.state in run_dir.ENDED else None
            )
            state, run_id = run_status.state, run_status.run.run_id
            if (summary or {}).get("run_id", run_id) != run_id:  # copied or renamed
                state, summary = FOREIGN, None
            entry = Entry(
                run_status.run,
                plans[run_id]["config"],
                state,
                summary or {},
                status.get("cause"),
                tuning.protocol if tuning else None,
                run_id in choosing,
            )
            known = entries.get(run_status.run.run_id)
            if known and known.choosing != entry.choosing:
                raise UserError(
                    f"{folder.name}: seed={entry.config['seed']} was used for choosing in one of "
                    f"these tunings, and is a fresh seed of another ({run_id}); type one of them"
                )
            if known is None or entry.state == "complete":
                entries[run_status.run.run_id] = entry
    return list(entries.values())


def after_tuning(entries: Sequence[Entry]) -> tuple[list[Entry], str]:
    """Return the runs by which groups are compared, and how these were tuned; empty if not so.

    Of a tuning these are the runs with fresh seeds.

    Raises:
        UserError: the runs are of different protocols, or none has a fresh seed yet.
    """
    protocols = list(dict.fromkeys(entry.protocol for entry in entries))
    if len(protocols) > 1:
        shown = "; ".join(f"tuned over {each.text}" if each else "not tuned" for each in protocols)
        raise UserError(
            f"sweeps of different protocols don't compare ({shown}); type those of one protocol"
        )
    if not entries or protocols == [None]:
        return [*entries], ""
    fresh = [entry for entry in entries if not entry.choosing]
    if not fresh:
        raise UserError(
            "nothing to compare yet: the runs so far choose each group's settings; fresh seeds, "
            "which are compared, come after them"
        )
    (protocol,) = protocols
    return fresh, f"tuned over {protocol.text}, chosen in validation" if protocol else ""


def where(entries: Sequence[Entry], conditions: Sequence[str]) -> list[Entry]:
    """Return the runs that meet conditions such as `depth=4`, `act=relu,elu`, or `lr > 0.1`.

    Raises:
        UserError: a factor is unknown, or no run meets a condition.
    """
    flat = {entry.run.run_id: table.flatten_groups(entry.config) for entry in entries}
    swept = table.columns([entry.config for entry in entries]) if entries else {}
    kept = list(entries)
    for text in conditions:
        if not VALUES.match(text):
            kept = _meeting(text, entries, kept)
            continue
        name, _, allowed = text.partition("=")
        path = _path(f"--where {text}", name, swept, [*flat.values()])
        values = {entry.run.run_id: str(flat[entry.run.run_id].get(path)) for entry in kept}
        whole = allowed in values.values()  # a value may hold commas: relu, hidden_1 tanh
        one_of = [allowed] if whole else allowed.split(",")
        chosen = [entry for entry in kept if values[entry.run.run_id] in one_of]
        if not chosen:
            known = ", ".join(sorted(set(values.values())))
            raise UserError(f"--where {text}: no run has it; there are: {known}")
        kept = chosen
    return kept


def _meeting(text: str, entries: Sequence[Entry], kept: Sequence[Entry]) -> list[Entry]:
    """Return the runs that an expression keeps; its columns are those of all runs.

    Raises:
        UserError: it can't be read, or keeps none.
    """
    try:
        test = parse(text, run_columns(entries))
    except UserError as error:
        raise UserError(f"--where {shlex.quote(text)}: {error}") from error
    meeting = {entry.run.run_id for place, entry in enumerate(entries) if test(place)}
    chosen = [entry for entry in kept if entry.run.run_id in meeting]
    if not chosen:
        raise UserError(f"--where {shlex.quote(text)}: no run of {len(kept)} meets it")
    return chosen


@dataclass(frozen=True)
class Design:
    """How runs are laid out for a comparison.

    Attributes:
        entries: the runs.
        flat: their configs, by run id.
        titles: titles of all config paths in which they differ.
        factors: config paths by title: what tells groups apart. An activation's parameters belong
            to it, and so on.
        tuned: other paths, of the optimiser: a group's best values are chosen in validation.
        averaged: other paths, whose values are averaged over.
        labels: each run's group.
        seeds: what each run shares with those that it is paired with (`identity.pair_key`).
        confounded: other paths in which groups differ, although no factor says so: a difference
            between groups may be theirs.
    """

    entries: Sequence[Entry]
    flat: Mapping[str, Flat]
    titles: Mapping[str, str]
    factors: Mapping[str, Sequence[str]]
    tuned: Sequence[str]
    averaged: Sequence[str]
    labels: Mapping[str, Label]
    seeds: Mapping[str, Hashable]
    confounded: Sequence[str] = ()

    def values(self, path: str) -> list[str]:
        """Return the values of a config path, each once, as text."""
        return list(dict.fromkeys(str(flat.get(path)) for flat in self.flat.values()))

    def cell(self, run_id: str) -> Cell:
        """Return a run's place in its group: its seeds, then the values that are averaged over."""
        flat = self.flat[run_id]
        return (self.seeds[run_id], *(hashable(flat.get(path)) for path in self.averaged))

    def numbers(self, title: str) -> dict[str, float]:
        """Return a factor's values by their text if all are numbers; else nothing."""
        paths = self.factors[title]
        values = {_text(flat, paths): flat.get(paths[0]) for flat in self.flat.values()}
        numbers = {text: float(v) for text, v in values.items() if isinstance(v, int | float)}
        return numbers if len(numbers) == len(values) else {}


def lay_out(entries: Sequence[Entry], by: Sequence[str]) -> Design:
    """Return which factors are compared, which are tuned, and which are averaged over.

    Args:
        entries: the runs.
        by: the factors that tell groups apart.

    Raises:
        UserError: a factor is unknown, or several data sets would be averaged over.
    """
    flat = {entry.run.run_id: table.flatten_groups(entry.config) for entry in entries}
    titles = table.columns([entry.config for entry in entries])
    nuisance = {path for each in entries if each.protocol for path in each.protocol.nuisance}
    factors = _factors(by, titles, [*flat.values()])
    used = {path for paths in factors.values() for path in paths}
    several = {p for p in titles if len({str(config.get(p)) for config in flat.values()}) > 1}
    if tuned_before := [path for path in nuisance if path in used]:
        raise UserError(
            f"--by {','.join(by)}: {tuned_before[0]} was tuned, so that each run has what suits "
            "its group; type --by act"
        )
    others = [path for path in titles if path in several - used - nuisance - {"seed"}]
    confounded = _confounded(entries, [*titles, *used])
    if "data.name" in (*others, *confounded):
        names = ", ".join(sorted({str(config["data.name"]) for config in flat.values()}))
        raise UserError(
            f"the runs are of several data sets ({names}), whose mean has no meaning; type "
            "--by act,data, or --where data=<name>"
        )
    tuned = [path for path in others if path.startswith("optim.")]
    labels = {
        run_id: tuple(_text(config, paths) for paths in factors.values())
        for run_id, config in flat.items()
    }
    averaged = [path for path in others if path not in tuned]
    seeds = {entry.run.run_id: pair_key(entry.config) for entry in entries}
    return Design(entries, flat, titles, factors, tuned, averaged, labels, seeds, confounded)


def check_vary(design: Design) -> None:
    """Refuse groups whose runs don't vary the same sources of randomness.

    Raises:
        UserError: names what they vary.
    """
    kinds = design.values("vary")
    if len(kinds) > 1 and "vary" not in {p for paths in design.factors.values() for p in paths}:
        raise UserError(
            f"these runs vary different seeds (vary={', '.join(sorted(kinds))}), whose spreads "
            f"don't mean the same; type --by act,vary, or --where vary={min(kinds)}"
        )


def without_test_scores(entry: Entry) -> Entry:
    """Return a run without what its summary says of the test set."""
    kept = {key: v for key, v in entry.summary.items() if not key.startswith("test_")}
    return replace(entry, summary=kept)


def usual_factors(entries: Sequence[Entry]) -> list[str]:
    """Return the factors that tell groups apart by default.

    These are the activation, and what else was swept, if it is a single thing with few values and
    isn't tuned. Data sets are never averaged over.
    """
    design = lay_out(entries, ["act", "data"])
    if len(design.values("data.name")) > 1:
        return ["act", "data"]
    if len(design.values("vary")) > 1:
        return ["act", "vary"]
    several = any(path.startswith("act.") for path in design.titles if path != "act.name")
    others, tuned = ([design.titles[p] for p in paths] for paths in (design.averaged, design.tuned))
    if not (several or len(design.values("act.name")) > 1) and (others or tuned):
        return [*others, *tuned][:1]
    one_more = len(others) == 1 and len(design.values(design.averaged[0])) <= MAX_SECOND_VALUES
    return ["act", *(others if one_more else [])]


def _confounded(entries: Sequence[Entry], titles: Sequence[str]) -> list[str]:
    """Return config paths in which runs differ although no title says so.

    The first of each part of the config, but not the parameters of what has a title.
    """
    flat = [table.flatten_groups(without_seeds(entry.config)) for entry in entries]
    parts = {path.partition(".")[0] for path in (*titles, "seed")}
    paths: dict[str, str] = {}
    for path in dict.fromkeys((*table.KNOWN, *(path for config in flat for path in config))):
        part = path.partition(".")[0]
        if part not in parts and len({str(config.get(path)) for config in flat}) > 1:
            paths.setdefault(part, path)
    return list(paths.values())


def _factors(
    by: Sequence[str], swept: Mapping[str, str], flat: Sequence[Mapping[str, Any]]
) -> dict[str, list[str]]:
    """Return config paths by title; `act` includes the activation's parameters, and so on."""
    factors = {}
    for name in by:
        path = _path(f"--by {name}", name, swept, flat)
        if path == "seed":
            raise UserError("--by seed: seeds are what is averaged over; type --by act")
        parameters = [p for p in swept if p.startswith(f"{name}.") and p != path]
        parameters = [] if path.startswith("optim.") else parameters  # these are tuned
        factors[table.KNOWN.get(path, path)] = [path, *parameters]
    if len(factors) > 2:
        raise UserError(f"--by {','.join(by)}: must be one or two factors")
    return factors


def _path(
    typed: str, name: str, swept: Mapping[str, str], flat: Sequence[Mapping[str, Any]]
) -> str:
    """Return the config path of a factor's title."""
    known = {path for config in flat for path in config}
    titles = {title: path for path, title in {**table.KNOWN, **swept}.items() if path in known}
    path = titles.get(name, name)
    if path not in known:
        nearest = difflib.get_close_matches(name, [*titles, *sorted(known)], n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]}? " if nearest else ""
        usual = ", ".join(swept.values())
        raise UserError(f"{typed}: no such factor; {hint}These runs differ in: {usual}")
    return path


def _text(known: Mapping[str, Any], paths: Sequence[str]) -> str:
    """Return a factor's value as text, with those of its parameters that differ."""
    main, *rest = paths
    text = str(known.get(main))
    return " ".join([text, *(f"{p.rpartition('.')[2]}={known[p]}" for p in rest if p in known)])


def hashable(value: Any) -> Hashable:
    """Return a config's value as a key."""
    return str(value) if isinstance(value, list | dict) else value
