"""What a network can learn, by which scores it is judged, and how these are shown. No jax."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Score:
    """A score of a trained network.

    Attributes:
        title: as it is shown, of `test/<name>` after the word test.
        sign: 1 if larger is better, -1 if smaller is.
        scale: from its own unit to the one that is shown: 100 for shares.
        digits: decimals in a table.
    """

    title: str
    sign: int
    scale: float = 1.0
    digits: int = 5


SCORES: Mapping[str, Score] = {
    "accuracy": Score("accuracy, %", 1, 100.0, 2),
    "balanced_accuracy": Score("balanced accuracy, %", 1, 100.0, 2),
    "exact_match": Score("exact match, %", 1, 100.0, 2),
    "mean_average_precision": Score("mean average precision, %", 1, 100.0, 2),
    "r2": Score("R²", 1),
    "loss": Score("loss", -1),
    "perplexity": Score("perplexity", -1, 1.0, 3),
}


@dataclass(frozen=True)
class TaskScores:
    """The scores of a task.

    Attributes:
        own: the one by which the best epoch is chosen, and verdicts are given.
        right: what the share of right predictions is called, if there are any.
        more: further scores, which aren't means over examples.
        shown: the columns of a table, the most important first.
    """

    own: str
    right: str | None
    more: tuple[str, ...]
    shown: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all scores."""
        return ("loss", *((self.right,) if self.right else ()), *self.more)


TASKS: Mapping[str, TaskScores] = {
    "classification": TaskScores("accuracy", "accuracy", ("balanced_accuracy",), ("accuracy",)),
    "regression": TaskScores("loss", None, ("r2",), ("loss",)),
    "multilabel": TaskScores(
        "mean_average_precision",
        "exact_match",
        ("mean_average_precision",),
        ("mean_average_precision", "exact_match"),
    ),
    "next_token": TaskScores("loss", "accuracy", ("perplexity",), ("loss", "perplexity")),
}


def task_in(summary: Mapping[str, Any]) -> str:
    """Return what a run has learned, by its summary; older ones don't say it."""
    classified = any(summary.get(f"{split}_accuracy") is not None for split in ("test", "best_val"))
    return str(summary.get("task") or ("classification" if classified else "regression"))


def tasks_in(summaries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what runs have learned, in the order of `TASKS`, by their summaries if any."""
    tasks = {task_in(summary) for summary in summaries if summary}
    return [task for task in TASKS if task in tasks]
