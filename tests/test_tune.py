"""actsweep tune: settings, rounds, what is chosen and by what, verdicts over fresh seeds alone."""

import itertools
import json
import math
import re
import shutil
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from sweeps_on_disk import write_run
from test_app import ROOT, Train, logging_as_before, train  # noqa: F401
from test_going_on import ask, metrics, started, sweep_in, wait

from actsweep.cli.main import main
from actsweep.config import resolve
from actsweep.config.conf_dir import conf_dir
from actsweep.launch.tune import Tune
from actsweep.report.compare import USUAL, compare_sweeps
from actsweep.report.design import gather, without_test_scores
from actsweep.report.tuned import read_tuned, tuned_of, tuned_text
from actsweep.report.write import _make, write
from actsweep.runs.leases import owners
from actsweep.runs.members import Member, make_member
from actsweep.stats.tuning import expected_best, good_settings, profile
from actsweep.sweeps import exit_codes, plan, tuning
from actsweep.sweeps.results import results_on_disk, table_text
from actsweep.sweeps.search import Parameter, Params, Trial, factors_of
from actsweep.sweeps.tuning import Tuning, points
from actsweep.utils import files
from actsweep.utils.errors import UserError
from benchmarks.fights import NULLS, PLANTED, fight, more_trials
from hydra_plugins.actsweep_pack.tune_sweeper import TuneSweeper, _around

RATES = Parameter((), 1e-3, 1e-1, True, None)
MOMENTA = Parameter((), 0.0, 0.9, False, None)
GROUPS: tuple[Params, ...] = ({"act": "relu"}, {"act": "tanh"})
SMALL = Tuning(GROUPS, {"optim.lr": RATES}, size=8, seeds=3)
BEGUN = cast(Any, "a plan")

Score = Callable[[Params], float | None]


def peak(act: str = "relu", at: float = -2.0) -> Score:
    """A score that is best at 10^at, by 0.001 better for one activation; None on divergence."""

    def score(params: Params) -> float | None:
        rate = math.log10(float(params["optim.lr"]))
        return 0.8 - 0.1 * (rate - at) ** 2 + 0.001 * (params["act"] == act)

    return score


def result(score: float | None, seed: int) -> dict[str, Any]:
    """How a run ended: its test score is another one than that in validation."""
    ended = {"best_val_accuracy": score, "test_accuracy": None if score is None else score + 0.1}
    state = "diverged" if score is None else "complete"
    return {"state": state, "task": "classification", "seed": seed, **ended}


def rounds(tune: Tune, score: Score) -> tuple[Tune, dict[str, Any], list[int]]:
    """Train a tuning to its end; return it, its results, and how many runs each round had."""
    results: dict[str, Any] = {}
    sizes: list[int] = []
    while asked := tune.ask(BEGUN if tune.trials else None, results):
        sizes.append(len(asked))
        names = [f"r{len(tune.trials) + place}" for place in range(len(asked))]
        tune = tune.and_then([Trial(p, (n,)) for p, n in zip(asked, names, strict=True)])
        results |= {n: result(score(p), int(p["seed"])) for n, p in zip(names, asked, strict=True)}
    return tune, results, sizes


# Numbers


@pytest.mark.parametrize("lost", [0, 2, 5])
def test_the_expected_best_is_the_mean_over_all_subsets(lost: int) -> None:
    scores = np.random.default_rng(3).normal(size=9)
    scores[3] = scores[7]  # a tie
    scores[:lost] = np.nan
    found = expected_best(scores)
    for k in range(1, 10):
        known = [[v for v in some if v == v] for some in itertools.combinations(scores, k)]
        assert found[k - 1] == pytest.approx(statistics.fmean(max(some) for some in known if some))
    assert np.isnan(expected_best(np.full(3, np.nan))).all()
    assert np.isfinite(expected_best(np.random.default_rng(0).normal(size=2000))).all()


def test_good_settings_are_within_a_deviation_of_the_best() -> None:
    scores = np.array([[1.0, 2.0, 5.0, 4.6, np.nan], [1.4, 2.4, 5.4, 5.0, 9.0]])
    deviation = statistics.stdev([1.0, 1.4])
    assert 0.4 > deviation > 0.2
    assert good_settings(scores).tolist() == [False, False, True, False, False]
    scores[:, 3] += 0.15
    assert good_settings(scores).tolist() == [False, False, True, True, False]
    assert not good_settings(np.full((2, 3), np.nan)).any()


