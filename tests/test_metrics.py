"""Every metric of a real training against its NumPy twin; the pure functions at their edges."""

import dataclasses
import functools
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpy_reference as ref
import pytest
from test_training import by_layer, compiled_fast, composed, plain, populate, train

from actsweep.callbacks.base import LogMessage
from actsweep.callbacks.gradients import gradients
from actsweep.callbacks.health import health
from actsweep.callbacks.histograms import GRAD_EDGES, VALUE_EDGES, histogram
from actsweep.callbacks.moments import quantiles
from actsweep.callbacks.units import mean_cosine
from actsweep.config import resolve
from actsweep.data.order import BatchOrder
from actsweep.theory.predictions import predict_untrained
from actsweep.train import scoring, types

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
PROBED, QUANTILE, HISTOGRAM = 64, 40, 50
OPTIONS = (
    f"trainer.probe_examples={PROBED}",
    f"callbacks.moments.quantile_examples={QUANTILE}",
    f"callbacks.histograms.examples={HISTOGRAM}",
    "trainer.patience=null",
)
PER_LAYER = (
    *("grad_norm", "grad_norm_max", "grad_rms", "preact_grad_rms", "update_ratio"),
    *("preact_mean", "preact_std", "act_mean", "act_std", "act_q05", "act_q50", "act_q95"),
    *("dead", "dead_frac", "silent_frac", "weak_frac", "saturated_frac", "cos_sim"),
    *("hist/preact", "hist/act", "hist/grad"),
    *("exact_dead", "exact_dead_frac", "exact_silent_frac"),
)
WHOLE = {f"{split}/{what}" for split in ("train", "val", "test") for what in ("loss", "accuracy")}
WHOLE |= {f"{split}/balanced_accuracy" for split in ("val", "test")}

RELU = {"hidden_1": ref.relu, "hidden_2": ref.relu, "head": None}
MIXED = {
    "hidden_1": ref.gelu,
    "hidden_2": ref.leaky_relu(0.005),
    "hidden_3": ref.glu,
    "hidden_4": ref.swish(1.5),
    "hidden_5": ref.maxout(3),
    "hidden_6": ref.elu(0.7),
    "hidden_7": ref.tanh,
    "hidden_8": ref.sigmoid,
    "hidden_9": ref.softmax,
    "head": None,
}
CNN = {"conv_1": ref.relu, "conv_2": ref.relu, "hidden_1": ref.relu, "head": None}


