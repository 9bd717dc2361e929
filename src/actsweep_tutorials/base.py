"""Experiments: a measurement, figures and tables of its result, and a page that shows them."""

import difflib
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from actsweep import activations
from actsweep.activations import Activation
from actsweep.report import plotting
from actsweep.utils.errors import UserError, bad_value, unknown_name
from actsweep.utils.files import finite, write_atomic, write_json

Quantities = Mapping[str, Any]
Params = Mapping[str, Any]
MAIN_ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "swish", "gelu")


@dataclass(frozen=True)
class Table:
    """A titled table: a heading and rows of cells."""

    title: str
    heading: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def markdown(self) -> str:
        """Return the table as Markdown, with floats to four digits."""
        lines = [f"### {self.title}", "", _row(self.heading), _row(["---"] * len(self.heading))]
        return "\n".join([*lines, *map(_row, self.rows)])


@dataclass(frozen=True)
class Experiment:
    """One experiment of the tutorials. What it measures is kept apart from how it is shown.

    Attributes:
        name: the name in `actsweep experiment <name>`.
        question: the question that it answers.
        source: the tutorials that it comes from, S0 to S4; see docs/claims.md.
        measure: from the parameters to plain numbers, strings, lists and dicts of them.
        draw: from the result of `measure` to figures, by name.
        tables: from the result of `measure` to tables.
        params: names and defaults. A tuple is a list of names or numbers, typed with commas.
        quick: the parameters that leave out all training; None if nothing is left then, or, of an
            experiment that doesn't train, if it is no part of the gallery.
        trains: whether it trains networks, by `actsweep train`.
        on_record: whether the pages of the tutorials keep the result of one that trains.
    """

    name: str
    question: str
    source: str
    measure: Callable[[Params], Quantities]
    draw: Callable[[Quantities], Mapping[str, Figure]]
    tables: Callable[[Quantities], Sequence[Table]]
    params: Params = field(default_factory=dict)
    quick: Params | None = field(default_factory=dict)
    trains: bool = False
    on_record: bool = True


def resolve_parameters(experiment: Experiment, words: Iterable[str]) -> dict[str, Any]:
    """Return the parameters that `key=value` words ask for; all others keep their defaults.

    An experiment that trains takes any other override too, as `actsweep train` does: they become
    its parameter `overrides`.

    Raises:
        UserError: a name is unknown, or a value is of the wrong kind.
    """
    params: dict[str, Any] = dict(experiment.params)
    overrides = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"{word}: must be key=value; type for example {_example(experiment)}")
        if key in experiment.params:
            params[key] = _parse(experiment, key, value)
        elif experiment.trains and not _misspelt(key, experiment.params):
            overrides.append(word)
        else:
            raise unknown_name("experiment", key, experiment.params, _example(experiment))
    return params | ({"overrides": tuple(overrides)} if experiment.trains else {})


def _misspelt(key: str, known: Iterable[str]) -> bool:
    return "." not in key and bool(difflib.get_close_matches(key, list(known), 1, 0.75))


def _example(experiment: Experiment) -> str:
    pairs = [f"{k}={as_typed(v)}" for k, v in experiment.params.items()]
    return pairs[0] if pairs else f"actsweep experiment {experiment.name}"


def activation(name: str) -> Activation:
    """Return one of our activations, or a user's by its dotted path, `my_module.my_function`.

    Raises:
        UserError: there is no such activation.
    """
    return activations.custom(name, {}) if "." in name else activations.get(name)


def as_typed(value: Any) -> str:
    """Return a parameter's value as it is typed on the command line."""
    if value == tuple(activations.ACTIVATIONS):
        return "all"
    if isinstance(value, tuple):
        return ",".join(map(as_typed, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parse(experiment: Experiment, key: str, text: str) -> Any:
    default = experiment.params[key]
    fix = f"{key}={as_typed(default)}"
    if isinstance(default, tuple):
        if key == "act" and text == "all":
            return tuple(activations.ACTIVATIONS)
        if not text:
            raise bad_value(key, text, "a list with commas", fix)
        parts = tuple(_parse_scalar(key, part, default[0], fix) for part in text.split(","))
        if key == "act":
            for name in parts:
                activation(name)
        return parts
    return _parse_scalar(key, text, default, fix)


def _parse_scalar(key: str, text: str, default: Any, fix: str) -> Any:
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise bad_value(key, text, "true or false", fix)
        return text == "true"
    if isinstance(default, str):
        return text
    try:
        value = type(default)(text)
    except ValueError:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise bad_value(key, text, kind, fix) from None
    if isinstance(value, int) and value < (0 if key == "seed" else 1):
        raise bad_value(key, text, "at least 1", fix)
    return value


def command(experiment: Experiment, params: Params) -> str:
    """Return the shell command that repeats an experiment."""
    words = [
        f"{key}={as_typed(value)}"
        for key, value in params.items()
        if key in experiment.params and value != experiment.params[key]
    ]
    words += params.get("overrides", ())
    return shlex.join(["actsweep", "experiment", experiment.name, *words])


def measure(experiment: Experiment, params: Params) -> Quantities:
    """Run an experiment and return its result in plain Python types, as for `result.json`."""
    return finite(experiment.measure(params))


def record(experiment: Experiment, params: Params, result: Quantities) -> dict[str, Any]:
    """Return the content of `result.json`."""
    kept = {key: value for key, value in params.items() if key != "outputs"}
    return {"experiment": experiment.name, "params": kept, "found": result}


def write(
    experiment: Experiment,
    params: Params,
    result: Quantities,
    folder: Path,
    verdicts: Sequence[str] = (),
) -> Path:
    """Write `result.json`, every figure as PNG and SVG, and the page `README.md`; return the page.

    Args:
        experiment: the experiment.
        params: its parameters.
        result: what `measure` returned.
        folder: where the files go; it is made if it doesn't exist.
        verdicts: Markdown about the claims that this result decides.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "result.json", record(experiment, params, result))
    with plotting.use_style():
        figures = experiment.draw(result)
    for name, figure in figures.items():
        plotting.save_figure(figure, folder / name)
    lines = [f"# {experiment.name}", "", experiment.question, ""]
    lines += ["```bash", command(experiment, params), "```", ""]
    lines += [line for text in verdicts for line in (text, "")]
    for name in figures:
        lines += [f"![{name}]({name}.png)", ""]
    for table in experiment.tables(result):
        lines += [table.markdown(), ""]
    write_atomic(folder / "README.md", "\n".join(lines))
    return folder / "README.md"


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(format_cell(value).replace("|", "\\|") for value in cells) + " |"


def format_cell(value: Any) -> str:
    """Return a value as a table shows it: floats to four digits, None as a dash."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