def test_a_profile_counts_tasks() -> None:
    scores = {
        "a": {"x": 90.0, "y": 89.5},
        "b": {"x": 70.0, "y": 80.0},
        "c": {"x": 50.0, "y": np.nan},
    }
    assert profile(scores, [0, 1, 10]) == {"x": [2 / 3, 2 / 3, 1], "y": [1 / 3, 2 / 3, 2 / 3]}


# Settings


def test_settings_cover_the_space_evenly_and_repeat() -> None:
    space = {"optim.lr": RATES, "optim.momentum": MOMENTA}
    some = points(space, 16, [0])
    assert some == points(space, 16, [0])
    assert some != points(space, 16, [1])
    for key, place in (
        ("optim.lr", lambda v: (math.log10(v) + 3) / 2),
        ("optim.momentum", lambda v: v / 0.9),
    ):
        sixteenths = sorted(math.floor(16 * place(setting[key])) for setting in some)
        assert sixteenths == [*range(16)], key  # one in each


@pytest.mark.parametrize(
    ("parameter", "allowed"),
    [
        (Parameter((), 2, 5, False, None), {2, 3, 4, 5}),
        (Parameter((), 1, 8, True, None), {*range(1, 9)}),
        (Parameter((), 0.0, 0.5, False, 0.25), {0.0, 0.25, 0.5}),
    ],
)
def test_whole_numbers_and_steps(parameter: Parameter, allowed: set[float]) -> None:
    values = [setting["x"] for setting in points({"x": parameter}, 64, [0])]
    assert {*values} == allowed
    assert len(values) == len(allowed)  # no setting twice
    assert {type(v) for v in values} == {type(parameter.low)}


def test_a_range_grows_with_the_density_it_had() -> None:
    first = SMALL.first_settings()
    further = SMALL.further_settings({("optim.lr", 1)})
    assert len(further) == len(first) / 2  # half the width
    assert all(0.1 < float(setting["optim.lr"]) <= 1 for setting in further)
    asked = [Trial({**GROUPS[0], **s, "seed": 0}, ("x",)) for s in [*first, *further]]
    grown = replace(SMALL, trials=tuple(asked))
    assert (grown.ranges()["optim.lr"].low, grown.ranges()["optim.lr"].high) == pytest.approx(
        (1e-3, 1)
    )
    again = grown.further_settings({("optim.lr", 1), ("optim.lr", 0)})
    rates = [float(setting["optim.lr"]) for setting in again]
    assert sum(rate < 1e-3 for rate in rates) == sum(rate > 1 for rate in rates) == 4
    assert not replace(grown, grow=1).further_settings({("optim.lr", 1)})


def test_growth_in_two_parameters_keeps_density() -> None:
    space = {"optim.lr": RATES, "init.gain": RATES, "optim.momentum": MOMENTA}
    two = replace(SMALL, space=space, size=16)
    further = two.further_settings({("optim.lr", 1), ("init.gain", 0), ("optim.momentum", 1)})
    assert len(further) == 8 + 12  # the second range meets one that is half as wide again
    assert max(float(setting["optim.momentum"]) for setting in further) < 0.9  # linear: it ends


# Rounds


def test_every_group_has_the_same_trials_and_settings() -> None:
    tune, _, sizes = rounds(Tune(SMALL), peak())
    assert sizes == [2 * 8 * 3, 2 * 3]
    counts = Counter((t.params["act"], tune.tuning.is_fresh(t)) for t in tune.trials)
    assert counts == {(act, fresh): n for act in ("relu", "tanh") for fresh, n in ((0, 24), (1, 3))}
    seeds = [
        {t.params["seed"] for t in tune.trials if tune.tuning.is_fresh(t) == f} for f in (0, 1)
    ]
    assert seeds == [{0, 1, 2}, {1000, 1001, 1002}]
    for act in ("relu", "tanh"):
        chosen = [t for t in tune.trials if tune.tuning.is_fresh(t) and t.params["act"] == act]
        tried = {float(t.params["optim.lr"]) for t in tune.trials}
        best = min(tried, key=lambda rate: abs(math.log10(rate) + 2))
        assert {t.params["optim.lr"] for t in chosen} == {best}


