"""What tuning has shown of each group: scores, what a budget buys, how wide the best is. No jax."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from actsweep.report.compare import ReportRequest, compare_sweeps
from actsweep.report.text import as_text
from actsweep.report.values import clipped, possible_values
from actsweep.stats.paired import mean_interval
from actsweep.stats.scores import SCORES
from actsweep.stats.tuning import expected_best, good_settings, profile
from actsweep.sweeps import table
from actsweep.sweeps.plan import name_of, read_plan
from actsweep.sweeps.results import results_on_disk
from actsweep.sweeps.search import DIVERGED, Params, factors_of, typed
from actsweep.sweeps.tuning import Results, Tuning, found
from actsweep.utils.errors import UserError

if TYPE_CHECKING:
    from actsweep.sweeps.tuning import Scores

TOLERANCES = (0.0, 0.5, 1.0, 2.0, 5.0)
"""Of the profile: points, or per cent of the best score where smaller is better."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with Student's 95 % interval; None where there is nothing to say."""

    mean: float | None
    low: float | None
    high: float | None
    seeds: int


@dataclass(frozen=True)
class Range:
    """Lowest and highest value of a nuisance parameter, and the decades between them."""

    low: float
    high: float
    decades: float | None


@dataclass(frozen=True)
class TunedGroup:
    """What tuning has shown of a group.

    Attributes:
        chosen: the setting that each seed has chosen, in the order of the seeds.
        validation: score of the chosen settings in validation, which has chosen them and flatters.
        test: score in test of the fresh seeds, at the chosen settings.
        fresh_diverged: fresh seeds that diverged, which `test` leaves out.
        trials: settings times seeds.
        diverged: share of them that diverged.
        good: share of the settings within one standard deviation of the best, see
            `stats.tuning.good_settings`.
        plateau: by nuisance parameter, its range among these; empty if there are none.
        expected_best: by number of trials k, the expected best score in validation of k settings.
    """

    chosen: Sequence[Params]
    validation: Interval
    test: Interval
    fresh_diverged: int
    trials: int
    diverged: float
    good: float
    plateau: Mapping[str, Range]
    expected_best: Mapping[int, Interval]


@dataclass(frozen=True)
class Tuned:
    """What a tuning has shown.

    Attributes:
        sweep: its name.
        protocol: how groups were tuned.
        score: the task's own, in its own unit.
        settings: the number of settings that each group was tried with.
        seeds: the number of tunings of each group.
        ranges: of the nuisance parameters, as they have grown.
        groups: by what they are typed as; None for one whose every trial diverged.
        left: runs that haven't ended, or failed.
    """

    sweep: str
    protocol: str
    score: str
    settings: int
    seeds: int
    ranges: Mapping[str, Range]
    groups: Mapping[str, TunedGroup | None]
    left: int


def read_tuned(folder: Path) -> Tuned:
    """Return what a tuning has shown.

    Raises:
        UserError: the sweep is no tuning, or none of its runs has a score yet.
    """
    tuning = found(folder)
    if tuning is None:
        raise UserError(
            f"{folder.name}: isn't a tuning; type one of actsweep tune, see docs/tune.md"
        )
    plan = read_plan(folder, to_train=False)
    return tuned_of(name_of(folder), tuning, {r["run_id"]: r for r in results_on_disk(plan)})


def tuned_of(name: str, tuning: Tuning, results: Results) -> Tuned:
    """Return what a tuning has shown by the results of its runs, by id.

    Raises:
        UserError: none has a score yet.
    """
    outcomes = tuning.outcomes(results)
    scores = {outcome.score for outcome in outcomes if outcome and outcome.score}
    if len(scores) != 1:
        raise UserError(f"{name}: no run has a score in validation yet; see actsweep status {name}")
    (score,) = scores
    assert score is not None
    tables, chosen = tuning.scores(results), tuning.chosen(results)
    trials = [*zip(tuning.trials, outcomes, strict=True)]
    left = sum(bool(t.runs) and (o is None or o.state == "failed") for t, o in trials)
    return Tuned(
        sweep=name,
        protocol=tuning.protocol.text,
        score=score,
        settings=len(tuning.settings),
        seeds=len(tuning.tuned_seeds),
        ranges={
            k: _range(each.low, each.high, log=each.log) for k, each in tuning.ranges().items()
        },
        groups={
            typed(words): _group(tuning, group, tables[group], results, score)
            if group in chosen
            else None
            for group, words in enumerate(tuning.groups)
        },
        left=left,
    )