class Trained:
    """A finished training, with the parameters at the start of every chunk and at the end."""

    def __init__(self, net, runs, push=None):
        self.net, self.runs = net, runs
        self.snapshots = {}
        with compiled_fast():
            made = populate(*runs, devices=2)
            population, self.examples, _ = made
            draw, advance = population.init, population.train_chunk

            def init(sets):
                state = draw(sets)
                return push(self, state) if push else state

            def train_chunk(state, hparams, batches, train_set, span):
                self._keep(int(span.first), int(span.n), state)
                return advance(state, hparams, batches, train_set, span)

            population.init, population.train_chunk = init, train_chunk
            self.finished, writer = train(*runs, population=made)
            self._keep(max(self.finished.steps), 0, self.finished.state)
        self.rows = writer.rows

    def _keep(self, first, n, state):
        members = range(len(self.runs))
        kept = [(by_layer(state.params, m), by_layer(state.opt_state[1].trace, m)) for m in members]
        self.snapshots[first] = (n, kept)

    @functools.cached_property
    def chunks(self):
        """Map the step at a chunk's end to its first step and its number of steps."""
        return {first + n: (first, n) for first, (n, _) in self.snapshots.items() if n}

    def params(self, at, member):
        return self.snapshots[at][1][member][0]

    def rule(self, member):
        optim = self.runs[member].optim
        return ref.Rule(
            lr=optim.lr,
            momentum=optim.momentum,
            nesterov=optim.nesterov,
            weight_decay=optim.weight_decay,
        )

    def factor(self, at):
        last = max(self.finished.steps)
        return ref.schedule(self.runs[0].optim.schedule, at, last)

    def expected(self, row, member):
        """Return what NumPy computes for a row: scalars, and the values behind histograms."""
        scalars, values, data = {}, {}, self.examples
        at = row.step
        params, trace = self.snapshots[at][1][member]
        if at % 10 == 0:  # the end of an epoch, or the start
            x, y = plain(data, data.train_x[:PROBED]), data.train_y[:PROBED]

            def update(grads):
                memory = {"v": trace}
                return self.rule(member).update(params, grads, memory, at, self.factor(at))[0]

            probed = ref.probe(self.net, params, x, y, update, QUANTILE, HISTOGRAM)
            scalars, values = probed.scalars, probed.values
            scalars |= self.scored("val", params, data.val_x, data.val_y)
        if at in self.chunks:
            scalars |= self.chunk(*self.chunks[at], member)
        if at == 0:
            scalars |= self.exact(params)
        if at == self.finished.steps[member]:
            best = by_layer(self.finished.state.best, member)
            scalars |= self.exact(best) | self.scored("test", best, data.test_x, data.test_y)
        return scalars, values

    def scored(self, prefix, params, x, y):
        x = plain(self.examples, x)
        logits = ref.forward(self.net, params, x).logits
        return {
            f"{prefix}/loss": ref.cross_entropy(logits, y)[0].mean(),
            f"{prefix}/accuracy": ref.accuracy(self.net, params, x, y),
            f"{prefix}/balanced_accuracy": ref.balanced_accuracy(logits, y),
        }

    def exact(self, params):
        run = ref.forward(self.net, params, plain(self.examples, self.examples.train_x))
        counts = ref.unit_counts(self.net, run).items()
        return {f"exact_{k}": v for k, v in counts if k.startswith(("dead", "silent"))}

    def chunk(self, first, n, member):
        """Repeat the chunk's steps from the parameters at its start; return its scalars."""
        params, trace = self.snapshots[first][1][member]
        memory, run = {"v": trace}, self.runs[member]
        order = BatchOrder(len(self.examples.train_x), run.trainer.batch_size, run.seed)
        losses, rights, norms = [], [], {name: [] for name in self.net}
        for at in range(first, first + n):
            x, y = plain(self.examples, self.examples.train_x[order[at]]), order[at]
            y = self.examples.train_y[y]
            loss, grads = ref.loss_and_grads(self.net, params, x, y)
            losses.append(loss)
            rights.append(ref.accuracy(self.net, params, x, y))
            for name in self.net:
                norms[name].append(ref.l2(grads[f"{name}/kernel"]))
            rule = self.rule(member)
            updates, memory = rule.update(params, grads, memory, at, self.factor(at))
            params = {k: v + updates[k] for k, v in params.items()}
        return (
            {"train/loss": np.mean(losses), "train/accuracy": np.mean(rights)}
            | {f"grad_norm/{name}": np.mean(norm) for name, norm in norms.items()}
            | {f"grad_norm_max/{name}": max(norm) for name, norm in norms.items()}
        )


def spoil(trained, state):
    """Set biases that give the second layer (or channels) dead, silent, weak and active units."""
    name = "conv_1" if "conv_1" in trained.net else "hidden_2"
    x = plain(trained.examples, trained.examples.train_x[:PROBED])
    for member in range(len(trained.runs)):
        run = ref.forward(trained.net, by_layer(state.params, member), x)
        z = run.preact[name].reshape(-1, run.preact[name].shape[-1])
        leaf = state.params["layers"][name]["bias"]
        bias = np.array(leaf[...])
        bias[member, 0] -= 50.0  # silent and dead
        bias[member, 1] -= np.quantile(z[:, 1], 0.975)  # weak: active for 2.5 %
        leaf[...] = jax.device_put(bias, leaf[...].sharding)
    return state


