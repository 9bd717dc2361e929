"""An activation that is random in training: what it draws, and that packs and resumes don't."""

import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats
from test_resume import end_up, pack, what_is_left
from test_run import make, run_pack

from actsweep.activations import ACTIVATIONS
from actsweep.activations.rescaled import rescaled
from actsweep.config.schema import RANDOM_ACTS, RunConfig
from actsweep.nn.models.layers import Act
from actsweep.nn.models.recording import scan
from actsweep.nn.network import Network, Task, split
from actsweep.runs.members import make_member, make_pack, stack_hparams
from actsweep.train.types import SweepContext
from actsweep.utils.errors import UserError

TASK = Task((8, 8, 1), 10, 10, 1 / 16, 0.0, 100)
RRELU = {"name": "rrelu", "lower": 0.2, "upper": 0.6}


def drawn(run: Any) -> tuple[Network, Any, Any]:
    single = make_pack([make_member(run)])
    hparams = {key: jnp.asarray(values[0]) for key, values in stack_hparams(single).items()}
    network = Network(single.static, TASK, hparams)
    return network, *split(network.draw(hparams))


def test_the_config_knows_which_are_random() -> None:
    assert {name for name, spec in ACTIVATIONS.items() if spec.drawn} == {*RANDOM_ACTS}


def test_slopes_are_uniform_one_for_each_number() -> None:
    z = jnp.concatenate([jnp.full((200, 100), -2.0), jnp.full((200, 100), 3.0)])
    fn = ACTIVATIONS["rrelu"].drawn
    assert fn is not None
    a = np.asarray(fn(z, jax.random.key(0), lower=0.2, upper=0.6))
    np.testing.assert_array_equal(a[200:], 3)
    slopes = a[:200].ravel() / -2
    assert stats.kstest(slopes, stats.uniform(0.2, 0.4).cdf).pvalue > 0.01
    assert len(np.unique(slopes)) > 0.99 * slopes.size
    slope_of = jax.grad(lambda z: jnp.sum(fn(z, jax.random.key(0), lower=0.2, upper=0.6)))
    np.testing.assert_allclose(slope_of(z)[:200].ravel(), slopes, rtol=1e-6)
    half = fn(z.astype(jnp.bfloat16), jax.random.key(0), lower=0.2, upper=0.6)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(half, np.float32), a, rtol=1e-2)


def test_training_draws_and_everything_else_takes_the_mean(tmp_path: Path) -> None:
    network, params, held = drawn(make(tmp_path, act=RRELU, depth={"widths": [16, 16]}))
    mean, same, same_held = drawn(
        make(tmp_path, act={"name": "leaky_relu", "slope": 0.4}, depth={"widths": [16, 16]})
    )
    x = jnp.asarray(np.random.default_rng(0).integers(0, 17, (32, 8, 8, 1)), jnp.uint8)
    expected = mean.forward(same, same_held, x)
    for forward in (network.forward, network.probe_forward):
        np.testing.assert_allclose(forward(params, held, x), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        network.merge(params, held)(network._input(x, jnp.float32)), expected, rtol=1e-5, atol=1e-6
    )
    key = jax.random.key
    first, _ = network.train_forward(params, held, x, key(0))
    again, _ = network.train_forward(params, held, x, key(0))
    other, _ = network.train_forward(params, held, x, key(1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    assert np.abs(first - expected).max() > 1e-3


def test_layers_and_steps_draw_apart(tmp_path: Path) -> None:
    """Two layers of the same width that read the same numbers have other slopes."""
    network, params, held = drawn(make(tmp_path, act=RRELU, depth={"widths": [16, 16]}))
    z, seen = -jnp.ones((5, 16)), []
    for step in range(2):
        keyed = network._keyed(jax.random.key(step))
        model = nnx.merge(network._train_graph, params, *held, keyed, copy=True)
        seen += [np.asarray(model.acts[name].apply(z)) for name in ("hidden_1", "hidden_2")]
    for one, other in itertools.combinations(seen, 2):
        assert np.mean(one == other) < 0.01


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_alone_packed_streamed_and_cut_short_a_member_is_the_same(tmp_path: Path) -> None:
    def runs(name: str, **changes: Any) -> list[RunConfig]:
        return pack(
            tmp_path / name, 0, 1, act=RRELU, model={"name": "mlp", "norm": "batch"}, **changes
        )

    alone, packed, cut = runs("alone"), runs("packed"), runs("cut")
    streamed = runs("streamed", data={"name": "digits", "val_size": 300, "stream": True})
    for run in alone:
        run_pack([run], SweepContext("sweep"))
    limits = iter([7, 10])
    end_up(cut, lambda: next(limits, None))
    for others in (packed, streamed):
        run_pack(others, SweepContext("sweep"))
    for i, run in enumerate(alone):
        expected = what_is_left(run)
        for others in (packed, streamed, cut):
            assert what_is_left(others[i]) == expected


def test_where_it_cannot_be_is_refused(tmp_path: Path) -> None:
    inner = {"name": "tanh", "by_layer": {"cells.0": RRELU}}
    for act, path in ((RRELU, "act"), (inner, "act.by_layer.*")):
        with pytest.raises(UserError, match=rf"{path}=rrelu: is random in training, .* of time"):
            make(tmp_path, act=act, model={"name": "rnn"})
    xs, act = jnp.zeros((3, 2, 4)), Act(ACTIVATIONS["rrelu"], {}, {}, nnx.Rngs(0))
    with pytest.raises(UserError, match=r"act=rrelu: is random in training, and it acts at every"):
        scan(lambda carry, x: (carry, act(x)), 0.0, xs, [act])
    with pytest.raises(UserError, match=r"act.transform=dks: .* in training act=rrelu is random"):
        rescaled(ACTIVATIONS["rrelu"], "dks")
