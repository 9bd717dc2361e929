"""actsweep race: which groups get further seeds, when it ends, and how it goes on."""

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from test_app import Train, logging_as_before, train  # noqa: F401

from actsweep.cli.main import main
from actsweep.config.conf_dir import conf_dir
from actsweep.launch import race
from actsweep.launch.race import Race, seconds_of
from actsweep.stats.paired import Pair, compare
from actsweep.stats.race import Rules, beaten, open_pairs, seeds_next
from actsweep.sweeps import exit_codes
from actsweep.sweeps.plan import PLAN_FILE, is_search, read_frozen
from actsweep.sweeps.search import Trial
from actsweep.utils.errors import UserError
from benchmarks.races import run_race

RULES = Rules(first=3, batch=4, seeds=20)


def pairs_of(**verdicts: tuple[str, int | None]) -> dict[tuple[str, str], Pair]:
    """Pairs by `a_b`, each with its verdict about a and its `more`."""
    (like,) = compare({"a": {(0,): 1.0, (1,): 2.0}, "b": {(0,): 1.0, (1,): 3.0}}, 0.1).values()
    return {
        (name[0], name[2]): replace(like, verdict=verdict, more=more)
        for name, (verdict, more) in verdicts.items()
    }


def test_who_is_worse_than_another_is_out() -> None:
    pairs = pairs_of(a_b=("better", None), a_c=("cannot tell", 2), b_c=("cannot tell", 9))
    assert beaten(pairs) == {"b"}
    assert open_pairs(pairs, "best") == [("a", "c")]
    assert open_pairs(pairs, "pairs") == [("a", "c"), ("b", "c")]
    trained = {"a": 3, "b": 3, "c": 3}
    assert seeds_next(pairs, trained, RULES) == {"a": 5, "c": 5}
    every = replace(RULES, aim="pairs")
    assert seeds_next(pairs, trained, every) == {"a": 5, "b": 5, "c": 5}


@pytest.mark.parametrize(
    ("more", "trained", "expected"),
    [
        (1, {"a": 3, "b": 3}, {"a": 4, "b": 4}),
        (999, {"a": 3, "b": 3}, {"a": 7, "b": 7}),  # a batch
        (None, {"a": 3, "b": 3}, {"a": 7, "b": 7}),
        (2, {"a": 9, "b": 4}, {"a": 11, "b": 11}),  # who has fewer catches up
        (9, {"a": 19, "b": 19}, {"a": 20, "b": 20}),
        (9, {"a": 20, "b": 20}, {}),
    ],
)
def test_a_round_has_as_many_seeds_as_may_decide(
    more: int | None, trained: dict[str, int], expected: dict[str, int]
) -> None:
    assert seeds_next(pairs_of(a_b=("cannot tell", more)), trained, RULES) == expected


@pytest.mark.parametrize("verdict", ["better", "worse", "equivalent"])
def test_a_race_ends_when_all_is_decided(verdict: str) -> None:
    assert seeds_next(pairs_of(a_b=(verdict, None)), {"a": 3, "b": 3}, RULES) == {}


def test_losers_are_trained_less_and_the_winner_is_found() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(0, 1, (4, 20)) + np.array([6.0, 5.0, 0.0, -9.0])[:, None]
    pairs, seeds = run_race(scores, RULES, 0.1)
    assert seeds[0] == seeds[1] > max(seeds[2], seeds[3])
    assert pairs[0, 2].verdict == pairs[0, 3].verdict == "better"


