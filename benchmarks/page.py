"""Puts measured targets into docs/performance.md and draws its picture.

python benchmarks/page.py benchmarks/results/cpu-2-cores.json
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
PICTURE = ROOT / "docs" / "images" / "packs.png"


def table(found: dict[str, Any]) -> str:
    """Every target of every section, as Markdown."""
    lines = ["| section | what | measured | target | |", "|---|---|---|---|---|"]
    for section, result in found.items():
        for row in result.get("targets", []):
            sign = "≤" if row["at_most"] else "≥"
            met = "met" if row["met"] else "**not met**"
            held = f"{row['value']:.3g} | {sign} {row['limit']:g} | {met}"
            lines.append(f"| {section} | {row['name']} | {held} |")
    return "\n".join(lines)


def fill(page: str, found: dict[str, Any]) -> str:
    """The page with its table replaced."""
    marked = r"(?<=<!-- targets -->\n\n).*?(?=\n\n<!-- end -->)"
    text, count = re.subn(marked, lambda _: table(found), page, count=1, flags=re.S)
    if not count:
        raise ValueError(f"{PAGE}: the marks of the table are gone")
    return text


def draw(found: dict[str, Any]) -> None:
    """Seconds of a run-epoch against the size of the pack."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = found["packs"]["sizes"]
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for precision in dict.fromkeys(row["precision"] for row in rows):
        own = [row for row in rows if row["precision"] == precision]
        sizes = [row["size"] for row in own]
        each = [row["seconds per run-epoch"] for row in own]
        numpy_fed = [
            row["numpy-fed step / run-epoch"] * t for row, t in zip(own, each, strict=True)
        ]
        axes.plot(sizes, each, "o-", color="#0072B2", label=f"in a pack, {precision}")
        axes.plot(sizes, numpy_fed, "s--", color="#D55E00", label="one jitted step fed by NumPy")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("members of the pack")
    axes.set_ylabel("seconds per run and epoch")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(PICTURE, dpi=120)


if __name__ == "__main__":
    measured = json.loads(Path(sys.argv[1]).read_text())
    PAGE.write_text(fill(PAGE.read_text(), measured))
    draw(measured)