def _group(
    tuning: Tuning, group: int, scores: "Scores", results: Results, score: str
) -> TunedGroup:
    sign = SCORES[score].sign
    trials = [
        (trial, outcome)
        for trial, outcome in zip(tuning.trials, tuning.outcomes(results), strict=True)
        if tuning.group_of(trial) == group
    ]
    fresh = [(trial, outcome) for trial, outcome in trials if tuning.is_fresh(trial) and outcome]
    ends = [
        results[trial.runs[0]].get(f"test_{score}")
        for trial, outcome in fresh
        if outcome.state == "complete"
    ]
    test = [float(end) for end in ends if end is not None]  # None: it isn't finite
    tried = [outcome for trial, outcome in trials if not tuning.is_fresh(trial)]
    ended = [outcome for outcome in tried if outcome]
    good = good_settings(scores)
    settings = [setting for setting, is_good in zip(tuning.settings, good, strict=True) if is_good]
    best = np.array([expected_best(row) for row in scores])
    budgets = [2**power for power in range(scores.shape[1].bit_length())]
    return TunedGroup(
        chosen=tuning.chosen(results)[group],
        validation=_interval([sign * row[-1] for row in best]),
        test=_interval(test),
        fresh_diverged=sum(outcome.state == DIVERGED for _, outcome in fresh) + ends.count(None),
        trials=len(tried),
        diverged=sum(outcome.state == DIVERGED for outcome in ended) / max(1, len(ended)),
        good=float(good.mean()),
        plateau=_plateau(tuning, settings),
        expected_best={
            k: _interval([sign * value for value in best[:, k - 1]])
            for k in dict.fromkeys([*budgets, scores.shape[1]])
        },
    )


def _interval(values: Sequence[float]) -> Interval:
    known = [float(value) for value in values if not math.isnan(value)]
    if not known:
        return Interval(None, None, None, 0)
    mean, half = mean_interval(known)
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return Interval(mean, low, high, len(known))


def _plateau(tuning: Tuning, settings: Sequence[Params]) -> dict[str, Range]:
    ranges = {}
    for key, each in tuning.space.items():
        if values := [float(setting[key]) for setting in settings]:
            ranges[key] = _range(min(values), max(values), log=each.log)
    return ranges


def _range(low: float, high: float, *, log: bool) -> Range:
    return Range(low, high, math.log10(high / low) if log else None)


def profile_of(tuned: Sequence[Tuned]) -> dict[str, list[float]]:
    """Return each group's share of sweeps in which its test score is near the best one.

    Near within each of `TOLERANCES`: points, or per cent of the best where less is better.

    Raises:
        UserError: the sweeps have other protocols, groups or scores.
    """
    first = tuned[0]
    for other in tuned[1:]:
        for name, title in (("protocol", "protocols"), ("score", "scores")):
            mine, theirs = getattr(first, name), getattr(other, name)
            if mine != theirs:
                raise UserError(
                    f"sweeps of different {title} don't compare ({first.sweep}: {mine}; "
                    f"{other.sweep}: {theirs}); type those of one protocol"
                )
        if other.groups.keys() != first.groups.keys():
            lacking = next(iter(other.groups.keys() ^ first.groups.keys()))
            raise UserError(
                f"{first.sweep}, {other.sweep}: {lacking} is in one of them only; type sweeps of "
                "the same groups"
            )
    score = SCORES[first.score]
    scores: dict[int, dict[str, float]] = {}
    for place, each in enumerate(tuned):
        means = {
            name: math.nan if group is None or group.test.mean is None else group.test.mean
            for name, group in each.groups.items()
        }
        if all(map(math.isnan, means.values())):
            raise UserError(
                f"{each.sweep}: has no fresh seed yet; type actsweep resume {each.sweep}"
            )
        unit = 100 / score.scale if score.scale == 100 else np.nanmin(np.abs([*means.values()]))
        scores[place] = {name: 100 * score.sign * mean / unit for name, mean in means.items()}
    return profile(scores, TOLERANCES)


