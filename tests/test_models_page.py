"""Every line of docs/models.md runs, and its model learns something."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from actsweep.config import resolve
from actsweep.config.overrides import expand

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "models.md").read_text()
LINES = re.findall(r"^python train.py (.*)$", PAGE, flags=re.M)
TRAINED = [line for line in LINES if "data=digits" in line or "data=pydocs" in line]
NO_CALLBACKS = "callbacks=none"
OBSERVED = {re.findall(r"model=\w+", line)[0]: line for line in reversed(TRAINED)}
"""The first line of each model, trained with the default callbacks; the others without, since to
compile diagnostics takes longer than all else."""


def test_the_page_has_every_model():
    from actsweep.config.schema import MODELS

    for name, options in MODELS.items():
        assert f"model={name}" in PAGE
        for option in options:
            assert f"`model.{option}`" in PAGE
    assert len(TRAINED) == 12


@pytest.mark.parametrize("line", [line for line in LINES if line not in TRAINED])
def test_each_other_line_can_be_planned(line, tmp_path):
    """Composed and checked, as it is typed."""
    done = run(
        line, f"paths.outputs={tmp_path}", "pack.plan=true", "trainer.epochs=1", NO_CALLBACKS
    )
    assert done.returncode == 0, done.stderr
    assert not [*tmp_path.glob("runs/*")]


@pytest.mark.parametrize("line", TRAINED)
def test_each_model_learns(line, tmp_path):
    """Far above chance: 10 % of digits, and a perplexity of some 25 of a text's characters."""
    light = () if line in OBSERVED.values() else (NO_CALLBACKS,)
    epochs = 2 if "data=pydocs model=transformer" in line else 3  # by far the longest
    words = (f"paths.outputs={tmp_path}", "logger=disabled", f"trainer.epochs={epochs}", *light)
    done = run(line, *words)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("runs/*/summary.json")
    summary = json.loads(file.read_text())
    if "pydocs" in line:
        assert summary["test_perplexity"] < 10
    else:
        assert summary["test_accuracy"] > 0.5


def run(line: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Type a line. What is only planned is compiled fast; convolutions that train would be slow."""
    command = [sys.executable, "train.py", *shlex.split(line), *words]
    fast = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "true"} if "pack.plan=true" in words else {}
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **fast}, capture_output=True, text=True, check=False
    )


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
