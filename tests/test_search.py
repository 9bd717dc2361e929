"""hydra/sweeper=optuna: what is suggested and told, and that an interruption changes neither."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import scipy.stats
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from actsweep.config import resolve
from actsweep.launch import search as launched
from actsweep.launch.search import Steps, Suggested, Suggesting, go_on
from actsweep.runs.members import make_member
from actsweep.runtime.process import Process
from actsweep.sweeps import exit_codes
from actsweep.sweeps import search as searches
from actsweep.sweeps.plan import SEARCH_FILE, STUDY_FILE, Plan, read_frozen
from actsweep.sweeps.search import Outcome, Parameter, Search, Trial
from actsweep.utils.errors import UserError
from hydra_plugins.actsweep_pack.space import check_ends, divide
from hydra_plugins.actsweep_pack.sweeper import merge

PARSER = OverridesParser.create()
LR = Parameter(low=1e-4, high=1.0, log=True)
DEPTH = Parameter(low=1, high=6, step=1)
ACT = Parameter(choices=("relu", "tanh"))


def space_of(*words: str) -> Mapping[str, Parameter]:
    return divide(PARSER.parse_overrides(list(words))).space


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a=tag(log,interval(1e-4,1))", LR),
        ("a=interval(0,2)", Parameter(low=0.0, high=2.0)),
        ("a=int(interval(1,6))", Parameter(low=1, high=6)),
        ("a=int(tag(log,interval(1,64)))", Parameter(low=1, high=64, log=True)),
        ("a=range(1,7)", DEPTH),
        ("a=range(1,8,3)", Parameter(low=1, high=7, step=3)),
        ("a=range(0.1,0.5,0.1)", Parameter(low=0.1, high=0.4, step=0.1)),
        ("a=relu,tanh", ACT),
        ("a=choice(relu,tanh,relu)", ACT),
    ],
)
def test_a_word_becomes_a_parameter(word: str, expected: Parameter) -> None:
    found = space_of(word)["a"]
    assert found.high == pytest.approx(expected.high, abs=1e-12)
    assert replace(found, high=expected.high) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a=1", "seed=0,1"], r"nothing is searched; type for example 'optim.lr=tag\(log,"),
        (["a=interval(2,1)"], r"a=interval\(2,1\): must have a lower and a higher end"),
        (["a=range(1,2)"], r"must have a lower and a higher end"),
        (["a=tag(log,interval(0,1))"], r"must begin above 0; type for example"),
        (["a=tag(lg,interval(1,2))"], r"has the tag lg; must be log"),
        (["a=tag(log,choice(1,2))"], r"a list has no logarithm"),
        (["a=tag(log,range(1,9,2))"], r"has no step"),
        (["data=digits,wine"], r"data=digits,wine: can't be searched: scores on different data"),
        (["sweep.name=a,b"], r"can't be searched: is the sweep's"),
    ],
)
def test_what_cannot_be_searched_is_one_line(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        space_of(*words)


def test_seeds_are_repetitions_and_the_rest_is_fixed() -> None:
    typed = divide(PARSER.parse_overrides(["act=relu", "seed=3,4", "a=interval(0,1)", "b=2"]))
    assert typed.words({"a": 0.5}) == [
        ["act=relu", "b=2", "a=0.5", "seed=3"],
        ["act=relu", "b=2", "a=0.5", "seed=4"],
    ]


def test_every_end_and_every_choice_is_tried_before_anything_starts() -> None:
    space = {"act": Parameter(choices=("a", "b", "c")), "lr": LR}
    tried = check_ends(space)
    assert [params["act"] for params in tried] == ["a", "b", "c"]
    assert {params["lr"] for params in tried} == {1e-4, 1.0}


def test_sobol_is_scipys_sequence() -> None:
    """Whatever the batches: the depth's cell and the rate's logarithm are its coordinates."""
    search = Search({"depth": DEPTH, "lr": LR}, "sobol", 7)
    points = scipy.stats.qmc.Sobol(2, scramble=True, seed=7).random(16)
    asked = searches.ask(search, [], 5)
    search = search.and_then([Trial(params, ()) for params in asked])
    asked += searches.ask(search, [Outcome(searches.FAILED)] * 5, 11)
    rates = 10 ** (-4 + 4 * points[:, 1])
    np.testing.assert_allclose([params["lr"] for params in asked], rates, rtol=1e-5)
    depths = 1 + np.floor(6 * points[:, 0])
    np.testing.assert_array_equal([params["depth"] for params in asked], depths)


def test_random_rates_are_even_in_their_logarithm() -> None:
    asked = searches.ask(Search({"lr": LR, "act": ACT}, "random", 0), [], 400)
    logs = [math.log10(float(params["lr"])) for params in asked]
    assert scipy.stats.kstest(logs, scipy.stats.uniform(-4, 4).cdf).pvalue > 0.01
    relu = sum(params["act"] == "relu" for params in asked)
    assert scipy.stats.binomtest(relu, 400).pvalue > 0.01


def test_random_suggestions_do_not_depend_on_the_batches() -> None:
    search = Search({"lr": LR}, "random", 3)
    whole = searches.ask(search, [], 6)
    first = searches.ask(search, [], 4)
    rest = searches.ask(
        search.and_then([Trial(p, ()) for p in first]), [Outcome(searches.FAILED)] * 4, 2
    )
    assert [*first, *rest] == whole
    assert searches.ask(replace(search, seed=4), [], 6) != whole


def test_a_number_is_typed_with_six_digits_and_stays_inside() -> None:
    parameter = Parameter(low=0.1234564, high=1.0)
    assert parameter.shown(0.12345641) == 0.1234564
    assert parameter.shown(0.33333333333) == 0.333333
    in_steps = Parameter(low=0.1234567, high=0.8234567, step=0.1)
    assert in_steps.shown(0.1234567 + 2 * 0.1) == 0.3234567
    assert DEPTH.shown(3) == 3
    assert ACT.shown("relu") == "relu"


def result(state: str = "complete", value: float | None = 0.5, task: str = "classification") -> Any:
    own = {"classification": "accuracy", "regression": "loss"}[task]
    return {"state": state, "task": task, f"best_val_{own}": value}


@pytest.mark.parametrize(
    ("of_runs", "expected"),
    [
        ([result(value=0.25), result(value=0.75)], Outcome("complete", 0.5, "accuracy")),
        ([result(value=2.0, task="regression")], Outcome("complete", 2.0, "loss")),
        ([result(), result("diverged")], Outcome("diverged")),
        ([result("failed"), result("diverged")], Outcome("failed")),
        ([result(), result("failed", None)], Outcome("failed")),
        ([result(value=None)], Outcome("failed")),
        ([], Outcome("failed")),
    ],
)
def test_what_is_told_of_a_suggestion(of_runs: list[Any], expected: Outcome) -> None:
    runs = {str(number): each for number, each in enumerate(of_runs)}
    assert searches.outcome_of(Trial({}, tuple(runs)), runs) == expected


def loss_at(rate: float) -> float:
    """A bowl in log10(rate), whose bottom is at 10^-2.5."""
    return (math.log10(rate) + 2.5) ** 2


def searched(sampler: str, trials: int, batch: int = 8, seed: int = 0) -> list[float]:
    search, outcomes = Search({"lr": LR}, sampler, seed), list[Outcome]()
    while len(search.trials) < trials:
        asked = searches.ask(search, outcomes, batch)
        search = search.and_then([Trial(params, ("a",)) for params in asked])
        outcomes += [Outcome("complete", loss_at(float(params["lr"])), "loss") for params in asked]
    return [float(trial.params["lr"]) for trial in search.trials]


def test_tpe_comes_nearer_than_chance_where_less_is_better() -> None:
    late = {
        sampler: np.mean(
            [loss_at(rate) for seed in (0, 1) for rate in searched(sampler, 40, seed=seed)[-16:]]
        )
        for sampler in ("tpe", "random")
    }
    assert late["tpe"] < 0.3 * late["random"]


def test_what_diverges_is_avoided() -> None:
    """More than if nothing were told of it; here all rates above 0.01 diverge, next to the best."""

    def unstable(told: str, seed: int) -> int:
        search, outcomes = Search({"lr": LR}, "tpe", seed), list[Outcome]()
        for _ in range(5):
            asked = searches.ask(search, outcomes, 8)
            search = search.and_then([Trial(params, ("a",)) for params in asked])
            rates = [float(params["lr"]) for params in asked]
            outcomes += [
                Outcome(told) if rate > 0.01 else Outcome("complete", -rate, "loss")
                for rate in rates
            ]
        return sum(float(trial.params["lr"]) > 0.01 for trial in search.trials[-24:])

    told, untold = (sum(unstable(how, seed) for seed in range(4)) for how in ("diverged", "failed"))
    assert told < 0.7 * untold


def study_in(folder: Path) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(folder / STUDY_FILE)))
    return optuna.load_study(study_name="search", storage=storage)


def test_the_study_is_optunas(tmp_path: Path) -> None:
    search = Search({"lr": LR}, "random", 0)
    search = search.and_then([Trial(p, ("r",)) for p in searches.ask(search, [], 4)])
    outcomes = [
        *(Outcome("complete", 2.0, "loss"), Outcome("diverged")),
        *(Outcome("complete", 1.0, "loss"), Outcome("failed")),
    ]
    searches.write_study(tmp_path, search, outcomes)
    study = study_in(tmp_path)
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    assert study.best_trial.params == search.trials[2].params
    states = [trial.state for trial in study.trials]
    complete, fail = TrialState.COMPLETE, TrialState.FAIL
    assert states == [complete, TrialState.PRUNED, complete, fail]
    before = (tmp_path / STUDY_FILE).read_bytes()
    more = search.and_then([Trial({"lr": 0.5}, ("s",))])
    searches.write_study(tmp_path, more, [*outcomes, Outcome("complete", 3.0, "loss")])
    assert (tmp_path / STUDY_FILE).read_bytes().startswith(before)  # only added to
    outcomes[3] = Outcome("complete", 0.5, "loss")  # retried
    (tmp_path / STUDY_FILE).write_bytes(before[:-20])
    searches.write_study(tmp_path, search, outcomes)
    assert study_in(tmp_path).best_trial.number == 3


def test_a_search_is_read_as_it_was_written(tmp_path: Path) -> None:
    search = Search({"act": ACT, "depth": DEPTH, "lr": LR}, "tpe", 5)
    search = search.and_then([Trial({"act": "relu", "depth": 2, "lr": 0.1}, ("a", "b"))])
    assert searches.read(tmp_path) is None
    search.write(tmp_path)
    assert searches.read(tmp_path) == search
    (tmp_path / SEARCH_FILE).write_text("{}")
    with pytest.raises(UserError, match=r"search.json: can't be read"):
        searches.read(tmp_path)


class Killed(BaseException):
    """The end of a process."""


class Bench:
    """A search whose runs aren't trained: their loss is a bowl in the learning rate."""

    def __init__(self, folder: Path, trials: int = 12) -> None:
        self.folder, self.trained = folder, list[int]()
        self.kill_at = -1
        self.steps = Steps(
            folder / "sweeps/s", self.compose, merge, lambda plan: plan.write(), self.train
        )
        self.trials = trials

    def compose(self, asked: Sequence[Mapping[str, Any]]) -> list[Suggested | UserError]:
        made = []
        for params in asked:
            run = resolve.resolve(
                {
                    "act": {"name": "relu"},
                    "optim": {"lr": params["lr"]},
                    "paths": {"outputs": str(self.folder)},
                }
            )
            made.append(Suggested((make_member(run),), ([f"optim.lr={params['lr']}"],)))
        return list(made)

    def train(self, plan: Plan, end: Callable[..., int]) -> int:
        if len(self.trained) == self.kill_at:
            raise Killed
        self.trained.append(len(plan.runs))
        results = [
            {
                "run_id": run_id,
                "state": "complete",
                "task": "regression",
                "best_val_loss": loss_at(member.config.optim.lr),
            }
            for run_id, member in plan.runs.items()
        ]
        return end(plan, results, None)

    def go_on(self) -> Search:
        """Go on with what is in the folder."""
        known = searches.read(self.steps.folder)
        plan = launched_plan(self) if known else None
        search = known or Search({"lr": LR}, "tpe", 0)
        go_on(self.steps, Suggesting(search, self.trials, 4), plan, Process())
        found = searches.read(self.steps.folder)
        assert found is not None
        return found


