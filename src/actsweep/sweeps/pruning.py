"""Pruning of a search's runs: what is typed, and Optuna's own decision, epoch by epoch. No jax."""

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from actsweep.utils.errors import UserError, bad_value, unknown_name

PRUNERS = ("none", "median", "halving", "hyperband")
STUDY = "search"
"""Name of the studies; Optuna's Hyperband deals trials out to its brackets by it."""
COMPLETE, DIVERGED, FAILED, PRUNED = "complete", "diverged", "failed", "pruned"
_PATH = "hydra.sweeper."


@dataclass(frozen=True)
class Pruner:
    """Which of Optuna's pruners ends runs on the way, and its settings.

    Attributes:
        name: one of `PRUNERS` but `none`.
        n_startup_trials: of `median`: complete trials without which nothing is pruned.
        n_warmup_epochs: of `median`: first epochs in which nothing is pruned.
        interval_epochs: of `median`: epochs from one decision to the next.
        min_resource: of `halving` and `hyperband`: the epoch of the first decision.
        reduction_factor: of both: one in so many goes on, and decisions are so many times later.
        epochs: epochs of a whole run.
    """

    name: str
    n_startup_trials: int = 5
    n_warmup_epochs: int = 0
    interval_epochs: int = 1
    min_resource: int = 1
    reduction_factor: int = 3
    epochs: int = 0

    def check_name(self) -> None:
        """Check the name.

        Raises:
            UserError: there is no such pruner.
        """
        if self.name not in PRUNERS:
            raise unknown_name(f"{_PATH}pruner", self.name, PRUNERS)

    def check_batches(self, trials: int, batch: int) -> None:
        """Check that a trial will be judged at all.

        Raises:
            UserError: no trial has so many earlier ones.
        """
        typed = f"{_PATH}pruner={self.name}"
        earlier = (trials - 1) // batch * batch
        if not earlier:
            raise UserError(
                f"{typed}: judges trials by those of earlier batches, and {_PATH}batch={batch} is "
                f"all of {_PATH}trials={trials}; type {_PATH}batch={max(1, trials // 4)}, or leave "
                "it out"
            )
        if self.name == "median" and self.n_startup_trials > earlier:
            raise UserError(
                f"{_PATH}n_startup_trials={self.n_startup_trials}: nothing would be pruned, since "
                f"the last batch has {earlier} earlier trials; type at most {earlier}"
            )

    def check_epochs(self) -> None:
        """Check that a decision comes before a run has been trained to its end.

        Raises:
            UserError: none does.
        """
        key = "n_warmup_epochs" if self.name == "median" else "min_resource"
        value, most = getattr(self, key), self.epochs - (2 if self.name == "median" else 1)
        if value <= most:
            return
        least = 0 if self.name == "median" else 1
        if most < least:
            raise UserError(
                f"{_PATH}pruner={self.name}: trainer.epochs={self.epochs} leaves no epoch in which "
                "a run could be pruned; type more epochs, or leave the pruner out"
            )
        what = f"at most {most}, since trainer.epochs={self.epochs}"
        raise bad_value(f"{_PATH}{key}", value, what, f"{_PATH}{key}={most}")

    def made(self) -> Any:
        """Return Optuna's pruner."""
        from optuna import pruners

        halving = {"min_resource": self.min_resource, "reduction_factor": self.reduction_factor}
        if self.name == "median":
            return pruners.MedianPruner(
                self.n_startup_trials, self.n_warmup_epochs + 1, self.interval_epochs
            )
        if self.name == "halving":
            return pruners.SuccessiveHalvingPruner(**halving)
        return pruners.HyperbandPruner(max_resource=self.epochs, **halving)


@dataclass(frozen=True)
class Curve:
    """What a search has seen of a run: its score in validation after epochs 1, 2, …

    Attributes:
        state: `complete`, `diverged`, `pruned` or `failed`.
        values: up to the run's end, or to the epoch at which it was pruned.
    """

    state: str
    values: tuple[float, ...] = ()


class Judge:
    """Optuna's decision for one run, which is told the epochs in order.

    A run is judged by runs of earlier batches alone, those of its own seed. So the decision is the
    same in whichever pack, job or order the runs of a batch are trained.

    Args:
        pruner: which.
        number: of the run's trial; Hyperband's bracket follows from it.
        earlier: the curves of the trials before its batch, in order.
        sign: 1 where a larger score is better, -1 where a smaller one is.
    """

    def __init__(self, pruner: Pruner, number: int, earlier: Sequence[Curve], sign: int) -> None:
        from optuna.trial import TrialState, create_trial

        self._epochs = pruner.epochs
        study = _study(pruner, sign)
        with quiet():
            study.add_trials(_seen(pruner, tuple(earlier), sign))
            # Those of its own batch tell nothing; they only count.
            others = number - len(earlier)
            study.add_trials([create_trial(state=TrialState.FAIL) for _ in range(others)])
            self._trial = study.ask()

    def __call__(self, epoch: int, value: float) -> bool:
        """Return whether the run is pruned after an epoch; after its last one it isn't.

        Args:
            epoch: from 1 on.
            value: its score in validation.
        """
        if epoch >= self._epochs:
            return False
        self._trial.report(value, epoch)
        return bool(self._trial.should_prune())


def _study(pruner: Pruner, sign: int) -> Any:
    import optuna

    direction: Literal["minimize", "maximize"] = "maximize" if sign > 0 else "minimize"
    with quiet():
        return optuna.create_study(
            sampler=optuna.samplers.RandomSampler(seed=0),  # nothing is sampled
            pruner=pruner.made(),
            study_name=STUDY,
            direction=direction,
        )


@functools.lru_cache(maxsize=8)
def _seen(pruner: Pruner, curves: tuple[Curve, ...], sign: int) -> Sequence[Any]:
    """Return trials with these curves as Optuna would have kept them, with the rungs reached."""
    from optuna.trial import TrialState

    study = _study(pruner, sign)
    states = {COMPLETE: TrialState.COMPLETE, FAILED: TrialState.FAIL}
    for curve in curves:
        trial = study.ask()
        for epoch, value in enumerate(curve.values, 1):
            trial.report(value, epoch)
            if pruner.name != "median":
                trial.should_prune()  # keeps the value at each rung; the run has gone on anyway
        state = states.get(curve.state, TrialState.PRUNED)
        known = [value for value in curve.values if not math.isnan(value)]
        if state == TrialState.COMPLETE and not known:
            state = TrialState.FAIL
        best = (max if sign > 0 else min)(known) if state == TrialState.COMPLETE else None
        study.tell(trial, best, state)
    trials: Sequence[Any] = study.get_trials()
    return trials


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna's own lines, and warnings that a part is experimental, off the terminal."""
    import warnings

    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
