"""Other activations in some places: `act.by_layer`, from their names to what acts there. No jax."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from actsweep.config.schema import RunConfig
from actsweep.formulas import grammar
from actsweep.utils.errors import UserError, bad_value

ByLayer = dict[str, dict[str, Any]]
"""Name or pattern -> the activation: `name`, its parameters, and `_target_` of a user's own."""
EXAMPLE = "'act.by_layer={hidden_1: tanh}'"
MAX_NAMED = 3
"""Other activations that a run's id names; of more it says the number."""


def path_of(pattern: str) -> str:
    """Return the config path of what acts in the places that a pattern names."""
    return f"act.by_layer.{pattern}"


def entries(act: Mapping[str, Any]) -> ByLayer:
    """Return the activations by pattern of a run's `act`; none in most runs."""
    return act.get("by_layer") or {}


def normalise(act: dict[str, Any]) -> None:
    """Write `by_layer` in one way: mappings with a name, sorted by pattern; absent if empty.

    Raises:
        UserError: it is no mapping, or an activation is neither a name nor a mapping with a name.
    """
    given = act.pop("by_layer", None)
    if given is None or given == {}:
        return
    if not isinstance(given, Mapping):
        raise bad_value("act.by_layer", given, "a mapping of layers to activations", EXAMPLE)
    named = {str(pattern): _with_name(str(pattern), entry) for pattern, entry in given.items()}
    act["by_layer"] = dict(sorted(named.items(), key=lambda item: _natural(item[0])))


def _with_name(pattern: str, entry: Any) -> dict[str, Any]:
    entry = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        allowed = "an activation's name, or a mapping of name and parameters"
        fix = typed(pattern, "{name: leaky_relu, slope: 0.2}")
        raise bad_value(path_of(pattern), entry, allowed, fix)
    return {"name": entry["name"], **entry}


def _natural(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts hidden_2 before hidden_10."""
    parts = re.split(r"(\d+)", text)
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts]


def complete(act: dict[str, Any], option_of: Callable[[str, str], Mapping[str, Any]]) -> None:
    """Fill in the parameters that an activation's config file gives and `by_layer` leaves out.

    Args:
        act: a run's, normalised.
        option_of: from the name of an option of `act`, and the config path for an error's message,
            to what its file says.

    Raises:
        UserError: there is no such option.
    """
    for pattern, entry in entries(act).items():
        if "_target_" not in entry and "formula" not in entry:
            option = option_of(entry["name"], path_of(pattern))
            known = {key: value for key, value in option.items() if key != "by_layer"}
            act["by_layer"][pattern] = {**known, **entry, "name": known["name"]}


def pattern_for(act: Mapping[str, Any], name: str) -> str | None:
    """Return the pattern of `act.by_layer` for an activation; None if none matches.

    Its own name counts before patterns.

    Raises:
        UserError: several patterns match.
    """
    patterns = entries(act)
    if name in patterns:
        return name
    matching = [pattern for pattern in patterns if fnmatchcase(name, pattern)]
    if len(matching) > 1:
        raise UserError(
            f"act.by_layer: {' and '.join(matching)} both match {name}; name it by itself, too: "
            f"type for example {typed(name, patterns[matching[0]]['name'])} beside them"
        )
    return matching[0] if matching else None


def check_patterns(act: Mapping[str, Any], names: Iterable[str]) -> None:
    """Check that every pattern matches an activation of the model, and no two the same.

    Args:
        act: a run's, normalised.
        names: of the model's activations.

    Raises:
        UserError: one matches none, or two match the same.
    """
    known = list(names)
    for pattern, entry in entries(act).items():
        if not any(fnmatchcase(name, pattern) or name == pattern for name in known):
            near = difflib.get_close_matches(pattern, known, n=1, cutoff=0.5)
            fix = typed((near or known or ["hidden_1"])[0], entry["name"])
            hint = f"did you mean {fix}?" if near else f"type for example {fix}."
            raise UserError(
                f"{path_of(pattern)}={entry['name']}: the model has no such activation; {hint} "
                f"Activations: {', '.join(known) or 'none'}"
            )
    for name in known:
        pattern_for(act, name)


def model_activations(run: RunConfig) -> list[str] | None:
    """Return the names of an mlp's or a cnn's activations; None of a model that isn't built yet."""
    if run.model._target_ is not None or run.model.name not in ("mlp", "cnn"):
        return None
    channels = (run.model.channels or [32, 64]) if run.model.name == "cnn" else []
    convolutions = [f"conv_{i + 1}" for i in range(len(channels) * (run.model.convs or 1))]
    return [*convolutions, *(f"hidden_{i}" for i, _ in enumerate(run.widths, 1))]


def params_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of an activation of `act.by_layer`, without name, formula, target."""
    others = ("name", "formula", "_target_")
    return {key: value for key, value in entry.items() if key not in others}


def typed(pattern: str, activation: str) -> str:
    """Return the override that sets one activation, as it is typed."""
    return f"'act.by_layer={{{pattern}: {activation}}}'"


def label(act: Mapping[str, Any]) -> str:
    """Return what tables and legends call activations: `relu, hidden_1 tanh`; `tanh dks`."""
    parts = (f"{pattern} {_words(entry)}" for pattern, entry in entries(act).items())
    rescaled = [str(act["transform"])] if act.get("transform") else []
    return ", ".join([" ".join([str(act["name"]), *rescaled]), *parts])


def _words(entry: Mapping[str, Any]) -> str:
    """Return a name and the parameters, but for switches that are off."""
    shown = (f"{key}={value}" for key, value in params_of(entry).items() if value is not False)
    return " ".join([entry["name"], *shown])


def short_label(act: Mapping[str, Any]) -> str:
    """Return the part of a run's id that says which activations it has: `relu+tanh`."""
    others = dict.fromkeys(_part_of_id(entry) for entry in entries(act).values())
    few = list(others) if len(others) <= MAX_NAMED else [str(len(others))]
    rescaled = [str(act["transform"])] if act.get("transform") else []
    return "+".join([_part_of_id(act), *rescaled, *few])


def _part_of_id(act: Mapping[str, Any]) -> str:
    """Return what an activation is called in a run's id, and so in a folder's name."""
    return grammar.slug(act["formula"]) if "formula" in act else str(act["name"])


def flat_act(flat: Mapping[str, Any], act: Mapping[str, Any]) -> dict[str, Any]:
    """Return a flattened config as runs are told apart: `act.name` says what acts in which layer.

    Args:
        flat: dotted path -> value.
        act: the config's.
    """
    flat = {path: value for path, value in flat.items() if path != "act.formula"}  # = the name
    if not entries(act):
        return flat
    prefix = "act.by_layer."
    kept = {k: v for k, v in flat.items() if not k.startswith(prefix) or k.endswith("._target_")}
    return kept | {"act.name": label(act)}
