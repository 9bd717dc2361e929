"""Which activation of the catalogue a formula is, by its values."""

import inspect
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from actsweep.formulas.grammar import parameters, parse
from actsweep.formulas.values import evaluate
from actsweep.theory.closed_forms import CLOSED_FORMS

GRID = np.concatenate([np.linspace(-12, 12, 481), [-1e-3, 1e-3]])
TOLERANCE = 1e-9


def twin(act: Mapping[str, Any]) -> str | None:
    """Return what to type for the activation of the catalogue that a formula equals, or None.

    Values are compared in float64 for |x| <= 12. The catalogue's parameters have their defaults,
    or the formula's values where both have one of that name, and are not trained.

    Args:
        act: a run's, with a formula, such as `x*sigmoid(beta*x)` and beta = 2.

    Returns:
        Overrides such as `act=swish act.beta=2.0`; None, too, if the formula's are trained.
    """
    if act.get("learnable"):
        return None
    numbers = {key: act[key] for key in parameters(parse(act["formula"]))}
    values, _ = evaluate(act["formula"], GRID, **numbers)
    for name, form in CLOSED_FORMS.items():
        if name == "prelu":  # whose slope is always trained
            continue
        known = inspect.signature(form.evaluate).parameters
        taken = {key: numbers[key] for key in known if key in numbers}
        if taken.keys() != numbers.keys():
            taken = {}
        theirs, _ = form.evaluate(GRID, **taken)
        if np.allclose(values, theirs, rtol=TOLERANCE, atol=TOLERANCE):
            words = [f"act={name}", *(f"act.{key}={value}" for key, value in taken.items())]
            trains = "learnable" in known and known["learnable"].default
            return " ".join([*words, "act.learnable=false"] if trains else words)
    return None


def tell(acts: Iterable[Mapping[str, Any]]) -> None:
    """Print, on standard error, a line for each formula that the catalogue has by a name."""
    typed: dict[str, Mapping[str, Any]] = {}
    for act in acts:
        if "formula" in act:
            numbers = (f"act.{key}={act[key]}" for key in parameters(parse(act["formula"])))
            typed.setdefault(" ".join([f"act={act['name']}", *numbers]), act)
    for words, act in typed.items():
        if same := twin(act):
            print(f"{words}: the same as {same}", file=sys.stderr)