@pytest.fixture(scope="module")
def relu():
    """Two members of one pack, counted and scored in slices that don't divide the sets."""
    options = (*OPTIONS, "depth.widths=[14,10]", "act=relu", "trainer.epochs=3")
    runs = [
        composed(*options, "seed=0", "optim.lr=0.02", "optim.momentum=0.5"),
        composed(*options, "seed=7", "optim.lr=0.005", "optim.momentum=0.9"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(types, "COUNT_SLICE", 150)
        patch.setattr(scoring, "EVAL_SLICE", 70)
        return Trained(RELU, runs, spoil)


@pytest.fixture(scope="module")
def mixed():
    """Nine activations in one network, with a schedule, Nesterov's momentum and weight decay."""
    run = composed(
        *OPTIONS,
        "act=identity",
        "model._target_=test_training.Stack",
        "+model.options.acts=["
        "{name:gelu,units:16},"
        "{name:leaky_relu,units:14,slope:0.005},"
        "{name:glu,units:12},"
        "{name:swish,units:12,beta:1.5},"
        "{name:maxout,units:12,pieces:3},"
        "{name:elu,units:10,alpha:0.7},"
        "{name:tanh,units:10},"
        "{name:sigmoid,units:9},"
        "{name:softmax,units:8}]",
        "init=normal",
        "init.sigma_w=1.7",
        "optim.lr=0.003",
        "optim.nesterov=true",
        "optim.weight_decay=0.01",
        "optim.schedule=cosine",
        "trainer.epochs=1",
    )
    return Trained(MIXED, [run])


@pytest.fixture(scope="module")
def cnn():
    options = ("model=cnn", "model.channels=[6,5]", "depth.widths=[8]", "act=relu")
    with jax.numpy_dtype_promotion("standard"):  # flax's average pool divides by an int
        return Trained(CNN, [composed(*OPTIONS, *options, "trainer.epochs=1")], spoil)


TRAINED = ("relu", "mixed", "cnn")


def assert_histogram(name, measured, values):
    """Check equality, except for values that float32 may have rounded across an edge."""
    edges = np.asarray(measured.edges)
    wide = 1e-5 * np.abs(values) + 3e-6 * (values != 0) * np.abs(values).max()
    low, high = values - wide, values + wide
    if name.startswith("hist/grad"):
        with np.errstate(divide="ignore"):
            low, high = np.log10(np.maximum(low, 0)), np.log10(high)
    assert measured.counts.sum() == values.size
    below = np.cumsum(measured.counts)[:-1]  # how many lie below each edge
    most = np.cumsum(ref.histogram(low, edges))[:-1]
    least = np.cumsum(ref.histogram(high, edges))[:-1]
    assert np.all((least <= below) & (below <= most)), name
    if name.startswith("hist/preact"):  # the others may crowd at 0
        assert np.max(most - least) <= 0.01 * values.size + 2, name  # little room is left


@pytest.mark.parametrize("which", TRAINED)
def test_every_number_of_every_row_follows_its_definition(which, request):
    trained = request.getfixturevalue(which)
    for member, rows in trained.rows.items():
        assert [row.step for row in rows] == sorted(trained.snapshots)
        for row in rows:
            scalars, values = trained.expected(row, member)
            assert row.scalars.keys() == scalars.keys(), row.step
            assert row.histograms.keys() == values.keys()
            for name, value in scalars.items():
                where = f"{name} at step {row.step} of member {member}"
                if re.match(r"(exact_)?(dead|silent_frac|weak_frac|saturated_frac)", name):
                    # counts: one unit or pair more would be 1e-4 or more
                    assert row.scalars[name] == pytest.approx(value, rel=1e-6), where
                else:
                    close = pytest.approx(value, rel=1e-4, abs=2e-6, nan_ok=True)
                    assert row.scalars[name] == close, where
            for name, value in values.items():
                assert_histogram(name, row.histograms[name], value)


@pytest.mark.parametrize("which", TRAINED)
def test_every_layer_has_every_metric(which, request):
    trained = request.getfixturevalue(which)
    rows = trained.rows[0]
    logged = {name for row in rows for name in (*row.scalars, *row.histograms)}
    expected = {*WHOLE, "dead_frac/all", "exact_dead_frac/all"}
    for family in PER_LAYER:
        linear = family in ("grad_norm", "grad_norm_max", "grad_rms", "update_ratio", "hist/grad")
        linear |= family.startswith("preact_") and family != "preact_grad_rms"
        expected |= {f"{family}/{n}" for n, act in trained.net.items() if act or linear}
    assert logged == expected


@pytest.mark.parametrize("which", ["relu", "cnn"])
def test_the_training_had_dead_silent_and_weak_units(which, request):
    trained = request.getfixturevalue(which)
    layer = "conv_1" if which == "cnn" else "hidden_2"
    first = trained.rows[0][0].scalars
    for family in ("dead_frac", "silent_frac", "weak_frac"):
        assert first[f"{family}/{layer}"] > 0
        if family != "weak_frac":
            assert first[f"exact_{family}/{layer}"] >= 0
    assert 0 < first["dead_frac/all"] < 1


def test_the_mixed_training_tells_its_layers_apart(mixed):
    first = mixed.rows[0][0].scalars
    assert first["saturated_frac/hidden_2"] > 0.1  # leaky, slope 0.005: saturated, never dead
    assert first["dead_frac/hidden_2"] == 0
    assert 0 < first["saturated_frac/hidden_7"] < 1
    assert first["saturated_frac/hidden_5"] == 0  # maxout always lets one piece through


@pytest.mark.parametrize("which", TRAINED)
def test_the_last_row_counts_with_the_best_parameters(which, request):
    trained = request.getfixturevalue(which)
    last = trained.rows[0][-1]
    assert last.scalars["val/accuracy"] <= trained.finished.best_score[0]
    assert trained.finished.final[0] == last.scalars


# Quantiles

SHARES = (0.05, 0.5, 0.95)


@pytest.mark.parametrize(
    "values",
    [
        [3.0],
        [1.0, 2.0],
        [2.0, 2.0, 2.0, 1.0, 1.0, 5.0, 5.0],
        [0.0] * 19 + [1.0],
        [0.0] * 20 + [1.0],
        [-1.0, -0.0, 0.0, 1.0],
        [-math.inf, -1.0, 0.5, math.inf],
        list(range(-50, 51)),
        [-3e38, 3e38, 1e-38, -1e-38],
    ],
)
def test_quantiles_are_numpys_inverted_cdf(values):
    x = np.asarray(values, np.float32)
    expected = [np.quantile(x, q, method="inverted_cdf") for q in SHARES]
    np.testing.assert_array_equal(quantiles(jnp.asarray(x), SHARES), expected)


@pytest.mark.parametrize("n", [2, 19, 20, 21, 97, 1000])
def test_quantiles_of_random_numbers_of_any_shape(n):
    x = np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32)
    x[: n // 2] = x[: n // 2].round(1)  # ties
    expected = [np.quantile(x, q, method="inverted_cdf") for q in SHARES]
    np.testing.assert_array_equal(quantiles(jnp.asarray(x), SHARES), expected)


@pytest.mark.parametrize("nan", [np.nan, -np.nan])
def test_quantiles_of_a_nan_are_nan(nan):
    assert np.all(np.isnan(quantiles(jnp.asarray([1.0, nan, 2.0], jnp.float32), SHARES)))


# Histograms


@pytest.mark.parametrize("edges", [VALUE_EDGES, GRAD_EDGES])
def test_histogram_on_every_edge_and_beside_it(edges):
    on = np.asarray(edges, np.float32)
    beside = [np.nextafter(on, -np.inf), np.nextafter(on, np.inf)]
    x = np.concatenate([on, *beside, [-0.0, 1e30, -1e-30, 1e-30]])
    x = x[(x == 0) | (np.abs(x) > 1.2e-38)]  # XLA flushes subnormal numbers on CPUs
    measured = histogram(jnp.asarray(x, jnp.float32), edges)
    np.testing.assert_array_equal(measured.counts, ref.histogram(x, np.asarray(edges)))
    assert measured.counts.dtype == jnp.int32


def test_histogram_keeps_what_is_no_number_or_outside():
    edges = (0.0, 1.0, 2.0)
    x = jnp.asarray([-math.inf, math.inf, math.nan, -5.0, 5.0, 0.0, 1.0, 2.0], jnp.float32)
    assert list(histogram(x, edges).counts) == [2, 1, 1, 4]
    assert list(histogram(jnp.zeros((0,), jnp.float32), edges).counts) == [0, 0, 0, 0]


@pytest.mark.parametrize("edges", [(0.0, 0.1, 0.2), (0.5, 1.5, 2.5), (0.0, 1.0, 3.0)])
def test_histogram_refuses_edges_that_rounding_could_cross(edges):
    with pytest.raises(ValueError, match="edges"):
        histogram(jnp.zeros(3), edges)


def test_exact_zeros_of_a_gradient_are_underflow():
    size = jnp.log10(jnp.abs(jnp.asarray([0.0, -0.0, 1e-12, 0.5, -100.0], jnp.float32)))
    counts = histogram(size, GRAD_EDGES).counts
    assert (counts[0], counts[-1], counts.sum()) == (2, 1, 5)


# Similarity


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1.0, 2.0], [1.0, 2.0], [2.0, 4.0]], 1.0),
        ([[1.0, 0.0], [0.0, 1.0]], 0.0),
        ([[1.0, 0.0], [-3.0, 0.0]], -1.0),
        ([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]], math.sqrt(0.5)),
        ([[1e-30, 0.0], [1e30, 1e30]], math.sqrt(0.5)),
        ([[1.0, 2.0]], math.nan),
        ([[1.0, 2.0], [0.0, 0.0]], math.nan),
        ([[0.0, 0.0], [0.0, 0.0]], math.nan),
        ([[math.nan, 1.0], [1.0, 1.0]], math.nan),
    ],
)
def test_mean_cosine_by_hand(rows, expected):
    cosine = float(mean_cosine(jnp.asarray(rows, jnp.float32)))
    assert cosine == pytest.approx(expected, abs=1e-6, nan_ok=True)
    if not math.isnan(sum(map(sum, rows))):
        twin = ref.cos_sim(np.asarray(rows))
        assert cosine == pytest.approx(twin, abs=1e-6, nan_ok=True)