def tuned_text(folders: Sequence[Path]) -> str:
    """Return what tunings have shown, for the terminal.

    Of one, its comparison too; of several, such as those of other data sets and models, the
    profile over them.

    Raises:
        UserError: as `read_tuned`, `profile_of` and `compare_sweeps`.
    """
    tuned = [read_tuned(folder) for folder in folders]
    stream = io.StringIO()
    if len(tuned) == 1:
        tuning = found(folders[0])
        assert tuning is not None
        if any(map(tuning.is_fresh, tuning.trials)):
            request = ReportRequest(by=factors_of(tuning.groups[0]))
            try:
                print(as_text(compare_sweeps(folders, request)), file=stream)
            except UserError as error:  # no fresh seed has ended well yet
                print(error, file=stream)
            print(file=stream)
    for each in tuned:
        if len(tuned) > 1:
            print(f"{each.sweep}: tuned over {each.protocol}", file=stream)
        _show(each, stream)
    if len(tuned) > 1:
        _show_profile(tuned, stream)
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())


def _show(tuned: Tuned, stream: io.StringIO) -> None:
    from rich.table import Table

    score = SCORES[tuned.score]
    console = table.plain_console(stream, table.UNLIMITED)
    shown = {name: group for name, group in tuned.groups.items() if group}
    groups = Table(box=None, pad_edge=False, header_style="bold")
    groups.add_column("\ngroup")
    names = [f"{key}\nchosen" for key in tuned.ranges]
    names += [f"val/{score.title}\nchosen by", f"test/{score.title}\nfresh seeds [95 %]"]
    names += ["trials\ndiverged", "settings\nas good"]
    names += [f"{key}\nas good" for key in tuned.ranges]
    for name in names:
        groups.add_column(name, justify="right", no_wrap=True)
    for name, group in shown.items():
        chosen = [_span([float(setting[key]) for setting in group.chosen]) for key in tuned.ranges]
        lost = f", {group.fresh_diverged} diverged" if group.fresh_diverged else ""
        groups.add_row(
            name,
            *chosen,
            _text(group.validation, tuned.score, interval=False),
            f"{_text(group.test, tuned.score)}{lost}",
            f"{100 * group.diverged:.0f} %",
            f"{100 * group.good:.0f} %",
            *(_decades(group.plateau.get(key)) for key in tuned.ranges),
        )
    console.print(groups)
    console.print()
    curves = Table(box=None, pad_edge=False, header_style="bold")
    curves.add_column(f"expected best val/{score.title} of k trials, k =")
    for k in next((group.expected_best for group in shown.values()), ()):
        curves.add_column(str(k), justify="right", no_wrap=True)
    for name, group in shown.items():
        curves.add_row(name, *(_text(each, tuned.score) for each in group.expected_best.values()))
    console.print(curves)
    console.print()
    for name, found_group in tuned.groups.items():
        if found_group is None:
            console.print(f"{name}: every trial diverged or has no score: nothing to report")
    if tuned.left:
        console.print(f"{tuned.left} runs failed or haven't ended: actsweep status {tuned.sweep}")


def _show_profile(tuned: Sequence[Tuned], stream: io.StringIO) -> None:
    from rich.table import Table

    unit = "points" if SCORES[tuned[0].score].scale == 100 else "%"
    shares = Table(box=None, pad_edge=False, header_style="bold")
    shares.add_column(f"share of {len(tuned)} sweeps within … of the best test score")
    for tolerance in TOLERANCES:
        shares.add_column(f"{tolerance:g} {unit}", justify="right", no_wrap=True)
    for name, row in profile_of(tuned).items():
        shares.add_row(name, *(f"{100 * share:.0f} %" for share in row))
    table.plain_console(stream, table.UNLIMITED).print(shares)


def _text(value: Interval, name: str, *, interval: bool = True) -> str:
    score = SCORES[name]
    if value.mean is None:
        return "–"
    mean = f"{score.scale * value.mean:.{score.digits}f}"
    if value.low is None or value.high is None or not interval:
        return mean
    ends = (clipped(score.scale * end, possible_values(name)) for end in (value.low, value.high))
    low, high = (f"{end:.{score.digits}f}" for end in ends)
    return f"{mean} [{low}, {high}]"


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.3g}" if low == high else f"{low:.3g} … {high:.3g}"


def _decades(found_range: Range | None) -> str:
    if found_range is None:
        return "–"
    text = _span([found_range.low, found_range.high])
    return text if found_range.decades is None else f"{text} ({found_range.decades:.1f} decades)"


def as_json(tuned: Sequence[Tuned]) -> dict[str, Any]:
    """Return what tunings have shown as plain values; of several, their profile as well."""
    from dataclasses import asdict

    plain: dict[str, Any] = {"tunings": [asdict(each) for each in tuned]}
    if len(tuned) > 1:
        plain["profile"] = {"within": [*TOLERANCES], "groups": profile_of(tuned)}
    return plain