def launched_plan(bench: Bench) -> Plan:
    from actsweep.sweeps.plan import read_plan

    return read_plan(bench.steps.folder)


@pytest.fixture
def unfinished(monkeypatch: pytest.MonkeyPatch) -> None:
    """No table, and no report."""
    monkeypatch.setattr(launched, "finish", lambda plan, results, asked: exit_codes.OK)


@pytest.mark.usefixtures("unfinished")
@pytest.mark.parametrize(
    ("kill_at", "lost"),
    [(0, ()), (2, ()), (0, (SEARCH_FILE,)), (1, (SEARCH_FILE,)), (2, (STUDY_FILE,))],
)
def test_a_search_that_was_killed_suggests_the_same(
    tmp_path: Path, kill_at: int, lost: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the process died before it had written what was suggested."""
    whole = Bench(tmp_path / "whole").go_on()
    assert len(whole.trials) == 12
    broken = Bench(tmp_path / "broken")
    broken.kill_at = kill_at
    if lost == (SEARCH_FILE,):
        calls = iter(range(99))
        write = Search.write

        def fail(search: Search, folder: Path) -> None:
            if next(calls) == kill_at:
                raise Killed
            write(search, folder)

        monkeypatch.setattr(Search, "write", fail)
    with pytest.raises(Killed):
        broken.go_on()
    broken.kill_at = -1
    if lost == (STUDY_FILE,):
        (broken.steps.folder / STUDY_FILE).unlink(missing_ok=True)
    again = broken.go_on()
    assert [trial.params for trial in again.trials] == [trial.params for trial in whole.trials]
    known = read_frozen(broken.steps.folder)["members"]
    assert {run for trial in again.trials for run in trial.runs} == known.keys()
    study = study_in(broken.steps.folder)
    assert len(study.trials) == 12
    assert study.best_value == min(loss_at(float(trial.params["lr"])) for trial in whole.trials)


@pytest.mark.usefixtures("unfinished")
def test_a_search_may_get_more_trials(tmp_path: Path) -> None:
    few, many = Bench(tmp_path / "few", trials=8), Bench(tmp_path / "many", trials=16)
    few.go_on()
    few.trials = 16
    assert few.go_on().trials == many.go_on().trials
    assert few.trained == [4, 8, 8, 12, 16]