def test_mean_cosine_of_many_nearly_equal_rows():
    a = np.random.default_rng(0).normal(size=(300, 4, 3)).astype(np.float32) * 1e-3 + 1
    assert float(mean_cosine(jnp.asarray(a))) == pytest.approx(ref.cos_sim(a), abs=1e-6)


# Dead units and zero gradients


def units_of(z, act):
    """Return the readings of the `units` callback for one layer `a`, probed and exact."""
    from actsweep.callbacks.base import CountView, ProbeView
    from actsweep.callbacks.units import units

    arrays = (z, act.f(z), act.abs_derivative(z), act.gate_input(z))
    views = [{"a": jnp.asarray(v, jnp.float32)} for v in arrays]
    callback = units()
    exact = callback.conclude(callback.count(CountView(*views)), len(z))
    return {**callback.probe(ProbeView(*views, *[None] * 5)), **exact}


def test_counting_may_end_once_every_unit_was_unsaturated_and_nonzero():
    from actsweep.callbacks.base import CountView
    from actsweep.callbacks.units import units

    def settled(*rows):
        z = np.asarray(rows)
        layers = [
            {"a": jnp.asarray(v, jnp.float32)}
            for v in (z, ref.relu.f(z), ref.relu.abs_derivative(z), ref.relu.gate_input(z))
        ]
        return bool(units().settled(units().count(CountView(*layers))))

    assert settled([1.0, -1.0], [-1.0, 2.0])
    assert not settled([1.0, -1.0], [2.0, -1.0])


