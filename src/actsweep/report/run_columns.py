"""The columns of a table of runs: what was configured, and what came out, as shown. No jax."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from actsweep.stats.scores import SCORES, TASKS, tasks_in
from actsweep.sweeps import table
from actsweep.utils.files import finite

if TYPE_CHECKING:
    from actsweep.report.design import Entry

PARTS = ("best_val", "test", "train")
"""What stands before a score's name in a summary."""
SHARES = {
    "dead_frac": "dead units, %",
    "saturated_frac": "saturated pairs, %",
    "chance": "chance, %",
}
"""Shares that the page shows in percent, with their titles."""
PLAIN = {"best_epoch": "best epoch"}
DIGITS = {"dead_frac": "2f", "seconds": "1f", "epochs": "6g", "best_epoch": "6g"}
HIDDEN = ("run_id", "state", "act", "depth", "init", "seed", "lr")
"""Keys of a summary that say what the config says too."""


@dataclass(frozen=True)
class RunColumn:
    """A column of the table of runs.

    Attributes:
        name: what is typed in a filter: a config path, a key of the summary, `run` or `state`.
        title: the heading, which may be typed too.
        values: one for each run, in the unit of the title; None where there is none.
        digits: decimals (`2f`) or significant digits (`4g`) of a number; empty for text.
        shown: whether the table begins with it.
        setting: whether it is of the config.
    """

    name: str
    title: str
    values: Sequence[Any] = field(repr=False)
    digits: str = ""
    shown: bool = False
    setting: bool = False

    def plain(self) -> dict[str, Any]:
        """Return it as JSON, with a value that all runs share written once."""
        values = list(self.values)
        about = {key: getattr(self, key) for key in ("name", "title", "digits", "shown", "setting")}
        same = len(values) > 1 and all(value == values[0] for value in values)
        return {**about, "constant": values[0]} if same else {**about, "values": values}


def run_columns(entries: "Sequence[Entry]") -> list[RunColumn]:
    """Return every column that runs have: those that the table begins with first.

    These are the run, its state, the config paths that tell groups apart, the seed, the scores of
    the runs' tasks, best epoch, dead units and seconds. The others are all that runs differ in,
    all further numbers of their summaries, and the rest of the config.
    """
    flat = [table.flatten_groups(entry.config) for entry in entries]
    titles = table.columns([entry.config for entry in entries]) if entries else {}
    settings = {path: [config.get(path) for config in flat] for path in _names(flat)}
    summaries = [entry.summary for entry in entries]
    results = [_result(key, summaries) for key in _names(summaries) if key not in HIDDEN]
    scores = [f"test_{name}" for name in _scores(summaries)]
    first = [*scores, "best_epoch", "dead_frac", "seconds"]
    known = {column.name: column for column in results}
    begun = [known.get(key) or _result(key, summaries) for key in first]
    return [
        RunColumn("run", "run", [entry.run.run_id for entry in entries], shown=True),
        RunColumn("state", "state", [entry.state for entry in entries], shown=True),
        *(_setting(path, settings.pop(path), shown=True) for path in titles if path in settings),
        *([_setting("seed", settings.pop("seed"), shown=True)] if "seed" in settings else []),
        *(RunColumn(c.name, c.title, c.values, c.digits, shown=True) for c in begun),
        *(column for column in results if column.name not in first),
        RunColumn("cause", "cause", [entry.cause for entry in entries]),
        *sorted(
            (_setting(path, values) for path, values in settings.items()),
            key=lambda column: len({str(value) for value in column.values}) == 1,
        ),
    ]


def _names(mappings: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _scores(summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the scores of the runs: accuracy and loss, and what else their tasks show."""
    shown = [name for task in tasks_in(summaries) for name in TASKS[task].shown]
    return list(dict.fromkeys(("accuracy", "loss", *shown)))


def _setting(path: str, values: Sequence[Any], *, shown: bool = False) -> RunColumn:
    values = finite([_leaf(value) for value in values])
    number = any(_is_number(value) for value in values)
    digits = "12g" if number else ""
    return RunColumn(path, table.KNOWN.get(path, path), values, digits, shown, setting=True)


def _result(key: str, summaries: Sequence[Mapping[str, Any]]) -> RunColumn:
    """Return a column of a summary's key, with shares in percent."""
    title, scale = PLAIN.get(key, key), 1.0
    for part in PARTS:
        name = key.removeprefix(f"{part}_")
        if name != key and name in SCORES:
            title, scale = f"{part.replace('_', ' ')} {SCORES[name].title}", SCORES[name].scale
    if key in SHARES:
        title, scale = SHARES[key], 100.0
    values = finite([_leaf(summary.get(key)) for summary in summaries])
    number = any(_is_number(value) for value in values)
    scaled = [_scaled(value, scale) for value in values]
    expected = number or not any(value is not None for value in values)  # no run has ended yet
    return RunColumn(key, title, scaled, DIGITS.get(key, "4g") if expected else "")


def _scaled(value: Any, scale: float) -> Any:
    return scale * value if scale != 1 and _is_number(value) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _leaf(value: Any) -> Any:
    """Return a value of one cell: a list or a group as text."""
    return str(value) if isinstance(value, list | tuple | Mapping) else value
