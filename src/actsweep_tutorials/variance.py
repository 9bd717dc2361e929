"""variance: how much of the scatter between runs comes from which source of randomness.

Bouthillier et al. 2021, "Accounting for variance in machine learning benchmarks": a network is
trained with several seeds of one source, the others fixed, for each source, and with all of them
varied at once. Runs of one seed share their draws between activations, so that pairs can be told
from groups that share nothing.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from actsweep.config.schema import RANDOM_SOURCES
from actsweep.report import plotting
from actsweep.runs.load import Run
from actsweep.stats import variance
from actsweep.stats.scores import SCORES, TASKS, Score, task_in
from actsweep.stats.variance import Estimate
from actsweep.utils.errors import bad_value
from actsweep_tutorials.base import Experiment, Params, Quantities, Table
from actsweep_tutorials.training import run_sweep, seed_override

KINDS = (*RANDOM_SOURCES, "all")
DATA = ("data=digits", "data.val_size=300")
"""Where no other data are asked for."""

Seeds = tuple[int, int, int]
"""Of init, order and split."""


def measure(params: Params) -> Quantities:
    """Train every activation with several seeds of each source, and of all at once.

    Returns:
        The score that is judged, and by activation each run's seeds, state and score.

    Raises:
        UserError: fewer than two seeds.
    """
    if params["seeds"] < 2:
        raise bad_value("seeds", params["seeds"], "at least 2", "seeds=10")
    own_data = any(word.startswith("data=") for word in params["overrides"])
    words = (
        f"act={','.join(params['act'])}",
        f"vary={','.join(KINDS)}",
        seed_override(params["seeds"]),
        "callbacks=none",
        "logger=disabled",
        *(() if own_data else DATA),
    )
    runs = run_sweep(words, params)
    tasks = {task_in(run.summary) for run in runs if run.summary}
    own = TASKS[tasks.pop()].own if tasks else "loss"
    acts: dict[str, Any] = {act: [] for act in params["act"]}
    for run in runs:
        acts[run.config.act["name"]].append(_recorded(run, own))
    return {"score": own, "seeds": params["seeds"], "acts": acts}


def _recorded(run: Run, score: str) -> Mapping[str, Any]:
    config, state = run.config, run.status["state"]
    return {
        "init": config.init_seed,
        "order": config.order_seed,
        "split": config.data.split_seed,
        "state": state,
        "score": run.summary.get(f"test_{score}") if state == "complete" else None,
    }


def scores_of(result: Quantities, act: str, kind: str) -> dict[Seeds, float]:
    """Return the scores of an activation's runs that vary one source, or `all`, as they are shown.

    Runs that diverged or failed are left out.
    """
    scale = SCORES[result["score"]].scale
    found: dict[Seeds, float] = {}
    for run in result["acts"][act]:
        seeds: Seeds = (run["init"], run["order"], run["split"])
        fixed = [s for s, source in zip(seeds, RANDOM_SOURCES, strict=True) if source != kind]
        belongs = len({*seeds}) == 1 if kind == "all" else not any(fixed)
        if belongs and run["score"] is not None:
            found[seeds] = scale * run["score"]
    return found


def _values(result: Quantities, act: str, kind: str) -> list[float]:
    return [*scores_of(result, act, kind).values()]


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw the standard deviation by what varies, with its 95 % interval, for each activation."""
    acts = list(result["acts"])
    figure, (axes,) = plotting.panels(1, 1, width=5.5, height=3.2, share=False)
    for place, act in enumerate(acts):
        axes.plot([], [], "o", color=plotting.colour(act), label=act)
        for x, kind in enumerate(KINDS):
            values = _values(result, act, kind)
            if len(values) < 2:
                continue
            found = variance.deviation(values)
            at = x + 0.5 * ((place + 0.5) / len(acts) - 0.5)
            axes.plot(at, found.value, "o", color=plotting.colour(act))
            if found.low is not None and found.high is not None:
                axes.plot([at, at], [found.low, found.high], color=plotting.colour(act))
    axes.set_xticks(range(len(KINDS)), KINDS)
    axes.set_xlabel("what the seed varies")
    axes.set_ylabel(f"standard deviation of\ntest {_score(result).title}")
    axes.set_ylim(bottom=0)
    axes.legend()
    return {"deviations": figure}


