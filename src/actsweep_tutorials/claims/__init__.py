"""What the tutorials claim, and the page that says what became of it.

To add one: a `Claim` with a function from what its experiment found to a verdict. No verdict is
written down anywhere but in the page that is made from here.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from actsweep_tutorials.base import Quantities
from actsweep_tutorials.claims import comparison, nonlinear, plots, scratch, silent
from actsweep_tutorials.claims.base import HOLDS, NOISE, ONLY_IF, REFUTED, VERDICTS, Claim, Verdict

CLAIMS = tuple(
    sorted(
        (
            *plots.CLAIMS,
            *comparison.CLAIMS,
            *silent.CLAIMS,
            *nonlinear.CLAIMS,
            *scratch.CLAIMS,
        ),
        key=lambda claim: (claim.source == "traps", claim.source),
    )
)
SOURCES = {
    "S0": "Activation functions in JAX, a deep dive (plots)",
    "S1": "Activation functions in JAX and Flax (the catalogue)",
    "S2": "UvA deep-learning tutorial 3, JAX (the main experiment)",
    "S3": "SELENE: activation functions (why non-linear at all)",
    "S4": "Activation functions from scratch (the diagnostics)",
    "traps": "What goes wrong in all of them",
}
SAID = {HOLDS: "hold", ONLY_IF: "hold only if …", REFUTED: "are refuted", NOISE: "can't be decided"}
_HEAD = """# What the tutorials claim, and what we found

Five public tutorials on activation functions say {count} things that can be checked. Each is
decided by an experiment that you can do yourself, `actsweep experiment <name>`; this page is made
by `actsweep claims`, which computes what needs no training and reads the rest from
`docs/experiments/`, or by `actsweep claims --all`, which trains it. Of them {tally}.

- **holds**: within the tolerance, and, where it is a matter of seeds, by a 95 % interval.
- **holds only if**: under that condition; under others that we looked at it doesn't.
- **refuted**: the opposite was found, or another number than was claimed.
- **not decidable (noise)**: the interval over these seeds allows both."""

_UNCHECKED = """## What isn't checked

Advice on networks that aren't here: GELU in transformers, tanh in recurrent networks, ReLU or
swish in convolutional ones, the choice of the output by the task. Slopes and conventions at 0 that
differ from source to source: ours are in the [gallery](gallery.md)'s facts."""


def tally(verdicts: Mapping[Claim, Verdict]) -> dict[str, int]:
    """How many claims got each verdict."""
    counts = Counter(found.verdict for found in verdicts.values())
    return {verdict: counts[verdict] for verdict in VERDICTS}


def page(verdicts: Mapping[Claim, Verdict]) -> str:
    """docs/claims.md."""
    counts = ", ".join(f"{n} {SAID[verdict]}" for verdict, n in tally(verdicts).items())
    lines = [_HEAD.format(count=len(verdicts), tally=counts), "", "## Which fell, and why", ""]
    lines += [_fallen(one, found) for one, found in verdicts.items() if found.verdict == REFUTED]
    lines += ["", "## Which hold only under a condition", ""]
    lines += [_fallen(one, found) for one, found in verdicts.items() if found.verdict == ONLY_IF]
    lines += ["", "## Which these seeds can't decide", ""]
    lines += [_fallen(one, found) for one, found in verdicts.items() if found.verdict == NOISE]
    lines += ["", _UNCHECKED]
    for source, title in SOURCES.items():
        own = {one: found for one, found in verdicts.items() if one.source == source}
        lines += ["", f"## {source}: {title}" if source != "traps" else f"## {title}", ""]
        lines += table(own)
    return "\n".join(lines) + "\n"


def table(verdicts: Mapping[Claim, Verdict]) -> list[str]:
    """A row a claim, as Markdown."""
    heading = "| claim | what is claimed | found | verdict | decided by | experiment |"
    rows = [heading, "|---|---|---|---|---|---|"]
    for one, found in verdicts.items():
        link = one.experiment
        if one.figure:
            link = f"[{one.experiment}](experiments/{one.experiment}-{one.figure}.png)"
        cells = (one.key, one.words, found.text, f"**{found}**", one.by, link)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


def short(claims: Iterable[Claim], found: Mapping[str, Quantities]) -> str:
    """The claims that one experiment decides, as Markdown."""
    lines = ["### Claims", ""]
    for one in claims:
        verdict = one.decide(found[one.experiment])
        lines.append(f"- {one.words} **{verdict}**: {verdict.text}")
    return "\n".join(lines)


def verdicts_of(text: str) -> dict[str, str]:
    """The verdicts that a page states, by claim."""
    rows: Sequence[list[str]] = [
        [cell.strip() for cell in line.replace("\\|", "¦").strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ") and line.count(" | ") == 5
    ]
    return {row[0]: row[3].strip("*") for row in rows if "." in row[0]}


def _fallen(one: Claim, found: Verdict) -> str:
    condition = f" *Only if {found.condition}.*" if found.verdict == ONLY_IF else ""
    because = f" {one.because}" if one.because else ""
    return f"- **{one.key}**: {one.words}{condition}{because} (Found: {found.text}.)"


__all__ = ["CLAIMS", "HOLDS", "Claim", "Verdict", "page", "short", "table", "tally", "verdicts_of"]