@pytest.mark.parametrize("n", [1, 49, 50, 51, 100, 120])
def test_units_by_hand_for_any_number_of_rows(n):
    z = np.full((n, 5), -1.0)
    z[:, 1] = 2.0
    z[:, 4] = -0.0
    z[-1, 2] = 1.0  # active once: weak where that is less than 5 % of the rows
    z[: math.ceil(0.05 * n), 3] = 1.0  # at least 5 %: not weak
    readings = {k: float(v) for k, v in units_of(z, ref.relu).items()}
    twin = ref.units(ref.relu.abs_derivative(z), ref.relu.f(z), z)
    for key, value in twin.items():
        assert readings[f"{key}/a"] == pytest.approx(value, rel=1e-6), key
        if key in ("dead", "dead_frac", "silent_frac"):
            assert readings[f"exact_{key}/a"] == readings[f"{key}/a"]
    assert readings["exact_dead/a"] == 2
    assert readings["weak_frac/a"] == np.float32(0.2 if n > 20 else 0)


def test_a_layer_may_be_all_dead_and_not_silent():
    readings = units_of(np.full((7, 3), 20.0), ref.tanh)
    assert readings["exact_dead/a"] == 3
    assert readings["exact_dead_frac/a"] == readings["exact_dead_frac/all"] == 1
    assert readings["saturated_frac/a"] == 1
    assert readings["exact_silent_frac/a"] == readings["weak_frac/a"] == 0


