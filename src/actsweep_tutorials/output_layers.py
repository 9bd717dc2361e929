"""output-layers: sigmoid, softmax or a linear output, by the task and its labels. (S1, S4)

A small network on digits, of which one class of ten holds; on properties of digits, of which
several hold together; and on the progress of diabetes, a quantity. Beside the output that the
sources advise stand others. All outputs of a task are judged by one score on the same test
examples, each with the learning rate that validation chooses for it, with seeds of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from actsweep.report import colours, plotting
from actsweep.report.design import Entry
from actsweep.runs.load import load_run
from actsweep.utils.errors import unknown_name
from actsweep_tutorials.base import Experiment, Params, Quantities, Table
from actsweep_tutorials.pairs import compare_pairs, draw_group, interval_text, told
from actsweep_tutorials.tuning import train_tuned

MARGIN = 1.0  # points that don't matter: four of the test images, or 1 % of the variance
FACTOR = "model.options.output"
WORDS = (
    "model.name=output",
    "model._target_=actsweep_tutorials.output_mlp.OutputMLP",
    "depth=1",
    "depth.width=32",
    "data=npz",
    "data.standardize=false",
    "optim=adam",
    "trainer.batch_size=64",
    "trainer.patience=null",
    "callbacks=none",
    "logger=disabled",
    "logger.report=false",
)
Score = Callable[[np.ndarray, np.ndarray], float]


def right_class(outputs: np.ndarray, y: np.ndarray) -> float:
    """Return of how many examples the largest output is the class's, %."""
    classes = y if y.ndim == 1 else y.argmax(axis=1)
    return 100 * float(np.mean(outputs.argmax(axis=1) == classes))


def right_labels(threshold: float) -> Score:
    """Return the score: of how many examples just the labels that hold are above it, %."""
    return lambda outputs, y: 100 * float(np.mean(np.all((outputs > threshold) == (y > 0), axis=1)))


def explained(outputs: np.ndarray, y: np.ndarray) -> float:
    """Return the share of the variance that is explained, %: 100 R²."""
    return 100 * (1 - float(np.sum((outputs - y) ** 2) / np.sum((y - y.mean(axis=0)) ** 2)))


@dataclass(frozen=True)
class Training:
    """A sweep over outputs that share a target and a loss.

    Attributes:
        target: the array of the task's file.
        task: as `data.task`, which decides the loss.
        outputs: functions behind the last layer, by what they are called.
        score: how they are judged.
    """

    target: str
    task: str
    outputs: Mapping[str, str]
    score: Score


@dataclass(frozen=True)
class Task:
    """A task: what is learned, its file, how its score is called, and how it is trained."""

    title: str
    file: str
    score: str
    trainings: Sequence[Training]


SQUASHED = {output: output for output in ("linear", "sigmoid", "tanh", "relu")}
TASKS: Mapping[str, Task] = {
    "exclusive": Task(
        "one class of ten",
        "digits",
        "right classes, %",
        (
            Training(
                "digit",
                "classification",
                {"softmax": "linear", "sigmoids over their sum": "log_sigmoid"},
                right_class,
            ),
            Training("one_hot", "multilabel", {"sigmoid": "linear"}, right_class),
            Training("one_hot", "regression", {"linear": "linear"}, right_class),
        ),
    ),
    "multilabel": Task(
        "four labels that can hold together",
        "digits",
        "all labels right, %",
        (
            Training(
                "labels",
                "multilabel",
                {"sigmoid": "linear", "softmax": "log_odds"},
                right_labels(0.0),
            ),
            Training("labels", "regression", {"linear": "linear"}, right_labels(0.5)),
        ),
    ),
    "quantity": Task(
        "a quantity of mean 0 and deviation 1",
        "diabetes",
        "100 R²",
        (Training("standardised", "regression", SQUASHED, explained),),
    ),
    "quantity-0-to-1": Task(
        "a quantity from 0 to 1",
        "diabetes",
        "100 R²",
        (Training("from_0_to_1", "regression", SQUASHED, explained),),
    ),
}