def test_each_seed_chooses_by_its_own_scores() -> None:
    def score(params: Params) -> float:
        at = {0: -2.5, 1: -1.5}.get(int(params["seed"]) % 1000, -2.0)
        return cast(float, peak(at=at)(params))

    tune, results, _ = rounds(Tune(SMALL), score)
    rates = [float(setting["optim.lr"]) for setting in tune.tuning.chosen(results)[0]]
    assert rates[0] < rates[2] < rates[1]
    fresh = {
        int(t.params["seed"]): t.params["optim.lr"] for t in tune.trials if tune.tuning.is_fresh(t)
    }
    assert [fresh[1000 + place] for place in range(3)] == rates


def test_all_groups_get_the_settings_beyond_an_edge() -> None:
    def score(params: Params) -> float | None:
        at = -0.7 if params["act"] == "tanh" else -2.0
        return peak(at=at)(params)

    tune, results, sizes = rounds(Tune(SMALL), score)
    assert sizes == [48, 2 * 4 * 3, 6]
    counts = Counter(t.params["act"] for t in tune.trials)
    assert counts["relu"] == counts["tanh"]
    chosen = tune.tuning.chosen(results)
    assert 0.1 < float(chosen[1][0]["optim.lr"]) < 1
    assert 0.005 < float(chosen[0][0]["optim.lr"]) < 0.02
    still = rounds(Tune(replace(SMALL, grow=0)), score)
    assert still[2] == [48, 6]
    bounded = rounds(Tune(replace(SMALL, budget=3 * 9 + 3)), score)
    assert bounded[2] == [48, 6]  # further settings would cost more


def test_the_budget_says_how_many_seeds() -> None:
    assert rounds(Tune(replace(SMALL, budget=2 * 9 + 5)), peak())[2] == [2 * 8 * 2, 2 * 2]


def test_a_process_that_goes_on_asks_for_the_same(tmp_path: Path) -> None:
    """After every round the tuning is read back, as a process does that goes on."""
    whole, results, _ = rounds(Tune(SMALL), peak(at=-0.7))
    tune, known = Tune(SMALL), dict[str, Any]()
    while asked := tune.ask(BEGUN if tune.trials else None, known):
        names = [f"r{len(tune.trials) + place}" for place in range(len(asked))]
        tune = tune.and_then([Trial(p, (n,)) for p, n in zip(asked, names, strict=True)])
        tune.write(tmp_path)
        found = tuning.read(tmp_path)
        assert found == tune.tuning
        tune = Tune(cast(Tuning, found))
        assert tune.ask(BEGUN, known | {n: results[n] for n in names}) is not None
        known |= {n: results[n] for n in names}
    assert tune == whole


def test_more_seeds_leave_what_was_chosen_alone() -> None:
    tune, results, _ = rounds(Tune(SMALL), peak())
    more = Tune(replace(tune.tuning, seeds=4))
    asked = more.ask(BEGUN, results)
    assert {params["seed"] for params in asked} == {3}
    assert len(asked) == 2 * 8
    names = [f"m{place}" for place in range(16)]
    more = more.and_then([Trial(p, (n,)) for p, n in zip(asked, names, strict=True)])
    rates = [float(params["optim.lr"]) for params in asked]  # so much better at the edge that
    results |= {n: result(99 * r, 3) for n, r in zip(names, rates, strict=True)}  # it would grow
    assert more.tuning.edges(more.tuning.scores(results)) == {("optim.lr", 1)}
    assert [params["seed"] for params in more.ask(BEGUN, results)] == [1003, 1003]


def test_nothing_is_chosen_while_a_trial_has_failed() -> None:
    tune, results, _ = rounds(Tune(SMALL), peak())
    tune = Tune(replace(tune.tuning, trials=tune.trials[:48]))
    results["r5"] = {"state": "failed", "task": "classification"}
    assert tune.ask(BEGUN, results) == []
    where = cast(Any, type("P", (), {"folder": Path("outputs/sweeps/t")}))
    assert "1 run failed, so nothing is chosen: actsweep retry t" in tune.standing(where, results)