def test_a_derivative_that_is_nan_is_not_dead():
    readings = units_of(np.full((7, 2), math.nan), ref.tanh)
    assert readings["exact_dead/a"] == readings["saturated_frac/a"] == 0


def test_gradients_of_zero():
    from actsweep.callbacks.base import ProbeView, StepView

    zeros, ones = {"a": jnp.zeros((3, 2))}, {"a": jnp.ones((3, 2))}
    assert gradients().on_step(StepView(ones, zeros)) == {"grad_norm/a": 0}
    view = ProbeView(zeros, zeros, zeros, zeros, jnp.zeros((3, 2)), ones, zeros, zeros, zeros)
    assert all(value == 0 for value in gradients().probe(view).values())
    without_weights = dataclasses.replace(view, weights=zeros)
    assert math.isnan(gradients().probe(without_weights)["update_ratio/a"])  # 0 / 0


# The health monitor


def rms(**layers):
    return {f"grad_rms/{k}": v for k, v in layers.items()}


def messages_for(*rows, **options):
    """Return the text of a new monitor's message for each row, or None."""
    hook = health(**options).hook()
    messages = [hook(i, float(i), row) for i, row in enumerate(rows)]
    return [message and message.text for message in messages]


def test_health_is_silent_for_a_healthy_network():
    fine = rms(a=1.0, b=0.05, c=4.0) | {"grad_norm_max/a": 3.0}
    assert messages_for(fine, fine, {}, {"train/loss": 1.0}) == [None] * 4


def test_health_reports_a_vanishing_layer_once():
    row = rms(a=1e-3, b=1.0, c=1.2, d=0.9)
    first, second = messages_for(row, row)
    assert "epoch 0: gradient of a vanishes" in first
    assert second is None


def test_health_reports_an_exploding_layer_once_and_each_kind_apart():
    exploding, vanishing = rms(a=200.0, b=1.0, c=1.0), rms(a=0.005, b=1.0, c=1.0)
    first, second, third = messages_for(exploding, vanishing, exploding)
    assert "gradient of a explodes" in first
    assert "gradient of a vanishes" in second
    assert third is None


