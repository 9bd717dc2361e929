"""What experiments record of groups that are compared in pairs, and how they show it."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from actsweep.stats.paired import BETTER, EQUIVALENT, WORSE, Pair, mean_interval


def record_pairs(pairs: Mapping[tuple[str, str], Pair], scale: float = 1.0) -> list[dict[str, Any]]:
    """Return of each pair the difference a - b in the unit that is shown, p and the verdict."""
    return [
        {
            "a": a,
            "b": b,
            "difference": scale * pair.difference,
            "p": pair.p_holm,
            "verdict": pair.verdict,
        }
        for (a, b), pair in pairs.items()
    ]


def told(pairs: Sequence[Mapping[str, Any]], name: str) -> tuple[str, str]:
    """Return the groups that one is better than, and those that it is equivalent to."""
    better, equivalent = [], []
    for pair in pairs:
        if name in (pair["a"], pair["b"]):
            other = pair["b"] if name == pair["a"] else pair["a"]
            if pair["verdict"] == (BETTER if name == pair["a"] else WORSE):
                better.append(other)
            elif pair["verdict"] == EQUIVALENT:
                equivalent.append(other)
    return ", ".join(better) or "–", ", ".join(equivalent) or "–"


def interval_text(values: Sequence[float]) -> str:
    """Return the mean of some values with its 95 % interval; a dash of none."""
    if not values:
        return "–"
    mean, half = mean_interval(values)
    return f"{mean:.4g}" if half is None else f"{mean:.4g} ± {half:.2g}"


def draw_group(axes: Axes, place: int, values: Sequence[float], colour: str) -> None:
    """Draw a group's values as dots, and beside them their mean with its 95 % interval."""
    axes.plot([place + 0.15] * len(values), values, "o", color=colour, alpha=0.5, markersize=4)
    if len(values) > 1:
        mean, half = mean_interval(values)
        axes.errorbar(place, mean, yerr=half, color=colour, capsize=4, marker="_")
