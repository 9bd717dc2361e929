"""Which combinations of the listed values a sweep trains. No jax."""

import functools
import itertools
import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from actsweep.config.schema import SweepConfig
from actsweep.utils.errors import UserError, bad_value

MAX_RUNS = 20_000
"""Runs that a sweep may have: a plan of so many takes minutes to make and to read."""

Words = list[str]
"""Overrides of one run, as typed."""


def combine(overrides: Sequence[Override], pairs: Sequence[Any] = ()) -> list[Words]:
    """Return the overrides of every run: the Cartesian product, where pairs go together.

    Args:
        overrides: as parsed; of two with the same key the later counts.
        pairs: keys of which the first values belong together, the second ones, and so on; or a list
            of such lists.

    Raises:
        UserError: no run, or more than `MAX_RUNS`; a pair of keys that can't be paired; an
            interval.
    """
    typed = {override.get_key_element(): override for override in overrides}
    together = _pairs(pairs, typed)
    lists: dict[str, list[Words]] = {}
    for key, override in typed.items():
        keys = together.get(key, [key])
        if keys[0] == key:
            columns = [values_of(typed[each]) for each in keys]
            _check_lengths(keys, columns)
            lists[key] = [list(row) for row in zip(*columns, strict=True)]
        runs = math.prod(map(len, lists.values()))
        if runs > MAX_RUNS:
            raise UserError(
                f"{override.input_line}: with it the sweep has more than {MAX_RUNS:,} runs; type "
                "fewer values, and the others in sweeps of their own"
            )
    return [[word for words in row for word in words] for row in itertools.product(*lists.values())]


def values_of(override: Override) -> Words:
    """Return an override once for each of its values."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    if not override.is_discrete_sweep():
        raise UserError(
            f"{override.input_line}: an interval has no list of values; type hydra/sweeper=optuna, "
            "which searches it (docs/search.md), or a list"
        )
    some = [*itertools.islice(override.sweep_string_iterator(), MAX_RUNS + 1)]
    if not some:
        raise UserError(f"{override.input_line}: has no value; type for example seed=0,1,2")
    return [f"{key}={value}" for value in some]


def _pairs(pairs: Sequence[Any], typed: Mapping[str, Override]) -> dict[str, list[str]]:
    """Return, for each key that is paired, all keys of its pair in the order of the command."""
    groups = [pairs] if pairs and all(isinstance(key, str) for key in pairs) else pairs
    together: dict[str, list[str]] = {}
    for group in groups:
        if not isinstance(group, list) or not all(isinstance(key, str) for key in group):
            raise bad_value("sweep.pairs", group, "a list of keys", "sweep.pairs=[act,optim.lr]")
        for key in group:
            if key not in typed or not typed[key].is_sweep_override():
                raise UserError(f"sweep.pairs: {key} isn't swept; type for example {key}=…,…")
            if key in together:
                raise UserError(f"sweep.pairs: {key} is named twice; name it once")
            together[key] = [other for other in typed if other in group]
    return together


def _check_lengths(keys: Sequence[str], columns: Sequence[Words]) -> None:
    if len({len(column) for column in columns}) > 1:
        counts = ", ".join(
            f"{key} has {len(column)}" for key, column in zip(keys, columns, strict=True)
        )
        raise UserError(f"sweep.pairs: {counts} values; type as many for each")


def without_excluded(jobs: Sequence[Words], exclude: Sequence[Any]) -> list[Words]:
    """Return the runs that no entry of `sweep.exclude` describes.

    Args:
        jobs: each one's overrides.
        exclude: mappings of keys to values; a run is left out if it was typed with all of one.

    Raises:
        UserError: an entry that describes no run, or all runs are left out.
    """
    left = list(jobs)
    for entry in exclude:
        if not isinstance(entry, Mapping) or not entry:
            fix = "'sweep.exclude=[{act: elu, optim.lr: 1.0}]'"
            raise bad_value("sweep.exclude", entry, "values by key", fix)
        if not any(_is_like(job, entry) for job in jobs):
            shown = ", ".join(f"{key}: {value}" for key, value in entry.items())
            raise UserError(f"sweep.exclude: no run is like {{{shown}}}; type values of this sweep")
        left = [job for job in left if not _is_like(job, entry)]
    if not left:
        raise UserError("sweep.exclude: leaves no run; exclude less")
    return left


def _is_like(job: Words, entry: Mapping[Any, Any]) -> bool:
    given = dict(word.partition("=")[::2] for word in job)
    return all(str(key) in given and _same(given[str(key)], entry[key]) for key in entry)


def _same(text: str, value: Any) -> bool:
    """Return whether a word's value is this one: 0.10 and 1e-1 are the same number."""
    parsed = _value_of(text)
    return bool(parsed == value) or str(parsed) == str(value)


@functools.cache
def _value_of(text: str) -> Any:
    return OverridesParser.create().parse_override(f"key={text}").value()


def settings_of(
    overrides: Sequence[Override], peek: Callable[[Sequence[str]], SweepConfig]
) -> SweepConfig:
    """Return the sweep's own settings, which are the same for all its runs.

    Args:
        overrides: as parsed.
        peek: from the overrides of a run to its settings of the sweep.

    Raises:
        UserError: they are swept.
    """
    for override in overrides:
        if override.key_or_group.startswith("sweep.") and override.is_sweep_override():
            raise UserError(f"{override.input_line}: can't be swept; type one value")
    return peek([values_of(override)[0] for override in overrides])


def where_known(
    jobs: Sequence[Words],
    default: str,
    params_of: Callable[[str], Collection[str] | None],
    acts: Sequence[str] = (),
) -> list[Words]:
    """Return the jobs' overrides without parameters that their activation doesn't have.

    Only where another activation of the sweep has it: `act=relu,leaky_relu act.slope=0.1,0.2` are
    three runs, one of ReLU. What no activation has is refused later, as it stands.

    Args:
        jobs: each one's overrides.
        default: the activation of a job that names none.
        params_of: from an activation to its parameters; None if it isn't known.
        acts: activations of the sweep that these jobs may lack.
    """
    own = [_last_value(job, "act") or default for job in jobs]
    known = {act: params_of(act) for act in dict.fromkeys([*own, *acts])}
    left: list[list[str]] = []
    told: dict[str, None] = {}
    for job, act in zip(jobs, own, strict=True):
        kept = []
        for word in job:
            param = word.partition("=")[0].removeprefix("act.")
            mine = known[act]
            has = [name for name, params in known.items() if params and param in params]
            if word.startswith("act.") and mine is not None and param not in mine and has:
                told[f"act.{param}: only for {', '.join(has)}"] = None
            else:
                kept.append(word)
        left.append(kept)
    for line in told:
        print(line, file=sys.stderr)
    return left


def _last_value(words: Sequence[str], key: str) -> str | None:
    values = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    return values[-1] if values else None
