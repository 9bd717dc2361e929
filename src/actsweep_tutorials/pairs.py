"""Groups that an experiment compares in pairs, and how it shows them."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from actsweep.stats.paired import BETTER, EQUIVALENT, WORSE, Cell, compare, mean_interval


def compare_pairs(
    values: Mapping[str, Mapping[int, float]],
    trained: Mapping[str, Sequence[int]],
    margin: float,
    sign: int = 1,
) -> list[dict[str, Any]]:
    """Compare each pair by seed, as `actsweep compare --one-look`: experiments set their seeds.

    Args:
        values: by group, the score of each seed that learned something; none is made up for others.
        trained: by group, the seeds that it was trained with.
        margin: what doesn't matter, in the unit of the values.
        sign: 1 if larger is better, -1 if smaller is.

    Returns:
        Of each pair a - b, p and the verdict about a.
    """
    cells: dict[str, dict[Cell, float]] = {
        name: {(seed,): sign * value for seed, value in of_seeds.items()}
        for name, of_seeds in values.items()
    }
    lost = {name: set(trained[name]) - values[name].keys() for name in values}
    return [
        {
            "a": a,
            "b": b,
            "difference": sign * pair.difference,
            "p": pair.p_holm,
            "verdict": pair.verdict,
        }
        for (a, b), pair in compare(cells, margin, lost=lost, one_look=True).items()
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
