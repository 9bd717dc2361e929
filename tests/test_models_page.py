"""Every line of docs/models.md runs, and its model learns something."""

import itertools
import re
import shlex
from pathlib import Path

import jax
import pytest
from hydra import compose, initialize_config_dir
from test_app import logging_as_before  # noqa: F401
from test_architectures import describe

import actsweep
from actsweep.config import resolve, validate
from actsweep.config.overrides import expand, for_hydra
from actsweep.nn.network import Task

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "models.md").read_text()
LINES = re.findall(r"^python train.py (.*)$", PAGE, flags=re.M)
TRAINED = [line for line in LINES if "data=digits" in line or "data=pydocs" in line]
FASHION_MNIST = Task((28, 28, 1), 10, 10, 1 / 255, 0.0, 100)


def test_the_page_has_every_model():
    from actsweep.config.schema import MODELS

    for name, options in MODELS.items():
        assert f"model={name}" in PAGE
        for option in options:
            assert f"`model.{option}`" in PAGE
    assert len(TRAINED) == 12


@pytest.mark.parametrize("line", [line for line in LINES if line not in TRAINED])
def test_each_other_line_can_be_trained(line):
    """Composed and checked, as it is typed, every value of a list; and its network is built."""
    resolve.register()
    words = [values(word) for word in shlex.split(line.removeprefix("-m "))]
    with (
        initialize_config_dir(str(ROOT / "conf"), version_base="1.3"),
        jax.numpy_dtype_promotion("standard"),  # flax's average pooling
    ):
        for combination in itertools.product(*words):
            run = resolve.resolve(compose("config", overrides=for_hydra([*combination])))
            validate.check(run)
            network = describe(run, FASHION_MNIST)
            assert len(network.layers) >= len(run.depth.widths)


def values(word: str) -> list[str]:
    """A word for each value of a list; `{…}` is no list."""
    name, _, value = word.partition("=")
    return [word] if "{" in value else [f"{name}={one}" for one in value.split(",")]


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize("line", TRAINED)
def test_each_model_learns(line, tmp_path):
    """Far above chance: 10 % of digits, and a perplexity of some 25 of a text's characters.

    Without diagnostics: test_architectures.py and test_models.py train every model with all.
    """
    epochs = 3 if "digits model=cnn" in line and "norm" not in line else 2
    words = (*shlex.split(line), "logger=disabled", f"trainer.epochs={epochs}", "callbacks=none")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        summary = actsweep.train(*words, outputs=tmp_path).summary
    if "pydocs" in line:
        assert summary["test_perplexity"] < 10
    else:
        assert summary["test_accuracy"] > 0.5


@pytest.mark.parametrize(
    ("words", "model", "widths", "optim"),
    [
        (["model=resnet56"], "resnet", [16] * 56, "sgd"),
        (["model=gpt_small", "data=pydocs"], "transformer", [768] * 12, "adamw"),
        (["model=resnet", "depth=20"], "resnet", [16] * 20, "sgd"),
        (
            ["model=transformer", "depth=2", "depth.width=32", "optim=sgd"],
            "transformer",
            [32] * 2,
            "sgd",
        ),
        (["model=rnn"], "rnn", [128], "adam"),
        (["model=mlp", "depth=uniform"], "mlp", [256] * 4, "sgd"),
        (["model=cnn"], "cnn", [256], "sgd"),
    ],
)
def test_what_is_typed_decides_over_what_a_model_brings(words, model, widths, optim):
    resolve.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        run = resolve.resolve(
            compose("config", overrides=[part for word in words for part in expand(word)])
        )
    assert (run.model.name, run.depth.widths, run.optim.name) == (model, widths, optim)
    assert run.model.heads == (12 if "model=gpt_small" in words else None)