def test_a_group_of_which_everything_diverged_is_said_so() -> None:
    score = peak()
    tune, results, sizes = rounds(Tune(SMALL), lambda p: None if p["act"] == "tanh" else score(p))
    assert sizes == [48, 3]
    tuned = tuned_of("t", tune.tuning, results)
    assert tuned.groups["act=tanh"] is None
    assert tuned.groups["act=relu"] is not None


def test_where_everything_diverged_the_end_is_a_line() -> None:
    tune, results, sizes = rounds(Tune(SMALL), lambda params: None)
    assert sizes == [48]
    where = cast(Any, type("P", (), {"folder": Path("outputs/sweeps/t")}))
    assert "all of them diverged, so nothing could be chosen" in tune.conclusion(where, results)


def test_a_fresh_run_without_a_finite_test_score_is_counted() -> None:
    tune, results, _ = rounds(Tune(SMALL), peak())
    fresh = next(t for t in tune.trials if tune.tuning.is_fresh(t) and t.params["act"] == "relu")
    results[fresh.runs[0]]["test_accuracy"] = None
    group = tuned_of("t", tune.tuning, results).groups["act=relu"]
    assert group is not None
    assert (group.fresh_diverged, group.test.seeds) == (1, 2)


def test_the_budget_holds_where_seeds_are_added_after_growth() -> None:
    def score(params: Params) -> float | None:
        return peak(at=-0.7)(params)

    tune, _, _ = rounds(Tune(replace(SMALL, seeds=2, budget=60)), score)
    settings = len(tune.tuning.settings)
    assert settings > SMALL.size
    more = replace(tune.tuning, seeds=12)
    assert more.counted_seeds == 60 // (settings + 1)
    assert replace(more, budget=1).counted_seeds == 2  # what is there stays


def test_settings_that_no_group_may_have_do_not_count() -> None:
    tune, results, _ = rounds(Tune(SMALL), peak())
    refused = Trial({"act": "relu", "optim.lr": 5.0, "seed": 0}, ())
    other = replace(tune.tuning, trials=(*tune.trials, refused))
    assert other.settings == tune.tuning.settings
    assert other.ranges()["optim.lr"].high > 1  # it isn't asked for again
    assert tuned_of("t", other, results).settings == 8


def test_the_order_of_nuisance_parameters_makes_no_other_protocol() -> None:
    gain = Parameter((), 0.5, 2.0, True, None)
    spaces = ({"optim.lr": RATES, "init.gain": gain}, {"init.gain": gain, "optim.lr": RATES})
    one, other = (replace(SMALL, space=space) for space in spaces)
    assert one.protocol == other.protocol


def test_widths_tell_groups_apart() -> None:
    assert factors_of({"act": "relu", "depth.width": 8}) == ["act", "depth.widths"]


def test_a_seed_that_finds_nothing_is_trained_all_the_same() -> None:
    """Else the seeds on which a group gives nothing would be left out of its score."""
    score = peak()
    tune, results, sizes = rounds(
        Tune(SMALL),
        lambda p: None if p["act"] == "tanh" and int(p["seed"]) % 1000 == 1 else score(p),
    )
    assert sizes == [48, 6]
    (group,) = [
        g for name, g in tuned_of("t", tune.tuning, results).groups.items() if "tanh" in name
    ]
    assert group is not None
    assert (group.fresh_diverged, group.test.seeds, group.diverged) == (1, 2, 8 / 24)
    assert group.expected_best[8].seeds == 2


