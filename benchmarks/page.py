"""Puts what was measured into the pages: python -m benchmarks.page

Every block of the pages of `PAGES` between `<!-- name -->` and `<!-- end -->` is made from
benchmarks/results/, and so is the picture.
"""

import json
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from benchmarks import fights, looks, races, verdicts
from benchmarks.baselines import ROOT
from benchmarks.harness import Result

RESULTS = ROOT / "benchmarks" / "results"
SPEED, SIMULATED = RESULTS / "cpu-2-cores.json", RESULTS / "verdicts.json"
PICTURE = ROOT / "docs" / "images" / "packs.png"


def machine(measured: Result) -> str:
    """On what, when, and with which versions all of it was measured."""
    machines = [result["machine"] for result in measured.values()]
    first = machines[0]
    dates = sorted({datetime.fromisoformat(one["date"]).date().isoformat() for one in machines})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    return f"{first['cores']} cores of {first['processor']}, {when}; {versions}."


def figures(measured: Result) -> str:
    """Every figure of every section."""
    lines = ["| section | what | measured | quartiles | target | |", "|---|---|---|---|---|---|"]
    for section, result in measured.items():
        for row in result["figures"]:
            spread = "{:.4g} to {:.4g}".format(*row["spread"]) if "spread" in row else ""
            target, met = "", ""
            if row["limit"] is not None:
                target = f"{'≤' if row['at_most'] else '≥'} {row['limit']:g}"
                met = "met" if row["met"] else "**not met**"
            cells = (section, row["name"], f"{row['value']:.4g}", spread, target, met)
            lines.append(f"| {' | '.join(cells)} |".replace("  ", " "))
    return "\n".join(lines)


def kernels(measured: Result) -> str:
    """Milliseconds of each histogram kernel, the fastest first."""
    found = measured["histograms"]
    lines = ["| kernel | ms |", "|---|---|"]
    for name, took in sorted(found["milliseconds"].items(), key=lambda item: item[1]):
        lines.append(f"| {name}{' (used)' * (name == found['used'])} | {took:.2g} |")
    return "\n".join(lines)


def frozen(measured: Result) -> str:
    """Milliseconds a step of a pack of which half have ended, by how it is batched."""
    found = measured["repacking"]["milliseconds per step of the pack"]
    cases = ("all", "half frozen", "repacked", "half alone")
    lines = [f"| | {' | '.join(cases)} |", f"|{'---|' * (len(cases) + 1)}"]
    for batching in ("map", "vmap"):
        cells = [f"{found[f'{batching}: {case}']:.3g}" for case in cases]
        lines.append(f"| `{batching}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def diagnostics(measured: Result) -> str:
    """Seconds of a run-epoch by its callbacks, and of a run's exact counts."""
    found = measured["diagnostics"]
    lines = ["| what | seconds |", "|---|---|"]
    for name, took in found["seconds per run-epoch"].items():
        lines.append(f"| run-epoch, callbacks: {name} | {took:.3g} |")
    for act, took in found["seconds of exact counts a run"].items():
        lines.append(f"| exact counts, {act} | {took:.2g} |")
    return "\n".join(lines)


def reports(measured: Result) -> str:
    """Seconds and megabytes of reports, by the number of runs."""
    lines = ["| runs | seconds | page, MB |", "|---|---|---|"]
    for row in measured["report"]["sizes"]:
        lines.append(f"| {row['runs']} | {row['seconds']:.3g} | {row['MB']:.3g} |")
    return "\n".join(lines)


PAGES: dict[Path, tuple[Path, dict[str, Callable[[Result], str]]]] = {
    ROOT / "docs" / "performance.md": (
        SPEED,
        {
            "machine": machine,
            "figures": figures,
            "kernels": kernels,
            "frozen": frozen,
            "diagnostics": diagnostics,
            "reports": reports,
        },
    ),
    ROOT / "docs" / "statistics.md": (
        SIMULATED,
        {
            "looks": lambda measured: looks.table(measured["looks"]),
            "verdicts": lambda measured: verdicts.table(measured["verdicts"]),
        },
    ),
    ROOT / "docs" / "race.md": (SIMULATED, {"races": lambda m: races.table(m["races"])}),
    ROOT / "docs" / "tune.md": (SIMULATED, {"fights": lambda m: fights.table(m["fights"])}),
}
"""Each page, the results it is made of, and what fills its blocks."""


def filled(page: Path) -> str:
    """A page's text with its blocks made from the results.

    Raises:
        ValueError: the results are a toy's, or the page lacks a block.
    """
    results, blocks = PAGES[page]
    measured = json.loads(results.read_text())
    if toys := [name for name, result in measured.items() if result["toy"]]:
        raise ValueError(f"{results}: measured with --toy: {', '.join(toys)}")
    text = page.read_text()
    for name, render in blocks.items():
        marked = rf"(?<=<!-- {name} -->\n\n).*?(?=\n\n<!-- end -->)"
        text, count = re.subn(marked, lambda _: render(measured), text, flags=re.S)  # noqa: B023
        if count != 1:
            raise ValueError(f"{page}: {count} blocks between <!-- {name} --> and <!-- end -->")
    return text


def draw(measured: Result) -> None:
    """Milliseconds of a run's step against the size of the pack."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = measured["packs"]["sizes"]
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    sizes = [row["size"] for row in rows]
    each = [row["milliseconds per run and step"] for row in rows]
    numpy_fed = [row["numpy-fed step / run-epoch"] * t for row, t in zip(rows, each, strict=True)]
    axes.plot(sizes, each, "o-", color="#0072B2", label="in a pack")
    axes.plot(sizes, numpy_fed, "s--", color="#D55E00", label="one jitted step fed by NumPy")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("members of the pack")
    axes.set_ylabel("milliseconds per run and step")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(PICTURE, dpi=120)


def main() -> None:
    """Fill all pages and draw the picture."""
    for page in PAGES:
        page.write_text(filled(page))
    draw(json.loads(SPEED.read_text()))


if __name__ == "__main__":
    main()