def write_data(folder: Path) -> None:
    """Write digits.npz and diabetes.npz: scikit-learn's sets, each with several targets.

    The properties of a digit are: odd, prime, at least 5, drawn with a loop (0, 6, 8, 9).
    """
    from sklearn.datasets import load_diabetes, load_digits

    folder.mkdir(parents=True, exist_ok=True)
    x, digit = load_digits(return_X_y=True)
    properties = (
        digit % 2 == 1,
        np.isin(digit, (2, 3, 5, 7)),
        digit >= 5,
        np.isin(digit, (0, 6, 8, 9)),
    )
    np.savez(
        folder / "digits.npz",
        x=(x / 16).astype(np.float32),
        digit=digit,
        one_hot=np.eye(10, dtype=np.int64)[digit],
        labels=np.stack(properties, axis=1).astype(np.int64),
    )
    x, y = load_diabetes(return_X_y=True)
    np.savez(
        folder / "diabetes.npz",
        x=((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32),
        standardised=((y - y.mean()) / y.std()).astype(np.float32),
        from_0_to_1=((y - y.min()) / np.ptp(y)).astype(np.float32),
    )


def measure(params: Params) -> Quantities:
    """Return by task each output's learning rate and scores by seed, and their comparison.

    Raises:
        UserError: an unknown task.
        TrainingStopped: as `train_sweep`.
    """
    for name in params["task"]:
        if name not in TASKS:
            raise unknown_name("task", name, TASKS)
    folder = Path(params["outputs"]).absolute() / "experiments" / "output-layers" / "data"
    write_data(folder)
    tasks = {}
    for name in params["task"]:
        outputs: dict[str, Any] = {}
        for training in TASKS[name].trainings:
            outputs |= _train(training, folder / f"{TASKS[name].file}.npz", params)
        tasks[name] = {"outputs": outputs}
    return {"tasks": tasks, "lr": params["lr"]}


def _train(training: Training, file: Path, params: Params) -> dict[str, Any]:
    """Return by output the rate that was chosen and what became of each seed with it."""
    words = (
        *WORDS,
        f"data.path={file}",
        f"data.target={training.target}",
        f"data.task={training.task}",
        f"trainer.epochs={params['epochs']}",
    )
    seeds = (params["seeds"], params["tuning_seeds"])
    outputs = [*training.outputs.values()]
    tuned = train_tuned(words, (f"++{FACTOR}", FACTOR), outputs, seeds, params)
    return {
        name: {
            "lr": tuned.rates[output],
            "seeds": [
                _seed(entry, training.score)
                for entry in tuned.entries
                if entry.config["model"]["options"]["output"] == output
            ],
        }
        for name, output in training.outputs.items()
    }


def _seed(entry: Entry, score: Score) -> dict[str, Any]:
    """Return a run's state, whether it stayed at chance, and its score on the test examples."""
    value = None
    if entry.state == "complete":
        run = load_run(entry.run.path)
        examples = run.dataset()
        value = score(np.asarray(run.logits(examples.test_x)), np.asarray(examples.test_y))
    return {
        "seed": entry.config["seed"],
        "state": entry.state,
        "at_chance": entry.summary.get("at_chance"),
        "score": value,
    }


def scores(output: Mapping[str, Any]) -> dict[int, float]:
    """Return the score of each seed that learned something, %."""
    return {
        seed["seed"]: seed["score"]
        for seed in output["seeds"]
        if seed["state"] == "complete" and not seed["at_chance"]
    }


def _compare(outputs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Compare the outputs of a task in pairs."""
    trained = {name: [s["seed"] for s in output["seeds"]] for name, output in outputs.items()}
    values = {name: scores(output) for name, output in outputs.items()}
    return compare_pairs(values, trained, MARGIN)


def draw(result: Quantities) -> Mapping[str, Figure]:
    """Draw each task's scores by output."""
    tasks = result["tasks"]
    figure, flat = plotting.panels(len(tasks), 2, width=4.2, height=3, share=False)
    for axes, (task, found) in zip(flat, tasks.items(), strict=True):
        ticks = []
        for place, (name, output) in enumerate(found["outputs"].items()):
            values = scores(output)
            draw_group(axes, place, [*values.values()], colours.BLUE)
            ticks.append(f"{name}\n{len(values)} of {len(output['seeds'])}")
        axes.set_xticks(range(len(ticks)), ticks, fontsize=8)
        axes.set_title(TASKS[task].title)
        axes.set_ylabel(TASKS[task].score)
    return {"scores": figure}


def tables(result: Quantities) -> Sequence[Table]:
    """Return a table a task: the rates, the scores, and who is told from whom."""
    made = []
    for task, found in result["tasks"].items():
        rows, pairs = [], _compare(found["outputs"])
        for name, output in found["outputs"].items():
            values = [*scores(output).values()]
            count = f"{len(values)} of {len(output['seeds'])}"
            rows.append([name, output["lr"], interval_text(values), count, *told(pairs, name)])
        score = f"{TASKS[task].score}: mean ± 95 %"
        heading = ("output", "lr", score, "learned", "better than", "equivalent to")
        made.append(Table(f"{task}: {TASKS[task].title}", heading, rows))
    return made


EXPERIMENT = Experiment(
    "output-layers",
    "Sigmoid, softmax or a linear output: does it matter for exclusive classes, for labels that "
    "hold together, for quantities?",
    "S1, S4",
    measure,
    draw,
    tables,
    {
        "task": tuple(TASKS),
        "seeds": 10,
        "tuning_seeds": 2,
        "lr": (0.001, 0.003, 0.01, 0.03, 0.1),
        "epochs": 20,
    },
    quick=None,
    trains=True,
)