def test_scores_are_of_the_split_they_say() -> None:
    tune, results, _ = rounds(Tune(SMALL), peak())
    choosing = {run for t in tune.trials if not tune.tuning.is_fresh(t) for run in t.runs}
    for run in choosing:
        results[run]["test_accuracy"] = 0.0  # isn't looked at
    group = tuned_of("t", tune.tuning, results).groups["act=relu"]
    assert group is not None
    settings = [float(s["optim.lr"]) for s in tune.tuning.settings]
    scores = [cast(float, peak()({"act": "relu", "optim.lr": rate})) for rate in settings]
    assert group.validation.mean == pytest.approx(max(scores))
    assert group.test.mean == pytest.approx(max(scores) + 0.1)
    assert group.expected_best[1].mean == pytest.approx(statistics.fmean(scores))
    assert group.expected_best[8].mean == pytest.approx(max(scores))
    assert [*group.expected_best] == [1, 2, 4, 8]


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"first": 3}, "seed=0, not 3"),
        ({"size": 16}, "tune.trials=8, not 16"),
        ({"groups": (GROUPS[0], {"act": "elu"})}, "act=tanh, not act=elu"),
        ({"space": {"optim.lr": replace(RATES, high=1.0)}}, "0.001 to 0.1: 8 trials"),
        ({"seeds": 9, "budget": 999}, ""),
    ],
)
def test_another_tuning_is_not_gone_on_with(change: dict[str, Any], difference: str) -> None:
    found = Tune(replace(SMALL, **change)).differs(SMALL)
    assert difference in found
    assert bool(difference) == bool(found)


# Planted


def test_what_is_better_only_at_its_own_rate_is_found() -> None:
    rng = np.random.default_rng(2)
    asked = replace(SMALL, seeds=8)
    ended = [fight(next(iter(PLANTED.values())), replace(asked, seed=s), rng)[0] for s in range(8)]
    assert sum(pairs[0, 1].verdict == "better" for pairs in ended) >= 6


def test_fights_of_what_is_alike_rarely_end_with_a_verdict() -> None:
    """Of 40, 5 % are 2; 7 or more have a chance of 0.3 %."""
    rng = np.random.default_rng(4)
    ended = [fight(NULLS["2 alike"], replace(SMALL, seed=s), rng)[0] for s in range(40)]
    assert sum(pairs[0, 1].verdict in ("better", "worse") for pairs in ended) < 7


def test_more_trials_alone_win_in_validation_but_not_afresh() -> None:
    validation, fresh = more_trials(SMALL, 2000, times=4)
    assert validation == pytest.approx(0.8, abs=0.04)  # 4 of 5 trials are its own
    assert fresh == pytest.approx(0.5, abs=0.04)


# What was typed


def sweeper(**changes: Any) -> TuneSweeper:
    settings = yaml.safe_load((conf_dir() / "hydra/sweeper/tune.yaml").read_text())
    return TuneSweeper(**{**{k: v for k, v in settings.items() if k != "_target_"}, **changes})


def asked_for(words: Sequence[str], **changes: Any) -> Tuning:
    made = sweeper(**changes)
    made.check_settings()
    return made.strategy(made.divide(OverridesParser.create().parse_overrides([*words]))).tuning


LOG = "optim.lr=tag(log,interval(1e-3,1))"


def test_words_become_groups_ranges_and_seeds() -> None:
    words = ["act=relu,tanh", "depth.layers=2,4", LOG, "seed=7", "optim.momentum=interval(0,0.9)"]
    asked = asked_for(words, trials=4)
    assert [*asked.groups[:2]] == [{"act": "relu", "depth.layers": d} for d in ("2", "4")]
    assert [*asked.space] == ["optim.lr", "optim.momentum"]
    assert [*asked.choosing_seeds] == [7, 8, 9, 10, 11]
    assert asked.fresh_seed(8) == 1001