def test_races_of_what_is_alike_rarely_end_with_a_verdict() -> None:
    """Of 60, 5 % are 3; 9 or more have a chance of 0.3 %."""
    rng = np.random.default_rng(5)
    ended = [run_race(rng.normal(0, 1, (3, 12)), Rules(seeds=12), 0.05)[0] for _ in range(60)]
    wrong = [any(p.verdict in ("better", "worse") for p in pairs.values()) for pairs in ended]
    assert sum(wrong) < 9


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("90m", 5400), ("1.5d", 129600), ("30s", 30)]
)
def test_a_budget_is_a_duration(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds
    assert seconds_of(None) is None


def asked_for(number: int = 2, trials: Sequence[Trial] = (), **changes: Any) -> Race:
    groups = tuple({"act": act} for act in ("relu", "tanh", "swish")[:number])
    return Race(groups, RULES, trials=tuple(trials), **changes)


def test_a_race_begins_with_the_first_seeds_of_every_group() -> None:
    asked = asked_for(first_seed=7).ask(None, {})
    assert asked == [{"act": a, "seed": s} for a in ("relu", "tanh") for s in (7, 8, 9)]


def test_no_round_is_begun_beyond_the_budget() -> None:
    spent = {"r0": {"state": "complete", "seconds": 20.0}, "r1": {"state": "complete"}}
    begun = asked_for(trials=[Trial({"act": "relu", "seed": 0}, ("r0",))], budget=20.0)
    assert begun.ask(Any, spent) == []  # type: ignore[arg-type]


def test_a_race_is_read_back(tmp_path: Path) -> None:
    begun = asked_for(trials=[Trial({"act": "relu", "seed": 0}, ("r0",))], budget=60.0, margin=0.5)
    assert race.read(tmp_path) is None
    begun.write(tmp_path)
    assert race.read(tmp_path) == begun
    (tmp_path / "search.json").write_text('{"space": {}}')
    with pytest.raises(UserError, match=r": holds a search; type another hydra.sweep.dir"):
        race.read(tmp_path)
    (tmp_path / "search.json").write_text('{"race": {}}')
    with pytest.raises(UserError, match=r"search.json: can't be read as a race"):
        race.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"first_seed": 3}, "seed=0, not 3"),
        ({"margin": 0.2}, "hydra.sweeper.margin=None, not 0.2"),
        ({"groups": ({"act": "relu"}, {"act": "elu"})}, "act=tanh, not act=elu"),
        ({"groups": ({"act": "relu"},)}, "2 groups, not 1 groups"),
        ({"budget": 5.0}, ""),
        ({"rules": replace(RULES, seeds=50)}, ""),
    ],
)
def test_another_race_is_not_gone_on_with(change: dict[str, Any], difference: str) -> None:
    found = replace(asked_for(), **change).differs(asked_for())
    assert found.removesuffix(" groups") == difference.removesuffix(" groups")


RACE = ("-m", "hydra/sweeper=race", "data=digits")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["act=relu"], "one group has no rival; type for example act=relu,gelu,swish"),
        (["act=relu,tanh", "seed=0,1"], "a race takes as many seeds as it needs; type"),
        (["act=relu,tanh", "optim.lr=0.1,1"], "is tuned, not raced: type actsweep tune"),
        (["act=relu,tanh", "data=digits,wine"], "don't compare; type one race for each"),
        (["act=relu,tanh", "act.slope=interval(0,1)"], "an interval has no list of values"),
        (["act=relu,tanh", "hydra.sweeper.first=1"], "must be a whole number of at least 2"),
        (["act=relu,tanh", "hydra.sweeper.seeds=2"], "must be a whole number of at least 3"),
        (["act=relu,tanh", "hydra.sweeper.aim=worst"], "hydra.sweeper.aim=worst: no such name"),
        (["act=relu,tanh", "hydra.sweeper.budget=2"], "must be a duration in s, m, h or d; type"),
        (["act=relu,tanh", "hydra.sweeper.margin=-1"], "hydra.sweeper.margin=-1: must be a number"),
        (["act=relu,tanh", "depth=2,4", "init=he_normal,orthogonal"], "must be one or two things"),
        (
            ["act=relu,tanh", "trainer.save_every_s=1,2"],
            "trainer.save_every_s=1.0,2.0: can't change a result",
        ),
        (
            ["act=relu,tanh", "hydra.sweeper.metric=test/acuracy"],
            "metric=test/acuracy: no such name; did you mean hydra.sweeper.metric=test/accuracy",
        ),
        (["act=relu,reluu"], "act=reluu: no such name; did you mean act=relu"),
    ],
)
def test_bad_input_starts_nothing(
    words: list[str],
    message: str,
    tmp_path: Path,
    train: Train,  # noqa: F811
) -> None:
    code, _, err = train(*RACE, *words)
    assert code == exit_codes.BAD_INPUT, err
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("outputs/*"))


