"""A run-epoch of each model in a pack, beside the same network in a plain loop."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from actsweep.nn.network import Network, split
from actsweep.runs.members import stack_hparams
from benchmarks import baselines
from benchmarks.harness import Result, median, ratio
from benchmarks.rig import DIGITS, Pack, prepare
from benchmarks.speed import members

MODELS: dict[str, tuple[str, ...]] = {
    "mlp, BatchNorm and skips": ("model=mlp", "model.norm=batch", "model.residual=true"),
    "cnn": ("model=cnn",),
    "resnet": ("model=resnet",),
    "transformer": ("model=transformer", "act=gelu"),
    "rnn": ("model=rnn", "act=tanh", "model.cell=gru"),
    "transformer of tokens": ("model=transformer", "act=gelu", "data=pydocs"),
}
FEWER_STEPS: dict[str, tuple[str, ...]] = {
    "fashion_mnist": ("data.val_size=57440",),
    "pydocs": ("data.val_size=0.8",),
}
TOYS = {"mlp, BatchNorm and skips": "depth.widths=[4,4]", "rnn": "depth.width=4"}
RULES: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": partial(optax.sgd, momentum=baselines.MOMENTUM),
    "adam": optax.adam,
    "adamw": partial(optax.adamw, weight_decay=0.01),
}


def architectures(rounds: int, toy: bool) -> Result:
    """Seconds of a run-epoch of each model, diagnostics and W&B on, against a plain loop's."""
    size, figures, seconds = members(), [], {}
    for name, words in MODELS.items():
        if toy and name not in TOYS:
            continue
        tokens = "data=pydocs" in words
        small = FEWER_STEPS["pydocs" if tokens else "fashion_mnist"]
        small = (*DIGITS, TOYS[name]) if toy else small
        pack = Pack(prepare(size, *words, *small), logged=True)
        took = baselines.rotate({"pack": pack.train_and_probe, "plain": plain_loop(pack)}, rounds)
        pack.close()
        took["pack"] = [spent / size for spent in took["pack"]]
        seconds[name] = {which: median(spent) for which, spent in took.items()}
        figures.append(ratio(f"{name}: run-epoch / plain loop", took["pack"], took["plain"], 1.1))
    return {"members": size, "seconds per run-epoch": seconds, "figures": figures}


def plain_loop(pack: Pack) -> Callable[[], object]:
    """An epoch of the pack's first member: a jitted, donated step, fed by NumPy."""
    prepared = pack.prepared
    config, data = prepared.pack.static, prepared.data
    hparams = {key: jnp.asarray(v[0]) for key, v in stack_hparams(prepared.pack).items()}
    network = Network(config, prepared.task, hparams)
    params, held = split(network.draw(hparams))
    rule = RULES[config.optim.name](float(hparams["optim.lr"]))
    state = (params, held, rule.init(params))
    order, batch = np.random.default_rng(0), config.trainer.batch_size

    def mean_loss(params: Any, held: Any, x: Array, y: Array, key: Array) -> tuple[Array, Any]:
        logits, held = network.train_forward(params, held, x, key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), held

    @partial(jax.jit, donate_argnums=0)
    def step(state: Any, x: Array, y: Array, key: Array) -> tuple[Any, Array]:
        params, held, opt_state = state
        value_and_grad = jax.value_and_grad(mean_loss, has_aux=True)
        (loss, held), grads = value_and_grad(params, held, x, y, key)
        updates, opt_state = rule.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), held, opt_state), loss

    def epoch() -> None:
        nonlocal state
        ids = order.permutation(len(data.train_x))
        for i in range(len(ids) // batch):
            now = ids[i * batch : (i + 1) * batch]
            labels = data.train_y[now].astype(np.int32)
            state, loss = step(state, data.train_x[now], labels, jax.random.key(i))
        jax.block_until_ready((state, loss))

    return epoch