def _score(result: Quantities) -> Score:
    return SCORES[result["score"]]


def tables(result: Quantities) -> Sequence[Table]:
    """Return the scatter by source, and what pairing buys.

    Shares needn't add up to 100 %: sources interact, and each share is an estimate.
    """
    return [_scatter(result), _pairs(result)]


def _scatter(result: Quantities) -> Table:
    title = _score(result).title
    count = result["seeds"]
    rows: list[list[Any]] = []
    for act, kind in itertools.product(result["acts"], KINDS):
        values, whole = _values(result, act, kind), _values(result, act, "all")
        row: list[Any] = [act, kind, f"{len(values)} of {count}"]
        if min(len(values), len(whole)) < 2:
            rows.append([*row, *[None] * 4])
            continue
        share = None if kind == "all" else variance.variance_ratio(values, whole)
        spread = variance.deviation(values)
        error = variance.error_of_mean(
            float(np.var(values, ddof=1)), float(np.var(whole, ddof=1)), count
        )
        rows.append(
            [*row, float(np.mean(values)), _text(spread), share and _text(share, 100), error]
        )
    heading = (
        *("activation", "varies", "runs", f"mean of test {title}", "standard deviation [95 %]"),
        *("share of all, % [95 %]", f"error of a mean of {count} runs"),
    )
    return Table(f"Scatter of test {title}, by what varies", heading, rows)


def _pairs(result: Quantities) -> Table:
    rows: list[list[Any]] = []
    for a, b in itertools.combinations(result["acts"], 2):
        for kind in KINDS:
            of_a, of_b = (scores_of(result, act, kind) for act in (a, b))
            shared = [seeds for seeds in of_a if seeds in of_b]
            row: list[Any] = [f"{a} − {b}", kind, len(shared)]
            if len(shared) < 2:
                rows.append([*row, *[None] * 5])
                continue
            x, y = ([scores[seeds] for seeds in shared] for scores in (of_a, of_b))
            rows.append([*row, *_compared(x, y, whole=kind == "all")])
    heading = (
        *("pair", "varies", "seeds", "difference", "correlation"),
        *("Var(a − b) / (Var a + Var b) [95 %]", "seeds to tell, paired", "unpaired"),
    )
    return Table("What it buys to compare with the same seeds", heading, rows)


def _compared(x: Sequence[float], y: Sequence[float], *, whole: bool) -> list[Any]:
    """Return difference, correlation and what pairing buys; with all sources, seeds to tell."""
    differences = np.subtract(x, y)
    difference = float(differences.mean())
    seeds: list[int | None] = [None, None]
    if whole:
        apart = float(differences.std(ddof=1))
        group = float(np.sqrt((np.var(x, ddof=1) + np.var(y, ddof=1)) / 2))
        seeds = [
            variance.seeds_to_tell(difference, apart, paired=True),
            variance.seeds_to_tell(difference, group, paired=False),
        ]
    correlation = variance.correlation(x, y)
    shown = None if math.isnan(correlation) else correlation
    return [difference, shown, _text(variance.pairing(x, y)), *seeds]


def _text(found: Estimate, scale: float = 1.0) -> str:
    if math.isnan(found.value):
        return "–"
    shown = f"{scale * found.value:.3g}"
    if found.low is None or found.high is None:
        return shown
    return f"{shown} [{scale * found.low:.3g}, {scale * found.high:.3g}]"


EXPERIMENT = Experiment(
    "variance",
    "How much do runs scatter by weights, order and split, and what does pairing buy?",
    "Bouthillier et al. 2021",
    measure,
    draw,
    tables,
    {"act": ("relu", "tanh"), "seeds": 10},
    quick=None,
    trains=True,
    on_record=False,
)
