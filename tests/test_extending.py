"""docs/extending.md, run as it stands: its files are written to a folder, its commands are typed.

Two of its four commands train: the callback's, on the activation, and the model's, on the data
set. The commands of the activation and of the data set alone are only planned. What each extension
did is recomputed in NumPy from what the runs left.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from flax import nnx

from actsweep import callbacks, load_run
from actsweep.runs.load import Run

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text()
NORM = ("mean", "var", "scale", "bias")
FILES = {
    "my_activations.py",
    "my_callbacks.py",
    "my_data.py",
    "my_models.py",
    "conf/act/bent.yaml",
    "conf/callbacks/mine.yaml",
    "conf/data/rings.yaml",
    "conf/model/residual.yaml",
}


def blocks(language: str, text: str = PAGE) -> list[str]:
    """The page's fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def command(title: str) -> str:
    """The one command in the section of that title."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    (block,) = blocks("bash", section)
    return block.strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's own folder, `$MY`: every block whose first line is a comment with its name."""
    folder = tmp_path_factory.mktemp("my")
    written = set()
    for block in blocks("python") + blocks("yaml"):
        name = re.match(r"# ([\w/]+\.(py|yaml))\n", block)
        if name:
            path = folder / name[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block)
            written.add(name[1])
    assert written == FILES
    return folder


@pytest.fixture(autouse=True)
def environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`load_run` needs the folder on the path, as the page says; the user's cache is left alone."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("MY", str(folder))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder.parent / "xla"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def type_in(line: str) -> str:
    """Type a command in the repository's root; return what it printed."""
    process = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, f"{line}\n{process.stdout}\n{process.stderr}"
    return process.stdout


def plan(title: str) -> list[str]:
    """The packs that a section's command would train."""
    return type_in(f"{command(title)} pack.plan=true paths.outputs=$MY/outputs").splitlines()


def train(title: str, outputs: Path) -> list[Run]:
    """Run a section's command; the runs that it left, all of them complete."""
    type_in(f"{command(title)} paths.outputs={outputs}")
    runs = [load_run(path) for path in sorted((outputs / "runs").iterdir())]
    assert [run.status["state"] for run in runs] == ["complete"] * len(runs)
    return runs


def affine(x: np.ndarray, layer: Any) -> np.ndarray:
    return x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])


def weights(model: nnx.Module, layer: str) -> tuple[np.ndarray, np.ndarray]:
    network: Any = model
    dense = network.layers[layer]
    return np.asarray(dense.kernel[...]), np.asarray(dense.bias[...])


def test_parameter_of_an_activation_is_packed() -> None:
    planned = plan("An activation")
    assert planned[0].startswith("pack 0: 2 runs, 2 at once; ")
    assert all(line.startswith("  bent-mlp2-torch-s0-") for line in planned[1:3])


def test_activation_is_trained_with_and_callback_stops_one_member(tmp_path: Path) -> None:
    runs = train("A callback", tmp_path)
    calm, wild = sorted(runs, key=lambda run: run.config.optim.lr)

    pixels = np.arange(2 * 64, dtype=np.uint8).reshape(2, 8, 8, 1) % 17
    for run in runs:
        assert run.folder.run_id.startswith("bent-mlp1-")
        kernel, bias = weights(run.model(), "hidden_1")
        z = (pixels.reshape(2, 64) / 8 - 1) @ kernel + bias
        a = z + 0.1 * (np.sqrt(z**2 + 1) - 1)
        kernel, bias = weights(run.model(), "head")
        np.testing.assert_allclose(run.logits(pixels), a @ kernel + bias, rtol=1e-4, atol=1e-4)

    assert calm.summary["epochs"] == 5
    assert not calm.folder.messages.exists()
    for layer in ("hidden_1", "head"):
        measured = calm.metrics()[f"weight_norm/{layer}"]
        last = np.linalg.norm(weights(calm.model("last"), layer)[0])
        assert measured.shape == (6,)
        np.testing.assert_allclose(measured[-1], last, rtol=1e-5)

    growth = wild.metrics()["weight_norm/head"] / wild.metrics()["weight_norm/head"][0]
    assert 2 < growth[1] < 3.5 < growth[2]
    assert wild.summary["epochs"] == 3  # one chunk, here an epoch, beyond the row that stopped it
    assert wild.summary["test_accuracy"] is not None
    messages = wild.folder.messages.read_text().splitlines()
    assert messages[0] == f"epoch 1: weight_norm/head has grown {growth[1]:.1f}-fold"
    assert messages[1] == f"epoch 2: weight_norm/head has grown {growth[2]:.1f}-fold: stopped"


def test_callback_joins_the_others_by_yaml() -> None:
    typed = "PYTHONPATH=$MY python train.py --config-dir $MY/conf callbacks=mine --cfg job"
    composed = yaml.safe_load(type_in(typed))["callbacks"]
    default = yaml.safe_load((ROOT / "conf" / "callbacks" / "default.yaml").read_text())
    built = callbacks.build(composed)
    assert set(built) == {*default, "weight_norm"}
    assert built["weight_norm"].hook is not None


@pytest.mark.slow
def test_data_set_command_composes() -> None:
    assert plan("A data set")[1].startswith("  relu-mlp4-torch-s0-")


@pytest.mark.slow
def test_data_set_and_model_are_what_was_trained(tmp_path: Path) -> None:
    (run,) = train("A model", tmp_path)
    assert run.folder.run_id.startswith("relu-residual2-")
    assert (run.config.data.name, run.config.model.name) == ("rings", "residual")

    from my_data import rings

    data = rings(rings=4, examples=600)
    a, model = data.test_x, run.model()
    for place, block in enumerate(model.blocks):
        norm = {key: np.asarray(getattr(block.norm, key)[...]) for key in NORM}
        z = affine(a, block.dense) - norm["mean"]
        z = z / np.sqrt(norm["var"] + 1e-5) * norm["scale"] + norm["bias"]
        out = np.maximum(z, 0)
        a = a + 0.5 * out if place else out  # the first one changes the width
    logits = affine(a, model.head)
    assert logits.shape == (200, 4)
    np.testing.assert_allclose(run.logits(data.test_x), logits, rtol=1e-4, atol=1e-5)
    right = float(np.mean(np.argmax(logits, axis=1) == data.test_y))
    assert run.summary["test_accuracy"] == pytest.approx(right, abs=0.006)  # one example of 200
    metrics = run.metrics()
    for name in ("grad_norm/blocks.1.dense", "update_ratio/head", "exact_dead_frac/blocks.1"):
        assert np.isfinite(metrics[name][[0, -1]]).all(), name
