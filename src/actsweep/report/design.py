"""The runs that are compared, and the factors that tell them apart. No jax."""

import difflib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actsweep.config.identity import what_counts
from actsweep.runs import run_dir
from actsweep.runs.run_dir import RunDir
from actsweep.stats.paired import Cell
from actsweep.sweeps import plan, table
from actsweep.sweeps.status import take_snapshot
from actsweep.utils.errors import UserError

Flat = Mapping[str, Any]
"""A run's config, dotted path -> value."""
Label = tuple[str, ...]
"""A group's values of the factors that are compared, as text."""
MOST_SECOND = 8
"""Values of a second factor that are compared without being asked for."""


@dataclass(frozen=True)
class Entry:
    """One run of the sweeps that are compared: its config as nested plain values, its state as
    `actsweep status` shows it, its summary once it has ended, and why it isn't complete."""

    run: RunDir
    config: Mapping[str, Any]
    state: str
    summary: Mapping[str, Any]
    cause: str | None


def gather(folders: Sequence[Path]) -> list[Entry]:
    """The runs of some sweeps, each once.

    Raises:
        UserError: a sweep's plan can't be read.
    """
    found: dict[str, Entry] = {}
    for folder in folders:
        plans = plan.read_frozen(folder)["members"]
        for one in take_snapshot(folder).runs:
            status = one.status or {}
            summary = run_dir.read_summary(one.run) if one.state in run_dir.ENDED else None
            entry = Entry(
                one.run,
                plans[one.run.run_id]["config"],
                one.state,
                summary or {},
                status.get("cause"),
            )
            known = found.get(one.run.run_id)
            if known is None or entry.state == "complete":
                found[one.run.run_id] = entry
    return list(found.values())


def where(entries: Sequence[Entry], conditions: Sequence[str]) -> list[Entry]:
    """The runs that meet conditions such as `depth=4` or `act=relu,elu`.

    Raises:
        UserError: no such factor, or no run meets them.
    """
    flat = {one.run.run_id: table.flatten(one.config) for one in entries}
    swept = table.columns([one.config for one in entries]) if entries else {}
    kept = list(entries)
    for text in conditions:
        name, _, wanted = text.partition("=")
        path = _path(f"--where {text}", name, swept, [*flat.values()])
        values = {one.run.run_id: str(flat[one.run.run_id].get(path)) for one in kept}
        chosen = [one for one in kept if values[one.run.run_id] in wanted.split(",")]
        if not chosen:
            known = ", ".join(sorted(set(values.values())))
            raise UserError(f"--where {text}: no run has it; there are: {known}")
        kept = chosen
    return kept


@dataclass(frozen=True)
class Design:
    """How runs are laid out for a comparison.

    Attributes:
        entries: the runs.
        flat: their configs, by run id.
        titles: of all config paths in which they differ.
        factors: config paths by title: what tells groups apart. An activation's parameters belong
            to it, and so on.
        tuned: other paths, of the optimiser: a group's best values are chosen in validation.
        averaged: other paths, whose values are averaged over.
        labels: each run's group.
        decided: other paths in which groups differ, but which say nothing that the factors don't:
            whatever the difference between groups is, it may be theirs.
    """

    entries: Sequence[Entry]
    flat: Mapping[str, Flat]
    titles: Mapping[str, str]
    factors: Mapping[str, Sequence[str]]
    tuned: Sequence[str]
    averaged: Sequence[str]
    labels: Mapping[str, Label]
    decided: Sequence[str] = ()

    def values(self, path: str) -> list[str]:
        """What a config path holds, each value once, as text."""
        return list(dict.fromkeys(str(flat.get(path)) for flat in self.flat.values()))

    def cell(self, run_id: str) -> Cell:
        """A run's place beside its group: its seed, then what is averaged over."""
        flat = self.flat[run_id]
        return (flat["seed"], *(hashable(flat.get(path)) for path in self.averaged))

    def numbers(self, title: str) -> dict[str, float]:
        """A factor's values by their text, if all are numbers; else empty."""
        paths = self.factors[title]
        found = {_text(flat, paths): flat.get(paths[0]) for flat in self.flat.values()}
        numbers = {text: float(v) for text, v in found.items() if isinstance(v, int | float)}
        return numbers if len(numbers) == len(found) else {}


