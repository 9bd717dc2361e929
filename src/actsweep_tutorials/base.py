"""What an experiment is: something measured, figures and tables of it, and a page."""

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
MAIN = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "swish", "gelu")


@dataclass(frozen=True)
class Table:
    """Numbers to read: a title, a heading and rows of cells."""

    title: str
    heading: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def markdown(self) -> str:
        """As Markdown, floats to four digits."""
        lines = [f"### {self.title}", "", _row(self.heading), _row(["---"] * len(self.heading))]
        return "\n".join([*lines, *map(_row, self.rows)])


@dataclass(frozen=True)
class Experiment:
    """One experiment. What is measured stands apart from how it is shown.

    Attributes:
        name: as in `actsweep experiment <name>`.
        question: what it answers.
        source: the tutorials it comes from, S0 to S4; see docs/claims.md.
        measure: from the parameters to plain numbers, strings, lists and dicts of them.
        draw: from what was measured to figures, by name.
        tables: from what was measured to tables.
        params: names and defaults. A tuple is a list of names or numbers, typed with commas.
        quick: the parameters that leave out all training; None if nothing is left then.
        trains: whether it trains networks, by `actsweep train`.
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


def resolve_parameters(experiment: Experiment, words: Iterable[str]) -> dict[str, Any]:
    """The parameters that `key=value` words ask for; others keep their defaults.

    An experiment that trains takes any other override too, as `actsweep train` does: they become
    its parameter `overrides`.

    Raises:
        UserError: an unknown name, or a value of the wrong kind.
    """
    found: dict[str, Any] = dict(experiment.params)
    rest = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"{word}: must be key=value; type for example {_example(experiment)}")
        if key in experiment.params:
            found[key] = _parse(experiment, key, value)
        elif experiment.trains and not _misspelt(key, experiment.params):
            rest.append(word)
        else:
            raise unknown_name("experiment", key, experiment.params, _example(experiment))
    return found | ({"overrides": tuple(rest)} if experiment.trains else {})


def _misspelt(key: str, known: Iterable[str]) -> bool:
    return "." not in key and bool(difflib.get_close_matches(key, list(known), 1, 0.75))


def _example(experiment: Experiment) -> str:
    pairs = [f"{k}={as_typed(v)}" for k, v in experiment.params.items()]
    return pairs[0] if pairs else f"actsweep experiment {experiment.name}"


def activation(name: str) -> Activation:
    """One of ours, or a user's own by its dotted path, `my_module.my_function`.

    Raises:
        UserError: there is none.
    """
    return activations.custom(name, {}) if "." in name else activations.get(name)


def as_typed(value: Any) -> str:
    """A parameter's value as one types it."""
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
        parts = tuple(_one(key, part, default[0], fix) for part in text.split(","))
        if key == "act":
            for name in parts:
                activation(name)
        return parts
    return _one(key, text, default, fix)


def _one(key: str, text: str, like: Any, fix: str) -> Any:
    if isinstance(like, bool):
        if text not in ("true", "false"):
            raise bad_value(key, text, "true or false", fix)
        return text == "true"
    if isinstance(like, str):
        return text
    try:
        value = type(like)(text)
    except ValueError:
        kind = "a whole number" if isinstance(like, int) else "a number"
        raise bad_value(key, text, kind, fix) from None
    if isinstance(value, int) and value < (0 if key == "seed" else 1):
        raise bad_value(key, text, "at least 1", fix)
    return value


def command(experiment: Experiment, params: Params) -> str:
    """What to type for the same again."""
    words = [
        f"{key}={as_typed(value)}"
        for key, value in params.items()
        if key in experiment.params and value != experiment.params[key]
    ]
    words += params.get("overrides", ())
    return shlex.join(["actsweep", "experiment", experiment.name, *words])


def measure(experiment: Experiment, params: Params) -> Quantities:
    """What an experiment finds, in plain Python types: what `result.json` holds."""
    return finite(experiment.measure(params))


def record(experiment: Experiment, params: Params, found: Quantities) -> dict[str, Any]:
    """What `result.json` holds."""
    kept = {key: value for key, value in params.items() if key != "outputs"}
    return {"experiment": experiment.name, "params": kept, "found": found}


def write(
    experiment: Experiment,
    params: Params,
    found: Quantities,
    folder: Path,
    verdicts: Sequence[str] = (),
) -> Path:
    """Write `result.json`, every figure as PNG and SVG, and the page `README.md`; return the page.

    Args:
        experiment: what was done.
        params: with what.
        found: what `measure` returned.
        folder: where to; made if it isn't there.
        verdicts: Markdown about the claims that these numbers decide.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "result.json", record(experiment, params, found))
    with plotting.look():
        drawn = experiment.draw(found)
    for name, figure in drawn.items():
        plotting.save(figure, folder / name)
    lines = [f"# {experiment.name}", "", experiment.question, ""]
    lines += ["```bash", command(experiment, params), "```", ""]
    lines += [line for text in verdicts for line in (text, "")]
    for name in drawn:
        lines += [f"![{name}]({name}.png)", ""]
    for table in experiment.tables(found):
        lines += [table.markdown(), ""]
    write_atomic(folder / "README.md", "\n".join(lines))
    return folder / "README.md"


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(cell(value).replace("|", "\\|") for value in cells) + " |"


def cell(value: Any) -> str:
    """A value as a table shows it: floats to four digits."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