@pytest.mark.parametrize(
    ("words", "changes", "message"),
    [
        (["act=relu", LOG], {}, "one group has no rival; type for example act=relu,gelu"),
        (["act=relu,tanh"], {}, "tune.nuisance=[]: nothing is tuned; type for example"),
        (
            ["act=relu,tanh", LOG],
            {"seeds": 1},
            "tune.seeds=1: must be a whole number of at least 2",
        ),
        (
            ["act=relu,tanh", LOG],
            {"trials": 1},
            "tune.trials=1: must be a whole number of at least 2",
        ),
        (
            ["act=relu,tanh", LOG],
            {"budget": 33},
            "tune.budget=33: doesn't buy two seeds of 17 runs each (16 trials and a fresh one); "
            "type tune.budget=34",
        ),
        (
            ["act=relu,tanh", LOG, "seed=998"],
            {},
            "tune.fresh=1000: seed 1000 would be reported, and is used for choosing "
            "(seeds 998 to 1002); type tune.fresh=2002",
        ),
        (["act=relu,tanh", LOG, "seed=0,1"], {}, "seed=0,1: tuning takes seeds of its own; type"),
        (
            ["act=relu,tanh", LOG, "data=mnist,digits"],
            {},
            "don't compare; type one tuning for each",
        ),
        (
            ["act=relu,tanh", "optim.lr=0.1,1"],
            {},
            "type tune.nuisance=[optim.lr], which tunes over it",
        ),
        (
            ["act=relu,tanh", "optim.lr=0.1,1"],
            {"nuisance": ["optim.lr"]},
            "is a list, and tune.nuis",
        ),
        (["act=relu,tanh", "act.slope=interval(0,1)"], {}, "belongs to the activation"),
        (
            ["act=relu,tanh", LOG],
            {"nuisance": ["act.slope"]},
            "tune.nuisance: act.slope: belongs to",
        ),
        (
            ["act=relu,tanh", "trainer.epochs=interval(1,9)"],
            {},
            "can't be tuned over; must be a number",
        ),
        (
            ["act=relu,tanh", LOG],
            {"nuisance": "optim.lr"},
            "tune.nuisance=optim.lr: must be a list of",
        ),
        (["act=relu,tanh", "depth.layers=2,4", "init=a,b", LOG], {}, "must be one or two things"),
        (["act=relu,tanh", "optim.lr=tag(log,interval(0,1))"], {}, "must begin above 0"),
        (
            ["act=relu,tanh", "optim.x=int(interval(1,3))"],
            {},
            "tune.trials=16: must be at most 3: so many settings differ; type for example tune.",
        ),
    ],
)
def test_bad_input_is_one_line(words: list[str], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        asked_for(words, **changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_input_starts_nothing(train: Train, tmp_path: Path) -> None:  # noqa: F811
    words = (
        "-m",
        "hydra/sweeper=tune",
        "data=digits",
        "act=relu,tanh",
        "tune.nuisance=[optim.lrr]",
    )
    code, _, err = train(*words)
    assert code == exit_codes.BAD_INPUT, err
    assert "tune.nuisance=optim.lrr: no such name; did you mean tune.nuisance=optim.lr?" in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("outputs/*"))


def test_a_range_is_a_decade_to_each_side_of_the_configs() -> None:
    configs = [
        resolve.resolve({"act": {"name": "relu"}, "optim": {"lr": lr}}) for lr in (0.2, 0.05)
    ]
    assert _around("optim.lr", configs) == Parameter((), 0.005, 2.0, True, None)
    assert _around("init.gain", configs) == Parameter((), 0.1, 10.0, True, None)
    for name, message in {
        "optim.name": "optim.name=sgd: isn't a number; type its range, for",
        "init.bias": "init.bias=0.0: has no decade around it; type its range",
        "trainer.epochs": "is a whole number; type its range",
    }.items():
        with pytest.raises(UserError, match=f"tune.nuisance: {name}=.*{message.split('=')[-1]}"):
            _around(name, configs)


# On disk


def on_disk(outputs: Path, name: str, score: Score, asked: Tuning = SMALL) -> Path:
    """Leave a tuning as training leaves it; its runs are made up."""
    folder, made, overrides = outputs / "sweeps" / name, dict[str, Member](), dict[str, list[str]]()
    tune, results = Tune(asked), dict[str, Any]()
    while wanted := tune.ask(BEGUN if tune.trials else None, results):
        trials = []
        for params in wanted:
            member = member_of(params, outputs)
            value = score(params)
            write_run(member.dir, name, str(params["act"]), int(params["seed"]))
            summary = json.loads(member.dir.summary.read_text())
            ended = result(value, int(params["seed"]))
            files.write_json(member.dir.summary, {**summary, **ended})
            results[member.run_id] = ended
            made[member.run_id] = member
            overrides[member.run_id] = [f"{key}={each}" for key, each in params.items()]
            trials.append(Trial(params, (member.run_id,)))
        tune = tune.and_then(trials)
    folder.mkdir(parents=True)
    plan.new_plan(folder, [[*made.values()]], overrides).write()
    tune.write(folder)
    return folder


def member_of(params: Params, outputs: Path) -> Member:
    return make_member(
        resolve.resolve(
            {
                "act": {"name": params["act"]},
                "optim": {"lr": params["optim.lr"]},
                "seed": params["seed"],
                "trainer": {"epochs": 8},
                "paths": {"outputs": str(outputs)},
            }
        )
    )


def noisy(better: str = "relu") -> Score:
    """As `peak`, with scores that differ from seed to seed, and one group ahead by 4 points."""

    def score(params: Params) -> float:
        rng = np.random.default_rng([int(params["seed"]), params["act"] == "relu"])
        ahead = 0.04 * (params["act"] == better)
        return cast(float, peak()(params)) + ahead + float(rng.normal(0, 0.002))

    return score


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("tuned") / "outputs"
    return on_disk(outputs, "t", noisy(), replace(SMALL, seeds=5))


def test_verdicts_are_over_fresh_seeds_and_say_so(tuned: Path) -> None:
    comparison = compare_sweeps([tuned], USUAL)
    assert {cell[0] for cells in comparison.cells.values() for cell in cells} == {
        *range(1000, 1005)
    }
    assert comparison.pairs[("relu",), ("tanh",)].verdict == "better"
    text = str(comparison)
    heading = "tuned over optim.lr 0.001 to 0.1: 8 trials for each seed, ranges may grow 2 times"
    assert f"{heading}, chosen in validation\nbest mean test/accuracy: relu" in text
    assert "averaged" not in text
    assert "at the edge of the grid" not in text
    with pytest.raises(UserError, match=r"--by lr: optim.lr was tuned, so that each run has what"):
        compare_sweeps([tuned], replace(USUAL, by=["lr"]))


def test_the_table_has_no_test_score_of_runs_that_choose(tuned: Path) -> None:
    sweep = plan.read_plan(tuned, to_train=False)
    table = table_text(sweep)
    assert len(re.findall(r"^(?:relu|tanh) ", table, re.M)) <= 4
    found = tuning.read(tuned)
    assert found is not None
    choosing = tuple(trial for trial in found.trials if not found.is_fresh(trial))
    before = (tuned / "search.json").read_text()
    try:
        replace(found, trials=choosing).write(tuned)
        only = replace(
            sweep, packs=[[m for m in sweep.packs[0] if m.run_id in found.choosing_runs]]
        )
        assert len(results_on_disk(only)) == 80
        rows = re.findall(r"^(?:relu|tanh) +[\d.]+ +5 +(\S+)", table_text(only), re.M)
        assert rows == ["–"] * 16
        with pytest.raises(UserError, match="nothing to compare yet: the runs so far choose"):
            compare_sweeps([tuned], replace(USUAL, where=["seed=0,1,2,3,4"]))
    finally:
        (tuned / "search.json").write_text(before)


def test_before_the_first_fresh_seed_no_test_score_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = on_disk(tmp_path / "outputs", "t", noisy(), replace(SMALL, seeds=2))
    found = tuning.read(folder)
    assert found is not None
    sweep = plan.read_plan(folder, to_train=False)
    for member in sweep.runs.values():
        if member.run_id not in found.choosing_runs:
            shutil.rmtree(member.dir.path)
    text = tuned_text([folder])  # the fresh runs were asked for, and haven't begun
    assert "nothing to compare" in text
    assert "settings" in text
    entries = [without_test_scores(e) if e.choosing else e for e in gather([folder])]
    assert not [key for entry in entries for key in entry.summary if key.startswith("test_")]
    report = _make(gather([folder]), USUAL)
    assert isinstance(report.comparison, str)
    shown = [key for entry in report.design.entries for key in entry.summary]
    assert "best_val_accuracy" in shown
    assert not [key for key in shown if key.startswith("test_")]


@pytest.mark.slow
def test_the_report_is_of_fresh_seeds(tuned: Path, tmp_path: Path) -> None:
    page = write([tuned], tmp_path / "report").read_text()
    assert "Tuned over optim.lr 0.001 to 0.1" in page
    rows = (tmp_path / "report/runs.csv").read_text().splitlines()
    assert len(rows) == 1 + 10


def test_show_and_its_json_say_the_same(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = str(tuned.parents[1])
    assert main(["tune", "--show", "t", "--outputs", outputs]) == 0
    text = capsys.readouterr().out
    assert main(["tune", "--show", "t", "--json", "--outputs", outputs]) == 0
    (plain,) = json.loads(capsys.readouterr().out)["tunings"]
    relu = plain["groups"]["act=relu"]
    assert f"{100 * relu['test']['mean']:.2f} [{100 * relu['test']['low']:.2f}" in text
    assert f"{100 * relu['expected_best']['4']['mean']:.2f}" in text
    assert plain["settings"] == 8
    assert plain["left"] == 0
    assert "better than tanh" in text


def test_a_profile_over_sweeps_of_one_protocol(
    tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = replace(SMALL, size=4, grow=0)
    asked = {"u": ("tanh", small), "v": ("relu", small), "w": ("relu", replace(small, size=2))}
    u, v, w = (
        str(on_disk(tmp_path / name, name, noisy(better), of))
        for name, (better, of) in asked.items()
    )
    assert main(["tune", "--show", u, v]) == 0
    rows = re.findall(r"^act=(\w+) +([\d %]+)$", capsys.readouterr().out, re.M)
    assert {name: row.split()[::2] for name, row in rows} == {
        "relu": ["50", "50", "50", "50", "100"],  # 4 points behind in one of the two
        "tanh": ["50", "50", "50", "50", "100"],
    }
    assert main(["tune", "--show", u, w]) == 2
    assert "sweeps of different protocols don't compare (" in capsys.readouterr().err
    assert main(["compare", u, w]) == 2
    assert "sweeps of different protocols don't compare" in capsys.readouterr().err


def test_a_seed_that_chose_in_one_sweep_isnt_fresh_in_another(tmp_path: Path) -> None:
    first = on_disk(tmp_path, "a", peak(), replace(SMALL, size=2, seeds=2, grow=0))
    second = on_disk(
        tmp_path, "b", peak(), replace(SMALL, size=2, seeds=2, grow=0, first=1000, fresh=0)
    )
    with pytest.raises(UserError, match=r"b: seed=\d+ was used for choosing in one of these"):
        gather([first, second])


def test_a_sweep_that_is_no_tuning_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x: isn't a tuning; type one of actsweep tune"):
        read_tuned(tmp_path / "x")
    (tmp_path / "search.json").write_text('{"race": {}}')
    with pytest.raises(UserError, match=r": holds a race; type another hydra.sweep.dir"):
        tuning.read(tmp_path)
    assert tuning.found(tmp_path) is None
    (tmp_path / "search.json").write_text('{"tuning": {}}')
    with pytest.raises(UserError, match=r"search.json: can't be read as a tuning"):
        tuning.read(tmp_path)


TUNED = (
    *("-m", "hydra/sweeper=tune", "act=relu,tanh", LOG, "tune.trials=2", "tune.seeds=2"),
    *("tune.grow=1", "debug=default", "depth=2", "depth.width=8", "callbacks=none"),
    *("logger=disabled", "trainer.save_every_s=0", "trainer.epochs=8", "trainer.patience=null"),
)


@pytest.mark.slow
def test_a_killed_tuning_leaves_what_an_undisturbed_one_does(tmp_path: Path) -> None:
    """Killed in its first round and in its last: the same bytes, the same settings."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    code, _, err = ask(whole, str(ROOT / "train.py"), *TUNED)
    assert code in (exit_codes.OK, exit_codes.SOME_FAILED), err
    runs = broken / "outputs/runs"
    words = (str(ROOT / "train.py"), *TUNED)
    for fresh in (False, True):
        with started(broken, *words):
            seed = "s100" if fresh else "s"
            wait(lambda seed=seed: bool([*runs.glob(f"*-{seed}*/metrics.jsonl")]), 300)
        wait(lambda: not owners(broken / "outputs"))
        words = ("-m", "actsweep", "resume", "last")
    code, out, err = ask(broken, "-m", "actsweep", "resume", "last")
    assert code in (exit_codes.OK, exit_codes.SOME_FAILED), err
    assert "tuned over optim.lr 0.001 to 1: 2 trials for each seed" in out
    assert metrics(broken / "outputs") == metrics(whole / "outputs")
    found = [tuning.read(sweep_in(folder / "outputs")) for folder in (whole, broken)]
    assert found[0] == found[1]