def lay_out(entries: Sequence[Entry], by: Sequence[str]) -> Design:
    """Which factors are compared, tuned, and averaged over.

    Raises:
        UserError: there is no such factor; or several data sets would be averaged over.
    """
    flat = {one.run.run_id: table.flatten(one.config) for one in entries}
    titles = table.columns([one.config for one in entries])
    factors = _factors(by, titles, [*flat.values()])
    used = {path for paths in factors.values() for path in paths}
    several = {p for p in titles if len({str(one.get(p)) for one in flat.values()}) > 1}
    others = [path for path in titles if path in several - used - {"seed"}]
    decided = _decided(entries, [*titles, *used])
    if "data.name" in (*others, *decided):
        names = ", ".join(sorted({str(one["data.name"]) for one in flat.values()}))
        raise UserError(
            f"the runs are of several data sets ({names}), whose mean says nothing; type "
            "--by act,data, or --where data=<name>"
        )
    tuned = [path for path in others if path.startswith("optim.")]
    labels = {
        run_id: tuple(_text(one, paths) for paths in factors.values())
        for run_id, one in flat.items()
    }
    averaged = [path for path in others if path not in tuned]
    return Design(entries, flat, titles, factors, tuned, averaged, labels, decided)


def usual_factors(entries: Sequence[Entry]) -> list[str]:
    """What tells groups apart if nobody says: the activation, and what else was swept if it is one
    thing with few values, but for what is tuned; data sets are never averaged over."""
    design = lay_out(entries, ["act", "data"])
    if len(design.values("data.name")) > 1:
        return ["act", "data"]
    several = any(path.startswith("act.") for path in design.titles if path != "act.name")
    others, tuned = ([design.titles[p] for p in paths] for paths in (design.averaged, design.tuned))
    if not (several or len(design.values("act.name")) > 1) and (others or tuned):
        return [*others, *tuned][:1]
    one_more = len(others) == 1 and len(design.values(design.averaged[0])) <= MOST_SECOND
    return ["act", *(others if one_more else [])]


def _decided(entries: Sequence[Entry], titles: Sequence[str]) -> list[str]:
    """Config paths in which runs differ although no title says so, but for the parameters of what
    has a title; the first of each part of the config."""
    flat = [table.flatten(what_counts(one.config)) for one in entries]
    parts = {path.partition(".")[0] for path in (*titles, "seed")}
    found: dict[str, str] = {}
    for path in dict.fromkeys((*table.KNOWN, *(path for one in flat for path in one))):
        part = path.partition(".")[0]
        if part not in parts and len({str(one.get(path)) for one in flat}) > 1:
            found.setdefault(part, path)
    return list(found.values())


def _factors(
    by: Sequence[str], swept: Mapping[str, str], flat: Sequence[Mapping[str, Any]]
) -> dict[str, list[str]]:
    """Config paths by title; `act` takes the activation's parameters with it, and so on."""
    found = {}
    for name in by:
        path = _path(f"--by {name}", name, swept, flat)
        if path == "seed":
            raise UserError("--by seed: seeds are what is averaged over; type --by act")
        own = [p for p in swept if p.startswith(f"{name}.") and p != path]
        own = [] if path.startswith("optim.") else own  # these are tuned
        found[table.KNOWN.get(path, path)] = [path, *own]
    if len(found) > 2:
        raise UserError(f"--by {','.join(by)}: must be one or two factors")
    return found


def _path(
    typed: str, name: str, swept: Mapping[str, str], flat: Sequence[Mapping[str, Any]]
) -> str:
    """The config path of a factor's title."""
    known = {path for one in flat for path in one}
    titles = {title: path for path, title in {**table.KNOWN, **swept}.items() if path in known}
    path = titles.get(name, name)
    if path not in known:
        near = difflib.get_close_matches(name, [*titles, *sorted(known)], n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        usual = ", ".join(swept.values())
        raise UserError(f"{typed}: no such factor; {hint}These runs differ in: {usual}")
    return path


def _text(known: Mapping[str, Any], paths: Sequence[str]) -> str:
    """A factor's value as text, with those parameters that differ."""
    main, *rest = paths
    text = str(known.get(main))
    return " ".join([text, *(f"{p.rpartition('.')[2]}={known[p]}" for p in rest if p in known)])


def hashable(value: Any) -> Hashable:
    """A config's value as a key."""
    return str(value) if isinstance(value, list | dict) else value
