"""The table of a comparison for a paper: LaTeX, CSV, Parquet, JSON. No jax."""

import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from actsweep.report.compare import Comparison
from actsweep.report.design import Label
from actsweep.report.tables import as_csv, as_plain, group_rows
from actsweep.report.text import interval_text, seeds_text
from actsweep.stats.paired import BETTER, WORSE
from actsweep.utils import files
from actsweep.utils.errors import UserError, unknown_name

KINDS = ("latex", "csv", "parquet", "json")
SPECIAL = {
    **{character: f"\\{character}" for character in "#$%&_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "²": "$^2$",
    "–": "--",
    "<": "$<$",
    ">": "$>$",
}


def text(comparison: Comparison, kind: str) -> str:
    """Return the table of a comparison as text.

    Args:
        comparison: the comparison.
        kind: `latex`, `csv` or `json`.

    Raises:
        UserError: there is no such kind, or it is no text.
    """
    if kind == "latex":
        return _latex(comparison)
    if kind == "csv":
        return as_csv(group_rows(comparison)).rstrip("\n")
    if kind == "json":
        return files.json_text(as_plain(comparison))
    if kind == "parquet":
        raise UserError("--parquet: isn't text; type --to groups.parquet")
    raise unknown_name("kind", kind, KINDS)


def write(comparison: Comparison, kind: str, to: Path) -> Path:
    """Write the table of a comparison to a file, and return its path.

    Args:
        comparison: the comparison.
        kind: one of `KINDS`.
        to: the file.

    Raises:
        UserError: there is no such kind, or Parquet's library isn't installed.
        OSError: the file can't be written.
    """
    content: bytes | str
    content = _parquet(comparison) if kind == "parquet" else text(comparison, kind) + "\n"
    to.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(to, content)
    return to


def winners(comparison: Comparison) -> set[Label]:
    """Return the groups that the verdicts say are better than every other they are compared with.

    With two factors there may be one for each value of the second.
    """
    if not comparison.measure.sign:
        return set()
    beaten: dict[Label, set[Label]] = {}
    rivals: dict[Label, set[Label]] = {}
    for (a, b), pair in comparison.pairs.items():
        rivals.setdefault(a, set()).add(b)
        rivals.setdefault(b, set()).add(a)
        if pair.verdict == BETTER:
            beaten.setdefault(a, set()).add(b)
        elif pair.verdict == WORSE:
            beaten.setdefault(b, set()).add(a)
    return {label for label, others in rivals.items() if beaten.get(label) == others}


def _latex(comparison: Comparison) -> str:
    measure, bold = comparison.measure, winners(comparison)
    tuned = list(dict.fromkeys(key for chosen in comparison.chosen.values() for key in chosen))
    unit = ", %" if measure.scale == 100 else ""
    head = [*comparison.by, *tuned, f"{measure.metric}{unit}", "seeds"]
    rows = []
    for label, summary in comparison.groups.items():
        chosen = comparison.chosen.get(label, {})
        mean, _, interval = interval_text(
            measure, summary.mean, summary.low, summary.high
        ).partition(" ")
        mean = rf"\textbf{{{escape(mean)}}}" if label in bold else escape(mean)
        cells = [escape(value) for value in (*label, *(chosen.get(key, "–") for key in tuned))]
        score = _minus(f"{mean} {interval}".strip())
        rows.append([*cells, score, escape(seeds_text(comparison, label))])
    columns = "l" * (len(comparison.by) + len(tuned)) + "rr"
    lines = [_line(map(escape, head)), r"\midrule", *map(_line, rows)]
    body = "\n".join(f"    {line}" for line in [r"\toprule", *lines, r"\bottomrule"])
    return (
        "% \\usepackage{booktabs}\n"
        "\\begin{table}\n"
        "  \\centering\n"
        f"  \\caption{{{escape(caption(comparison))}}}\n"
        f"  \\begin{{tabular}}{{{columns}}}\n"
        f"{body}\n"
        "  \\end{tabular}\n"
        "\\end{table}"
    )


def caption(comparison: Comparison) -> str:
    """Return what a table of the groups shows: intervals, the test, and its correction."""
    measure, pairs = comparison.measure, len(comparison.pairs)
    lines = [
        f"{measure.metric} by {' and '.join(comparison.by)}: mean over seeds with its 95 % "
        "interval (Student t)."
    ]
    if pairs:
        test = "e-values of the sequential t test, which hold after every seed"
        correction = "closed testing, Vovk and Wang 2021"
        if comparison.one_look:
            test, correction = "paired t tests at a number of seeds set beforehand", "Holm 1979"
        number = f"{pairs} pair{'s' * (pairs > 1)}"
        lines.append(
            f"Groups were compared seed by seed, by {test}, corrected for all tests of {number} "
            f"({correction}), at the 5 % level."
        )
        alike = f" with the same {' and '.join(comparison.by[1:])}" if comparison.by[1:] else ""
        best = f"Bold: better than every other group{alike}."
        none = f"No group is better than every other one{alike}."
        lines.append(best if winners(comparison) else none)
    if comparison.lost:
        lines.append("Of n seeds: runs with the others diverged.")
    return " ".join(lines)


def escape(value: Any) -> str:
    """Return a value as text that LaTeX prints as it is."""
    return re.sub("|".join(map(re.escape, SPECIAL)), lambda found: SPECIAL[found[0]], str(value))


def _minus(text: str) -> str:
    """Return numbers with a minus sign instead of a hyphen."""
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", text)


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _parquet(comparison: Comparison) -> bytes:
    import pandas as pd

    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise UserError(
            "--parquet: pyarrow isn't installed; type pip install pyarrow, or --csv"
        ) from error
    stream = io.BytesIO()
    pd.DataFrame(group_rows(comparison)).to_parquet(stream)
    return stream.getvalue()
