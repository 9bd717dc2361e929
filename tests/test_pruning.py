"""hydra.sweeper.pruner: decisions against Optuna's own in a plain loop; what is told of them."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from sweeps_on_disk import sweep_on_disk
from test_search import LR, Bench, Killed, study_in, unfinished  # noqa: F401

from actsweep.config import resolve
from actsweep.launch.search import Suggested, Suggesting, go_on
from actsweep.runs import run_dir
from actsweep.runs.members import Member, make_member
from actsweep.runs.run_dir import RunRecord
from actsweep.runtime.process import Process
from actsweep.sweeps import search as searches
from actsweep.sweeps.judging import judges_in
from actsweep.sweeps.plan import Plan, read_plan
from actsweep.sweeps.pruning import Curve, Judge, Pruner
from actsweep.sweeps.search import Outcome, Search, Trial
from actsweep.sweeps.status import take_snapshot
from actsweep.utils.errors import UserError

EPOCHS = 9
MEDIAN = Pruner("median", n_startup_trials=4, n_warmup_epochs=1, interval_epochs=2, epochs=EPOCHS)
HALVING = Pruner("halving", reduction_factor=2, epochs=EPOCHS)
HYPERBAND = Pruner("hyperband", epochs=EPOCHS)


def scores(trials: int, sign: int) -> np.ndarray:
    """Noisy curves that rise to levels of their own; one has a gap."""
    rng = np.random.default_rng(3)
    curves = rng.uniform(0, 1, (trials, 1)) * (1 - 0.7 ** np.arange(1, EPOCHS + 1))
    curves += rng.normal(0, 0.05, curves.shape)
    curves[7, 2] = math.nan
    return sign * curves


def judged(judge: Judge, values: Sequence[float]) -> Curve:
    for epoch, value in enumerate(values, 1):
        if judge(epoch, value):
            return Curve("pruned", tuple(values[:epoch]))
    return Curve("complete", tuple(values))


def in_batches(pruner: Pruner, values: np.ndarray, batch: int, sign: int) -> list[Curve]:
    known: list[Curve] = []
    for first in range(0, len(values), batch):
        numbers = range(first, min(first + batch, len(values)))
        judges = [Judge(pruner, number, known, sign) for number in numbers]
        known += [judged(judge, values[n].tolist()) for judge, n in zip(judges, numbers)]  # noqa: B905
    return known


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("pruner", "optunas"),
    [
        (MEDIAN, optuna.pruners.MedianPruner(4, 2, 2)),
        (HALVING, optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)),
        (HYPERBAND, optuna.pruners.HyperbandPruner(1, EPOCHS, 3)),
    ],
    ids=["median", "halving", "hyperband"],
)
def test_one_at_a_time_is_optunas_own_loop(
    pruner: Pruner, optunas: optuna.pruners.BasePruner, sign: int
) -> None:
    """Except after the last epoch, where Optuna would prune what has been trained to its end."""
    values = scores(24, sign)
    direction = "maximize" if sign > 0 else "minimize"
    study = optuna.create_study(study_name="search", direction=direction, pruner=optunas)
    for row in values:
        trial = study.ask()
        for epoch, value in enumerate(row.tolist(), 1):
            trial.report(value, epoch)
            if epoch < EPOCHS and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, sign * np.nanmax(sign * row))
    found = in_batches(pruner, values, 1, sign)
    assert [len(curve.values) for curve in found] == [t.last_step for t in study.trials]
    assert len({curve.state for curve in found}) == 2


def test_a_batch_is_judged_by_earlier_ones_alone() -> None:
    """By the median of their complete curves, written out; whoever else is in the batch."""
    values, complete, known = scores(24, 1), list[int](), list[Curve]()
    for first in range(0, 24, 6):
        ends = {}
        for number in range(first, first + 6):
            ends[number] = EPOCHS
            for epoch in range(1, EPOCHS):
                due = epoch >= 2 and epoch % 2 == 0 and len(complete) >= 4
                best = np.nanmax(values[number, :epoch])
                if due and best < np.nanmedian(values[complete, epoch - 1]):
                    ends[number] = epoch
                    break
            alone = judged(Judge(MEDIAN, number, known, 1), values[number].tolist())
            assert len(alone.values) == ends[number]
        known = in_batches(MEDIAN, values[: first + 6], 6, 1)
        complete += [number for number, end in ends.items() if end == EPOCHS]
    assert 4 < len(complete) < 20


def test_nothing_is_pruned_at_its_end_nor_in_the_first_batch() -> None:
    judge = Judge(MEDIAN, 4, [Curve("complete", (1.0,) * EPOCHS)] * 4, 1)
    assert not judge(EPOCHS, 0.0)
    assert judge(2, 0.0)
    search = Search({"lr": LR}, "random", 0, pruner=MEDIAN).and_then([Trial({"lr": 0.1}, ("a",))])
    assert search.batches == (0,)


@pytest.mark.parametrize(
    ("pruner", "trials", "batch", "message"),
    [
        (
            MEDIAN,
            8,
            8,
            "hydra.sweeper.batch=8 is all of hydra.sweeper.trials=8; type hydra.sweeper",
        ),
        (replace(MEDIAN, n_startup_trials=17), 24, 8, "type at most 16"),
        (replace(MEDIAN, n_warmup_epochs=8), 24, 8, "n_warmup_epochs=8: must be at most 7"),
        (replace(HALVING, min_resource=9), 24, 8, "min_resource=9: must be at most 8"),
        (replace(MEDIAN, epochs=1), 24, 8, "trainer.epochs=1 leaves no epoch"),
        (Pruner("medain"), 24, 8, "hydra.sweeper.pruner=medain: no such name; did you mean hydra"),
    ],
)
def test_a_pruner_that_decides_nothing_is_refused(
    pruner: Pruner, trials: int, batch: int, message: str
) -> None:
    def check() -> None:
        pruner.check_name()
        pruner.check_batches(trials, batch)
        pruner.check_epochs()

    with pytest.raises(UserError, match=message):
        check()


def test_a_pruned_run_has_ended_for_its_search_alone() -> None:
    status = {"state": "pruned", "sweep": "search", "attempt": 1, "search": "token"}
    record = RunRecord(status, {"state": "pruned"})
    for rerun in ("none", "failed", "diverged", "all"):
        assert run_dir.keeps(status, rerun, "search", 1, "token")
        assert run_dir.keeps(status, rerun, "search", 2, "token") is (rerun != "all")  # a retry
        assert not run_dir.keeps(status, rerun, "search", 1, "other")  # in the same folder, later
        assert not run_dir.keeps(status, rerun, "search", 1)  # a sweep of the same name
        assert record.reusable(rerun, "another", 1) is None
        assert record.resumes(rerun, "another", 1) is (rerun != "all")


def test_what_was_pruned_is_told_with_its_steps(tmp_path: Path) -> None:
    """Worse for TPE than what is complete, the sooner the worse; never the best."""
    curves = {
        "a": Curve("complete", (0.1, 0.5, 0.4)),
        "b": Curve("complete", (0.3, 0.7)),
        "c": Curve("pruned", (0.2,)),
        "d": Curve("diverged", (0.9,)),
    }
    done = {"state": "complete", "task": "classification", "best_val_accuracy": 0.8}
    results = dict.fromkeys("abcd", done)

    def told(*runs: str) -> Outcome:
        return searches.outcome_of(Trial({}, runs), results, curves)

    assert told("a", "b").steps == pytest.approx((0.2, 0.6))
    assert told("a", "b").value == 0.8
    assert told("b", "c") == Outcome("pruned", None, "accuracy", (0.25,))
    assert told("c", "d") == Outcome("diverged")
    outcomes = [told("a"), told("c"), told("d")]
    assert searches.best_of(outcomes) == 0
    search = Search({"lr": LR}, "tpe", 0, pruner=MEDIAN)
    search = search.and_then([Trial({"lr": 0.1 * n}, ("r",)) for n in (1, 2, 3)])
    searches.write_study(tmp_path, search, outcomes)
    before = (tmp_path / "study.log").read_bytes()
    searches.write_study(tmp_path, search, outcomes)
    assert (tmp_path / "study.log").read_bytes().startswith(before)  # not made anew
    trials = study_in(tmp_path).trials
    assert [t.state for t in trials] == [TrialState.COMPLETE, *[TrialState.PRUNED] * 2]
    assert [t.intermediate_values for t in trials] == [{1: 0.1, 2: 0.5, 3: 0.4}, {1: 0.2}, {}]


def test_a_search_without_a_pruner_is_written_as_before(tmp_path: Path) -> None:
    search = Search({"lr": LR}, "random", 0)
    search.and_then([Trial({"lr": 0.1}, ("a",))]).write(tmp_path)
    plain = json.loads((tmp_path / "search.json").read_text())
    assert plain.keys() == {"space", "sampler", "seed", "trials"}
    search = replace(search, pruner=HALVING).and_then([Trial({"lr": 0.1}, ("a",))])
    search = replace(search, curves={"a": Curve("pruned", (0.1, 0.2))})
    search.write(tmp_path)
    assert searches.read(tmp_path) == search


def test_a_token_is_of_what_a_search_begins_with(tmp_path: Path) -> None:
    """It stays as the search grows, and is empty where nothing is pruned or can be read."""
    trial = Trial({"lr": 0.1}, ("a",))
    search = Search({"lr": LR}, "random", 0, pruner=MEDIAN).and_then([trial])
    grown = search.and_then([Trial({"lr": 0.2}, ("b",))])
    grown = replace(grown, curves={"a": Curve("complete", (0.1,))})
    assert search.token == grown.token != ""
    others = [replace(search, seed=1), replace(search, pruner=HALVING)]
    others.append(replace(search, trials=(Trial({"lr": 0.1}, ("other",)),)))
    assert len({search.token, *(other.token for other in others)}) == 4
    assert searches.token_in(tmp_path) == ""
    grown.write(tmp_path)
    assert searches.token_in(tmp_path) == search.token
    replace(search, pruner=None, batches=()).write(tmp_path)
    assert searches.token_in(tmp_path) == ""
    for damaged in ("{}", "{", '{"space": 3}'):
        (tmp_path / "search.json").write_text(damaged)
        assert searches.token_in(tmp_path) == ""


@pytest.mark.parametrize("written", ["{}", "{", '{"space": 3}'])
def test_a_sweep_is_shown_though_its_search_cannot_be_read(written: str, tmp_path: Path) -> None:
    sweep_on_disk(tmp_path, "shown", ("relu",), 1)
    folder = tmp_path / "sweeps" / "shown"
    (folder / "search.json").write_text(written)
    assert [run.state for run in take_snapshot(folder).runs] == ["complete"]


class Written(Bench):
    """A search whose runs only write their scores, epoch by epoch, as far as they are let."""

    def __init__(self, folder: Path, *, orderly: bool = True) -> None:
        super().__init__(folder, trials=12)
        self.orderly, self.left = orderly, 10**6
        self.search = Search({"lr": LR}, "tpe", 0, pruner=replace(MEDIAN, interval_epochs=1))

    def compose(self, asked: Sequence[Mapping[str, Any]]) -> list[Suggested | UserError]:
        made = []
        for params in asked:
            plain = {"optim": {"lr": params["lr"]}, "paths": {"outputs": str(self.folder)}}
            words = [f"optim.lr={params['lr']}"]
            runs = [resolve.resolve({**plain, "act": {"name": "relu"}, "seed": s}) for s in (0, 1)]
            members = tuple(make_member(run) for run in runs)
            made.append(Suggested(members, (words, words)))
        return list(made)

    def train(self, plan: Plan, end: Callable[..., int]) -> int:
        results = [self.trained_run(member) for member in list(plan.runs.values())[:: self.step]]
        return end(plan, results[:: self.step], None)

    @property
    def step(self) -> int:
        return 1 if self.orderly else -1

    def trained_run(self, member: Member) -> dict[str, Any]:
        judges = judges_in(self.steps.folder)
        assert judges is not None
        known = member.dir.path / "result.json"
        if known.exists():
            result: dict[str, Any] = json.loads(known.read_text())
            return result
        member.dir.path.mkdir(parents=True, exist_ok=True)
        judge, lines = judges(member.run_id, -1), ['{"step":0,"epoch":0.0,"val/loss":9.0}\n']
        state = "complete"
        for epoch in range(1, EPOCHS + 1):
            self.left -= 1
            if not self.left:
                raise Killed
            loss = float(np.float32(loss_of(member, epoch)))
            lines.append(
                f'{{"step":{epoch * 5},"epoch":{epoch}.0,"val/loss":{np.float32(loss)}}}\n'
            )
            if judge and judge(epoch, loss):
                state = "pruned"
                break
        member.dir.metrics.write_text("".join(lines))
        ended = {"run_id": member.run_id, "state": state, "task": "regression"}
        result = {**ended, "best_val_loss": loss_of(member, EPOCHS)}
        known.write_text(json.dumps(result))
        return result

    def go_on(self) -> Search:
        known = searches.read(self.steps.folder)
        plan = read_plan(self.steps.folder) if known else None
        go_on(self.steps, Suggesting(known or self.search, self.trials, 4), plan, Process())
        found = searches.read(self.steps.folder)
        assert found is not None
        return found


def loss_of(member: Member, epoch: int) -> float:
    distance = abs(math.log10(member.config.optim.lr) + 2.5)
    return distance + 0.1 * member.config.seed + 1 / (epoch + distance)


def files_of(bench: Bench) -> dict[str, str]:
    return {
        str(path.relative_to(bench.folder)): path.read_text()
        for path in bench.folder.rglob("*")
        if path.name in ("metrics.jsonl", "search.json")
    }


@pytest.mark.usefixtures("unfinished")
def test_killed_anywhere_a_search_prunes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever order a batch is trained; and if it dies before a batch is written down."""
    whole = Written(tmp_path / "whole")
    search = whole.go_on()
    states = [curve.state for curve in search.curves.values()]
    assert 0 < states.count("pruned") < 24
    assert {*search.curves} == {run for trial in search.trials for run in trial.runs}
    expected = files_of(whole)
    for place, (kill_at, writes) in enumerate([(90, 99), (0, 1), (130, 99)]):
        broken = Written(tmp_path / str(place), orderly=False)
        broken.left = kill_at or 10**6
        with monkeypatch.context() as patch:
            calls, write = iter(range(99)), Search.write

            def fail(
                search: Search, folder: Path, calls: Any = calls, at: int = writes, to: Any = write
            ) -> None:
                if next(calls) == at:
                    raise Killed
                to(search, folder)

            patch.setattr(Search, "write", fail)
            with pytest.raises(Killed):
                broken.go_on()
        broken.left = 10**6
        assert broken.go_on().trials == search.trials
        assert files_of(broken) == expected
    study = study_in(whole.steps.folder)
    assert [t.state for t in study.trials].count(TrialState.PRUNED) >= states.count("pruned") / 2


@pytest.mark.usefixtures("unfinished")
def test_what_others_have_trained_further_changes_no_decision(tmp_path: Path) -> None:
    """Here all was trained to its end before: curves count up to where the pruner ends them."""
    whole = Written(tmp_path / "whole").go_on()
    bench = Written(tmp_path / "known")
    for trial in whole.trials:
        for made in bench.compose([trial.params]):
            assert isinstance(made, Suggested)
            for member in made.members:
                member.dir.path.mkdir(parents=True)
                rows = [(5 * e, e, np.float32(loss_of(member, e))) for e in range(EPOCHS + 1)]
                member.dir.metrics.write_text(
                    "".join(f'{{"step":{s},"epoch":{e},"val/loss":{v}}}\n' for s, e, v in rows)
                )
                ended = {"run_id": member.run_id, "state": "complete", "task": "regression"}
                result = {**ended, "best_val_loss": loss_of(member, EPOCHS)}
                (member.dir.path / "result.json").write_text(json.dumps(result))
    assert bench.go_on() == whole
