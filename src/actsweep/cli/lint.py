"""`actsweep lint`: a short table for each activation."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from actsweep.config.schema import RunConfig
from actsweep.theory.lint import SHAPE_TO, lint
from actsweep.theory.twins import tell
from actsweep.utils.files import finite


def show(runs: Sequence[RunConfig], *, as_json: bool, cost: bool) -> None:
    """Print what there is to know about each run's activation.

    Raises:
        UserError: as `theory.lint.lint`.
    """
    if os.getcwd() not in sys.path:  # the user's own code
        sys.path.insert(0, os.getcwd())
    tell(run.act for run in runs)
    found = [lint(run.act, cost=cost) for run in runs]
    if as_json:
        print(json.dumps(finite(found), indent=2, allow_nan=False))
        return
    print("\n\n".join("\n".join(lines(each)) for each in found))


def lines(found: Mapping[str, Any]) -> list[str]:
    """Return the table of one activation."""
    act = found["act"]
    hidden = ("name", "formula", "by_layer", "_target_")
    shown = {key: act[key] for key in act if key not in hidden and act[key] is not False}
    params = [f"{key}={value}" for key, value in shown.items()]
    low, high = ("unbounded" if end is None else f"{end:.6g}" for end in found["range"])
    rows = {
        "finite": _finite(found["value_finite"]),
        "derivative finite": _finite(found["derivative_finite"]),
        "error, float32": _error(found["value_ulps"], "ulp"),
        "error of derivative": _error(found["derivative_ulps"], "ulp"),
        "error, bfloat16": _error(found["bfloat16_ulps"], "ulp of bfloat16"),
        "reference": found["reference"],
        "monotone": found["monotone"],
        "range": f"from {low} to {high}",
        "f'(z) = 0": _places(found["zeros_of_derivative"]),
        "kinks": _places(found["kinks"]),
        "jumps": _places(found["jumps"]),
        "mean, z ~ N(0, 1)": _mean(found["mean"]),
    }
    if cost := found["cost"]:
        rows["cost, of relu's"] = f"forward {cost['forward']:.2g}, backward {cost['backward']:.2g}"
    for each in found["rewrites"]:
        rows[f"rewrite {each['part']}"] = f"as {each['better']}, since it {each['why']}"
    width = max(map(len, rows))
    return [
        " ".join([act["name"], *params, *["(its gate, at v = 1)"] * found["gated"]]),
        *(f"  {k:<{width}}  {v}" for k, v in rows.items()),
    ]


def _finite(found: Mapping[str, Any]) -> str:
    if found["finite"]:
        return "wherever float32 holds it"
    return f"no: from z = {found['from']:.6g} on, at {found['share']:.2g} of the inputs"


def _error(found: Mapping[str, Any], unit: str) -> str:
    return f"at most {found['worst']:.3g} {unit}, at z = {found['at']:.6g}"


def _places(places: Sequence[float]) -> str:
    if len(places) > 6:
        return f"{len(places)} places with |z| < {SHAPE_TO:g}, the first {places[0]:.6g}"
    return ", ".join(f"{place:.6g}" for place in places) or "none"


def _mean(mean: float) -> str:
    return "0: zero-centred" if abs(mean) < 1e-6 else f"{mean:.4g}: not zero-centred"