def test_health_names_the_layers_without_a_gradient_where_most_have_none():
    """As in a residual network whose branches start at zero, or one whose units are dead."""
    (text,) = messages_for(rms(head=0.1, stem=0.2, a=0.0, b=0.0, c=0.0))
    assert re.findall(r"of (\w+ \w+):", text) == ["a vanishes", "b vanishes", "c vanishes"]
    assert messages_for(rms(a=0.0, b=0.0)) == [None]


def test_health_ratio_decides():
    row = rms(a=1.0, b=15.0, c=1.0)
    assert messages_for(row) == [None]
    assert "b explodes" in messages_for(row, ratio=10.0)[0]
    with pytest.raises(ValueError, match="ratio"):
        health(ratio=1.0)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_health_is_scale_free(scale):
    rows = [rms(a=1e-3, b=1.0, c=1.2), rms(a=1.0, b=1.0, c=150.0), rms(a=1.0, b=0.5, c=0.2)]
    kinds = [text and re.findall(r"of (\w+ \w+)", text) for text in messages_for(*rows)]
    scaled = [{k: v * scale for k, v in row.items()} for row in rows]
    scaled_kinds = [text and re.findall(r"of (\w+ \w+)", text) for text in messages_for(*scaled)]
    assert scaled_kinds == kinds
    assert kinds == [["a vanishes"], ["c explodes"], None]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_health_reports_a_gradient_that_is_not_finite(value):
    row = {"grad_norm_max/a": value, "grad_norm_max/b": 1.0}
    first, second = messages_for(row, row)
    assert "gradient of a is not finite" in first
    assert " b " not in first
    assert second is None


def test_health_of_a_deep_network_fits_in_a_line():
    small = {f"hidden_{i}": 1e-9 for i in range(1, 21)}
    large = {f"hidden_{i}": 1.0 for i in range(21, 51)}
    (text,) = messages_for(rms(**small, **large, head=1e9))
    assert text.count("gradient of") == 2
    assert "gradient of hidden_1 and 19 more layers vanishes: hidden_1 RMS 1.0e-09" in text
    assert "gradient of head explodes: RMS 1.0e+09" in text
    assert len(text) < 250


def test_health_of_one_layer_or_of_zeros():
    assert messages_for(rms(a=1e-9)) == [None]
    assert messages_for(rms(a=0.0, b=0.0, c=0.0)) == [None]
    assert "a vanishes" in messages_for(rms(a=0.0, b=1.0, c=1.0))[0]
    assert messages_for(rms(a=math.nan, b=1.0, c=1.0)) == [None]  # step norms report NaN


def test_health_absolute_thresholds():
    row = {"grad_abs/a": 5e-4, "grad_abs/b": 0.5, "grad_abs/c": 200.0}
    assert messages_for(row) == [None]
    first, second = messages_for(row, row, absolute=True)
    assert "gradient of a is small" in first
    assert "gradient of c is large" in first
    assert "of b" not in first
    assert second is None
    assert messages_for(row, absolute=True, low=1e-5, high=1e3) == [None]
    assert health().probe is None
    assert isinstance(health(absolute=True).hook()(0, 0.0, row), LogMessage)


# The page


def test_the_page_names_every_metric_and_no_other(relu):
    """In the tables, the first column's `code` names metrics; `<layer>` stands for every layer."""
    cells = re.findall(r"^\| (`[^|]+) \|", PAGE.read_text(), re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    rows = relu.rows[0]
    logged = {name for row in rows for name in (*row.scalars, *row.histograms)}
    layers = "|".join(relu.net)
    families = {re.sub(rf"/({layers})$", "/<layer>", name) for name in logged}
    plain = resolve.resolve({"act": {"name": "relu"}, "depth": {"layers": 1}})
    predicted = predict_untrained(plain, np.eye(3))  # with callbacks=theory
    families |= {name.replace("hidden_1", "<layer>") for name in predicted}
    assert named == families | {"epoch", "step", "act_param/<layer>/<name>"}  # ReLU learns none
