"""Gradients in less memory: averaged over parts of a batch that follow each other."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_architectures import TRAINED, config
from test_resume import what_is_left
from test_run import LIGHT, run_pack

from actsweep import load_run
from actsweep.config import identity, validate
from actsweep.runs.members import make_member, make_pack
from actsweep.train import memory
from actsweep.train.gradient import gradient_of
from actsweep.train.pack import set_up
from actsweep.train.types import SweepContext
from actsweep.utils.errors import UserError

MODEL, LAYERS, WIDTH = TRAINED["mlp"]


def trained(outputs: Path, seeds: tuple[int, ...] = (0,), **trainer: Any) -> list[Any]:
    """Runs of an MLP with batch normalisation, skips and dropout, or of what `model` says."""
    model = trainer.pop("model", MODEL)
    settings = {"epochs": 2, "batch_size": 64, "probe_examples": 64, **trainer}
    runs = [
        config(outputs, model, LAYERS, WIDTH, seed=seed, callbacks=LIGHT, trainer=settings)
        for seed in seeds
    ]
    results = run_pack(runs, SweepContext("sweep"))
    assert [result["state"] for result in results] == ["complete"] * len(runs)
    return runs


def parameters(run: Any) -> dict[str, np.ndarray]:
    return load_run(make_member(run).dir.path).parameters("last")[0]


def test_parts_are_averaged_and_follow_each_other() -> None:
    """By hand: a linear model whose state is a running mean, whose noise is drawn by part."""

    def mean_loss(params: Any, held: Any, x: Any, y: Any, key: Any) -> Any:
        noise = jax.random.normal(key)
        error = x @ params + noise - y
        kept = (held[0], 0.5 * held[1] + 0.5 * jnp.mean(x))
        return jnp.mean(error**2), (jnp.mean((error < 0).astype(jnp.float32)), kept)

    rng = np.random.default_rng(0)
    w, x, y = (rng.normal(size=n).astype(np.float32) for n in ((3,), (8, 3), (8,)))
    key = jax.random.key(5)
    gradient = gradient_of(mean_loss, 4)
    (loss, (right, (first, state))), grad = jax.jit(gradient)(w, (7.0, jnp.float32(2.0)), x, y, key)
    losses, rights, grads, mean = [], [], [], 2.0
    for part in range(4):
        rows = slice(2 * part, 2 * part + 2)
        noise = float(jax.random.normal(jax.random.fold_in(key, part)))
        error = x[rows] @ w + noise - y[rows]
        losses.append(np.mean(error**2))
        rights.append(np.mean(error < 0))
        grads.append(2 * x[rows].T @ error / 2)
        mean = 0.5 * mean + 0.5 * x[rows].mean()
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-6)
    np.testing.assert_allclose(right, np.mean(rights))
    np.testing.assert_allclose(grad, np.mean(grads, axis=0), rtol=1e-5)
    np.testing.assert_allclose(state, mean, rtol=1e-6)
    assert first == 7.0


def test_without_norms_and_noise_parts_change_nothing_but_rounding(tmp_path: Path) -> None:
    plain = {"name": "mlp"}
    (whole,) = trained(tmp_path / "whole", model=plain)
    (parts,) = trained(tmp_path / "parts", model=plain, accumulate=4)
    theirs = jax.tree.leaves(parameters(whole))
    for ours, other in zip(jax.tree.leaves(parameters(parts)), theirs, strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-4, atol=1e-6)
        assert ours.any()
    rows = [load_run(make_member(run).dir.path).metrics() for run in (whole, parts)]
    np.testing.assert_allclose(rows[0]["train/loss"], rows[1]["train/loss"], rtol=1e-5)


def test_parts_need_less_memory(tmp_path: Path) -> None:
    """The bytes that XLA plans for a training step."""

    def need(**trainer: Any) -> int:
        settings = {"epochs": 2, "batch_size": 512, **trainer}
        model = {"name": "mlp", "norm": "layer", "dropout": 0.1}
        run = config(tmp_path, model, 4, 64, callbacks={}, trainer=settings, act={"name": "gelu"})
        prepared = set_up(make_pack([make_member(run)]))
        p, data = prepared.memory.population, prepared.data
        state = memory._abstract(p.state_shapes(), memory.MEMBER, p)
        batches = memory._batches(p, prepared.pack.static, data, {})
        number = jax.ShapeDtypeStruct((), jnp.int32)
        span = memory.Span(*[number] * 4)
        program = p.train_chunk.lower(state, p.hparams, batches, prepared.memory.sets.train, span)
        return program.compile().memory_analysis().temp_size_in_bytes

    assert need(accumulate=4) < 0.4 * need()


@pytest.mark.usefixtures("compiled_once")
def test_alone_and_in_a_pack_a_member_is_the_same(tmp_path: Path) -> None:
    """Running averages and dropout too."""
    runs = {
        where: [
            config(
                tmp_path / where,
                *TRAINED["mlp"],
                seed=seed,
                callbacks={**LIGHT, "histograms": {}},
                trainer={"epochs": 2, "batch_size": 64, "probe_examples": 64, "accumulate": 4},
            )
            for seed in (0, 1)
        ]
        for where in ("alone", "packed")
    }
    for run in runs["alone"]:
        run_pack([run], SweepContext("sweep"))
    run_pack(runs["packed"], SweepContext("sweep"))
    for one, other in zip(*runs.values(), strict=True):
        assert what_is_left(one) == what_is_left(other)


def test_parts_count_towards_the_id(tmp_path: Path) -> None:
    settings = ({}, {"accumulate": 1}, {"accumulate": 2}, {"accumulate": 4})
    ids = [
        identity.run_id(config(tmp_path, MODEL, LAYERS, WIDTH, trainer={"epochs": 2, **trainer}))
        for trainer in settings
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"accumulate": 0}, "trainer.accumulate=0: must be a number of at least 1"),
        (
            {"accumulate": 3, "batch_size": 64},
            "trainer.accumulate=3: must be a divisor of trainer.batch_size=64; "
            "type for example trainer.accumulate=1",
        ),
        (
            {"accumulate": 4, "batch_size": 6, "mesh": {"data": 3}},
            "trainer.accumulate=4: must be a divisor of trainer.batch_size=6, each device's of 3",
        ),
    ],
)
def test_what_is_refused(trainer: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        validate.check(config(tmp_path, MODEL, LAYERS, WIDTH, trainer=trainer))
    assert str(refused.value).startswith(message)
