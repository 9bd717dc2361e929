"""The tutorials' claims, and the page with the verdict on each.

To add one, write a `Claim` with a function from its experiment's result to a verdict. Verdicts are
stated nowhere but on the page that is generated from here.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from actsweep_tutorials.base import Quantities
from actsweep_tutorials.claims import advice, comparison, nonlinear, plots, scratch, silent
from actsweep_tutorials.claims.base import HOLDS, NOISE, ONLY_IF, REFUTED, VERDICTS, Claim, Verdict
from actsweep_tutorials.claims.changes import CHANGES

CLAIMS = tuple(
    sorted(
        (
            *plots.CLAIMS,
            *comparison.CLAIMS,
            *silent.CLAIMS,
            *nonlinear.CLAIMS,
            *scratch.CLAIMS,
            *advice.CLAIMS,
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
VERDICT_PHRASES = {
    HOLDS: "hold",
    ONLY_IF: "hold only if …",
    REFUTED: "are refuted",
    NOISE: "can't be decided",
}
_HEAD = """# What the tutorials claim, and what we found

Five public tutorials on activation functions say {count} things that can be checked. Each is
decided by an experiment that you can do yourself, `actsweep experiment <name>`; this page is made
by `actsweep claims`, which computes what needs no training and reads the rest from
`docs/experiments/`, or by `actsweep claims --all`, which trains it. Of them {tally}.

- **holds**: within the stated tolerance; where it is a matter of seeds, an interval over networks
  lies inside it, with 95 % confidence on either side. That nothing speaks against it isn't enough.
- **holds only if**: under that condition; under others that we looked at it doesn't, or it can't be
  told. Where the condition was found by looking at several cases, the interval is corrected for
  their number, and so is the tolerance where one of several numbers would lie near anything.
- **refuted**: the opposite was found, or another number than was claimed.
- **not decidable (noise)**: the interval over these seeds allows both, or nothing was measured that
  could decide.

A network that diverged has no value, and one that is at chance after training has learned nothing:
neither is evidence about what training does. How often networks learn is compared by itself.
Statements are ours, and say no more than is measured."""

_CHANGED = """## What changed

An outside examination found verdicts of the first page wrong or misleading. All {count} were then
gone through again, each by trying to refute it. {changed} came out differently (the advice on
networks and outputs came later):
"""
_OTHER_GROUNDS = """
{kept} are the same, but say less or rest on something else:
"""

_UNCHECKED = """## What isn't checked

Large networks and sets: the advice on networks and outputs is checked on small ones, in minutes of
training. How well ELU generalises: training accuracies aren't recorded. Slopes and conventions at
0 that differ from source to source: ours are in the [gallery](gallery.md)'s facts."""


def tally(verdicts: Mapping[Claim, Verdict]) -> dict[str, int]:
    """Return how many claims got each verdict."""
    counts = Counter(verdict.verdict for verdict in verdicts.values())
    return {name: counts[name] for name in VERDICTS}


def page(verdicts: Mapping[Claim, Verdict]) -> str:
    """Return the text of docs/claims.md."""
    counts = ", ".join(f"{n} {VERDICT_PHRASES[name]}" for name, n in tally(verdicts).items())
    lines = [_HEAD.format(count=len(verdicts), tally=counts), "", "## Which fell, and why", ""]
    lines += [
        _claim_line(claim, verdict)
        for claim, verdict in verdicts.items()
        if verdict.verdict == REFUTED
    ]
    lines += ["", "## Which hold only under a condition", ""]
    lines += [
        _claim_line(claim, verdict)
        for claim, verdict in verdicts.items()
        if verdict.verdict == ONLY_IF
    ]
    lines += ["", "## Which these seeds can't decide", ""]
    lines += [
        _claim_line(claim, verdict)
        for claim, verdict in verdicts.items()
        if verdict.verdict == NOISE
    ]
    lines += ["", *_what_changed(verdicts), "", _UNCHECKED]
    for source, title in SOURCES.items():
        of_source = {
            claim: verdict for claim, verdict in verdicts.items() if claim.source == source
        }
        lines += ["", f"## {source}: {title}" if source != "traps" else f"## {title}", ""]
        lines += table(of_source)
    return "\n".join(lines) + "\n"


def _what_changed(verdicts: Mapping[Claim, Verdict]) -> list[str]:
    """Return the section on the verdicts that were published before, with the reasons."""
    first = [claim for claim in verdicts if claim not in advice.CLAIMS]
    known = {c: v for c, v in verdicts.items() if c.key in CHANGES}
    changed = {c: v for c, v in known.items() if str(v) != CHANGES[c.key].before}
    kept = [claim for claim in known if claim not in changed]
    lines = [_CHANGED.format(count=len(first), changed=len(changed))]
    for claim, verdict in changed.items():
        change = CHANGES[claim.key]
        lines += [f"- **{claim.key}**: *{change.before}*, now *{verdict}*. {change.why}"]
    lines += [_OTHER_GROUNDS.format(kept=len(kept))]
    lines += [
        f"- **{claim.key}** ({CHANGES[claim.key].before}): {CHANGES[claim.key].why}"
        for claim in kept
    ]
    return [*lines, "", f"The other {len(first) - len(known)} stood as they were."]


def table(verdicts: Mapping[Claim, Verdict]) -> list[str]:
    """Return a Markdown table with a row a claim."""
    heading = "| claim | what is claimed | found | verdict | decided by | experiment |"
    rows = [heading, "|---|---|---|---|---|---|"]
    for claim, verdict in verdicts.items():
        link = claim.experiment
        if claim.figure:
            link = f"[{claim.experiment}](experiments/{claim.experiment}-{claim.figure}.png)"
        cells = (claim.key, claim.statement, verdict.text, f"**{verdict}**", claim.criterion, link)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


def short(claims: Iterable[Claim], results: Mapping[str, Quantities]) -> str:
    """Return the claims that one experiment decides, as Markdown."""
    lines = ["### Claims", ""]
    for claim in claims:
        verdict = claim.decide(results[claim.experiment])
        lines.append(f"- {claim.statement} **{verdict}**: {verdict.text}")
    return "\n".join(lines)


def parse_verdicts(text: str) -> dict[str, str]:
    """Return the verdicts that a page states, by claim."""
    rows: Sequence[list[str]] = [
        [cell.strip() for cell in line.replace("\\|", "¦").strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ") and line.count(" | ") == 5
    ]
    return {row[0]: row[3].strip("*") for row in rows if "." in row[0]}


def _claim_line(claim: Claim, verdict: Verdict) -> str:
    condition = f" *Only if {verdict.condition}.*" if verdict.verdict == ONLY_IF else ""
    reason = f" {claim.reason}" if claim.reason else ""
    return f"- **{claim.key}**: {claim.statement}{condition}{reason} (Found: {verdict.text}.)"


__all__ = [
    "CHANGES",
    "CLAIMS",
    "HOLDS",
    "Claim",
    "Verdict",
    "page",
    "parse_verdicts",
    "short",
    "table",
    "tally",
]
