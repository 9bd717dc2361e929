"""The space of a search: which overrides are searched, which are fixed, which are seeds. No jax."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from actsweep.sweeps.search import Parameter, Params, Space
from actsweep.utils.errors import UserError, bad_value
from hydra_plugins.actsweep_pack.combinations import Words, values_of

EXAMPLE = "'optim.lr=tag(log,interval(1e-4,1))'"


@dataclass(frozen=True)
class Typed:
    """A command's overrides, divided.

    Attributes:
        fixed: words that every run has.
        space: what is searched.
        seeds: the words of each suggestion's runs: several train it more than once.
    """

    fixed: Words
    space: Space
    seeds: Words

    def words(self, params: Params) -> list[Words]:
        """Return the overrides of a suggestion's runs."""
        suggested = [f"{key}={value}" for key, value in params.items()]
        return [[*self.fixed, *suggested, *[seed] * bool(seed)] for seed in self.seeds]


def divide(overrides: Sequence[Override]) -> Typed:
    """Divide overrides, as parsed; of two with the same key the later counts.

    Raises:
        UserError: nothing is searched, or a key can't be.
    """
    fixed: Words = []
    seeds: Words = [""]
    space: dict[str, Parameter] = {}
    for key, override in {each.get_key_element(): each for each in overrides}.items():
        if not override.is_sweep_override():
            fixed += values_of(override)
        elif key == "seed":
            seeds = values_of(override)
        else:
            if key == "data" or key.startswith("sweep."):
                why = (
                    "scores on different data don't compare" if key == "data" else "is the sweep's"
                )
                raise UserError(f"{override.input_line}: can't be searched: {why}; type one value")
            space[key] = parameter_of(override)
    if not space:
        raise UserError(f"hydra/sweeper=optuna: nothing is searched; type for example {EXAMPLE}")
    return Typed(fixed, space, seeds)


def parameter_of(override: Override) -> Parameter:
    """Return what an interval, a range or a list lets be suggested.

    Raises:
        UserError: its ends or its tags don't fit.
    """
    value, line = override.value(), override.input_line
    tags = set(getattr(value, "tags", ())) - {"log"}
    if tags:
        raise UserError(f"{line}: has the tag {min(tags)}; must be log; type for example {EXAMPLE}")
    log = "log" in getattr(value, "tags", ())
    if isinstance(value, IntervalSweep):
        low, high, step = value.start, value.end, None
        assert low is not None
        assert high is not None
    elif isinstance(value, RangeSweep):
        low, high, step = _ends(value)
    else:
        if log:
            raise UserError(f"{line}: a list has no logarithm; type the list alone, or {EXAMPLE}")
        words = [word.partition("=")[2] for word in values_of(override)]
        return Parameter(choices=tuple(dict.fromkeys(words)))
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{line}: must have a lower and a higher end; type for example {EXAMPLE}")
    if log and low <= 0:
        raise UserError(f"{line}: with tag(log,…) must begin above 0; type for example {EXAMPLE}")
    if log and step not in (None, 1):
        raise UserError(f"{line}: with tag(log,…) has no step; type for example {EXAMPLE}")
    return Parameter((), low, high, log, step)


def _ends(value: RangeSweep) -> tuple[float, float, float]:
    """Return the first and the last number of a range, and its step."""
    low, stop, step = value.start or 0, value.stop, value.step
    assert stop is not None
    numbers = math.ceil(round((stop - low) / step, 9)) if step > 0 else 0
    return low, low + max(0, numbers - 1) * step, step


def check_ends(space: Space) -> list[Params]:
    """Return suggestions that, between them, have both ends of every interval and every choice."""
    ends = {key: parameter.ends for key, parameter in space.items()}
    longest = max(map(len, ends.values()))
    return [
        {key: some[min(place, len(some) - 1)] for key, some in ends.items()}
        for place in range(longest)
    ]


def variants_of(space: Space) -> list[Params]:
    """Return a suggestion, and others that differ from it in one key: one for each key."""
    ends = {key: parameter.ends for key, parameter in space.items()}
    first = {key: some[0] for key, some in ends.items()}
    return [first, *({**first, key: some[-1]} for key, some in ends.items() if len(some) > 1)]


def check_number(key: str, value: object, least: int) -> int:
    """Return a whole number of the sweeper's config.

    Raises:
        UserError: it isn't one, or below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        path = f"hydra.sweeper.{key}"
        raise bad_value(
            path, value, f"a whole number of at least {least}", f"{path}={max(8, least)}"
        )
    return value