COUNTS = ("seeds", "first", "batch")
PAGE = (Path(__file__).parents[1] / "docs" / "race.md").read_text()


def test_the_page_lists_every_setting() -> None:
    settings = yaml.safe_load((conf_dir() / "hydra/sweeper/race.yaml").read_text())
    listed = re.findall(r"^\|[^|]*\| `(\w+)` \| `?(\w+)", PAGE, re.M)
    assert {name for name, _ in listed} == settings.keys() - {"_target_", "params"}
    numbers = {name: str(settings[name]) for name, default in listed if name in COUNTS}
    assert {**dict(listed), **numbers} == dict(listed)


@pytest.mark.slow
@pytest.mark.usefixtures("logging_as_before", "compiled_once")
def test_a_race_decides_and_may_be_extended(
    tmp_path: Path,
    train: Train,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two slopes that are all but the same stay undecided; then the page's own race, in Python."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs/sweeps/r"
    words = (*RACE, "act=leaky_relu", "act.slope=0.01,0.011", "depth=2", "trainer.epochs=1")
    code, out, err = train(*words, "hydra.sweeper.seeds=3", f"hydra.sweep.dir={folder}")
    assert code == exit_codes.OK, err
    assert "race: 6 runs of 2 groups; open: 1 pair" in out
    assert out.rstrip().endswith("Ended: hydra.sweeper.seeds=3")
    assert main(["resume", "r", "hydra.sweeper.seeds=5"]) == exit_codes.OK
    limits = [word for word in read_frozen(folder)["command"] if "sweeper.seeds" in word]
    assert limits == ["hydra.sweeper.seeds=5"]  # of whoever goes on next
    out = capsys.readouterr().out
    configs = [run["config"] for run in read_frozen(folder)["members"].values()]
    seeds = {(config["act"]["slope"], config["seed"]) for config in configs}
    assert seeds >= set(itertools.product((0.01, 0.011), range(4)))
    assert main(["compare", "r", "--by", "act"]) == exit_codes.OK
    compared = [line.rstrip() for line in capsys.readouterr().out.strip().splitlines()]
    assert "\n".join(compared) in "\n".join(line.rstrip() for line in out.splitlines())
    assert main(["resume", "r", "hydra.sweeper.aim=pairs"]) == exit_codes.BAD_INPUT
    (command,) = re.findall(r"^actsweep (race .*)", PAGE, re.M)
    with pytest.raises(SystemExit, match=r"^0$"):  # as Hydra's sweepers end
        main([*command.split(), "--seeds", "8"])
    shown = capsys.readouterr().out
    assert "beaten: relu, sigmoid; every pair of the others is decided" in shown


@pytest.mark.parametrize(
    ("command", "grows"),
    [
        (["python", "train.py", "-m", "hydra/sweeper=race", "act=relu,tanh"], True),
        (["actsweep", "train", "-m", "hydra/sweeper=tune", "act=relu,tanh"], True),
        (["python", "train.py", "-m", "hydra/sweeper=pack", "act=relu,tanh"], False),
        (["python", "train.py", "-m", "act=relu,tanh"], False),
    ],
)
def test_one_that_was_killed_before_its_first_batch_was_written_is_known(
    command: list[str], grows: bool, tmp_path: Path
) -> None:
    """`actsweep resume` went on with it as with a sweep of the first round alone."""
    assert not is_search(tmp_path)
    (tmp_path / PLAN_FILE).write_text(json.dumps({"command": command}))
    assert is_search(tmp_path) is grows
