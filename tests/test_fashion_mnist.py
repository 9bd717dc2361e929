"""FashionMNIST as it arrives on a fresh machine, and a sweep over it from the shell."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import actsweep
from actsweep import callbacks, data
from actsweep.config import resolve, schema
from actsweep.data import Dataset
from actsweep.runs import run_dir
from actsweep.runs.members import make_member, make_pack, stack_hparams
from actsweep.train import evaluation
from actsweep.train.population import Population
from actsweep.train.setup import task_of

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def fashion() -> Dataset:
    return data.load(schema.DataConfig())


def test_split(fashion: Dataset) -> None:
    assert fashion.train_x.shape == (50_000, 28, 28, 1)
    assert fashion.val_x.shape == (10_000, 28, 28, 1)
    assert np.bincount(fashion.test_y).tolist() == [1000] * 10
    whole = np.bincount(fashion.train_y) + np.bincount(fashion.val_y)
    assert whole.tolist() == [6000] * 10
    assert fashion.train_x.min() * fashion.scale + fashion.offset == -1
    assert fashion.train_x.max() * fashion.scale + fashion.offset == pytest.approx(1)


@pytest.mark.slow
def test_units_of_a_deep_untrained_relu_network_are_silent(fashion: Dataset) -> None:
    """The source tutorial's shape: none in the first layers, over 35 % in each of the last five."""
    plain = {"act": {"name": "relu"}, "depth": {"widths": [256] * 5 + [128] * 5}}
    runs = [resolve.resolve({**plain, "callbacks": {"units": {}}, "seed": s}) for s in range(5)]
    pack = make_pack([make_member(one) for one in runs])
    looks = callbacks.build(runs[0].callbacks)
    population = Population(pack.static, task_of(runs[0], fashion), stack_hparams(pack), looks)
    state = population.init(population.place_sets(fashion, runs[0].trainer, stream=False))
    exact = jax.device_get(
        evaluation.train_set_statistics(population, state.params, state.held, fashion, looks)
    )
    silent = [exact[f"exact_silent_frac/hidden_{i}"][:5].mean() for i in range(1, 11)]
    assert silent[0] == 0
    assert max(silent[:2]) < 0.005
    assert min(silent[5:]) > 0.35


@pytest.mark.slow
def test_a_sweep_from_the_shell(tmp_path: Path) -> None:
    words = ["-m", "act=relu,elu", "seed=0,1", "trainer.epochs=1", f"paths.outputs={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "train.py", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy, %" in done.stdout
    assert "wandb sync" in done.stdout
    (sweep,) = (tmp_path / "sweeps").iterdir()
    rows = run_dir.read_members_csv(sweep)
    assert [(row["act"], row["seed"]) for row in rows] == [
        ("relu", 0),
        ("relu", 1),
        ("elu", 0),
        ("elu", 1),
    ]
    for row in rows:
        run = actsweep.load_run(tmp_path / "runs" / row["run_id"])
        assert run.status["state"] == "complete"
        assert run.summary["test_accuracy"] > 0.65
        assert len(list(run.folder.wandb.glob("offline-run-*/*.wandb"))) == 1
