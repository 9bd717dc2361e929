"""Training against a NumPy loop; observers and companions change nothing."""

import contextlib
import dataclasses
import math
import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import numpy_reference as ref
import pytest
from flax import nnx
from hydra import compose, initialize_config_dir

from actsweep import activations, callbacks, data
from actsweep.config import resolve, schema
from actsweep.data.feed import StreamingFeed
from actsweep.data.order import BatchOrder
from actsweep.loggers.base import Writers
from actsweep.nn.models.layers import Act
from actsweep.nn.models.mlp import MLP
from actsweep.runs.members import make_member, make_pack, stack_hparams
from actsweep.train import loop, schedule
from actsweep.train.population import IN_ORDER, UNTIMED, Population, _repeatable
from actsweep.train.setup import task_of
from actsweep.train.types import Span

CONF = str(Path(__file__).parents[1] / "conf")
SMALL = (
    "data=digits",
    "data.val_size=1100",  # leaves 400 to train on
    "depth.widths=[8]",
    "trainer.batch_size=40",
    "trainer.chunk_steps=4",
    "trainer.epochs=2",
    "trainer.probe_examples=64",
)


class Stack(MLP):
    """A multilayer perceptron with an activation of its own in every layer: `acts` lists them,
    each with its `units`. One program tests many."""

    def __init__(self, make, input_shape, outputs, acts):
        self.layers, self.acts = nnx.Dict(), nnx.Dict()
        inputs = math.prod(input_shape)
        for i, entry in enumerate(acts, 1):
            name, units = f"hidden_{i}", entry["units"]
            spec, params = activations.bind({k: v for k, v in entry.items() if k != "units"})
            numbers = {}
            for key in spec.learnable(params):
                shape = (units,) if params.get("per_channel") else ()
                numbers[key] = nnx.Param(jnp.full(shape, params.pop(key), jnp.float32))
            pieces = activations.inputs_per_unit(spec, params)
            self.layers[name] = make.dense(name, inputs, units * pieces)
            self.acts[name] = Act(spec, params, numbers)
            inputs = units
        self.layers["head"] = make.dense("head", inputs, outputs)
        self.order = tuple(self.acts)


def composed(*overrides):
    """The resolved config of a command line, on top of SMALL."""
    resolve.register()
    with initialize_config_dir(CONF, version_base=None):
        return resolve.resolve(compose("config", overrides=[*SMALL, *overrides]))


class Collect:
    """A writer that keeps what it is told."""

    def __init__(self):
        self.rows, self.messages = {}, {}

    def open(self, members):
        pass

    def row(self, member, row):
        known = self.rows.setdefault(member, [])
        if known and known[-1].step == row.step:
            before = known.pop()
            row = dataclasses.replace(before, scalars=before.scalars | row.scalars)
        known.append(row)

    def message(self, member, text):
        self.messages.setdefault(member, []).append(text)

    def finish(self, member, state, summary):
        pass

    def close(self):
        pass


@contextlib.contextmanager
def compiled_fast():
    """Compile without optimisations: half the time, for what needn't be bitwise."""
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


def populate(*runs, devices=4):
    """The population of some runs on so many devices, with its data and callbacks."""

    pack = make_pack([make_member(run) for run in runs])
    examples = data.load(pack.static.data)
    looks = callbacks.build(pack.static.callbacks)
    task = task_of(pack.static, examples)
    which = jax.devices()[:devices]
    population = Population(pack.static, task, stack_hparams(pack), looks, which)
    return population, examples, looks


def train(*runs, population=None, devices=4):
    """Train runs as one pack through the real loop. Returns (Finished, Collect)."""
    population, examples, looks = population or populate(*runs, devices=devices)
    trainer, writer = runs[0].trainer, Collect()
    sets = population.place_sets(examples, trainer, stream=runs[0].data.stream)
    seeds = [run.seed for run in runs]
    finished = loop.train(population, sets, examples, trainer, seeds, looks, Writers([writer]))
    return finished, writer


def leaves(tree, member=0):
    """A member's arrays by path."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): np.array(leaf[member]) for path, leaf in flat}


def by_layer(tree, member=0):
    """A member's kernels and biases as float64, as the reference names them."""
    return {
        f"{name}/{part}": np.array(layer[part][...][member], np.float64)
        for name, layer in tree["layers"].items()
        for part in ("kernel", "bias")
    }


def same_bits(one, other):
    """Whether two dicts of arrays are equal to the last bit, NaN included."""
    assert one.keys() == other.keys()
    return all(one[k].tobytes() == other[k].tobytes() for k in one)


def plain(examples, x):
    """Stored examples as the network reads them."""
    return x.astype(np.float64) * examples.scale + examples.offset


# Against NumPy

RULES = {
    "sgd": ("optim.momentum=0.9 optim.lr=0.05", {"momentum": 0.9, "lr": 0.05}),
    "everything": (
        "optim.lr=0.1 optim.momentum=0.8 optim.nesterov=true optim.weight_decay=0.02 "
        "optim.clip_norm=0.3 optim.schedule=cosine",
        {
            "lr": 0.1,
            "momentum": 0.8,
            "nesterov": True,
            "weight_decay": 0.02,
            "clip_norm": 0.3,
        },
    ),
    "adam": (
        "optim=adam optim.lr=0.01 optim.weight_decay=0.03 optim.schedule=warmup_cosine "
        "optim.warmup=0.3",
        {"name": "adam", "lr": 0.01, "weight_decay": 0.03},
    ),
    "adamw": (
        "optim=adamw optim.lr=0.01 optim.weight_decay=0.1 optim.b1=0.8 optim.b2=0.95 "
        "optim.clip_norm=0.5",
        {
            "name": "adamw",
            "lr": 0.01,
            "weight_decay": 0.1,
            "b1": 0.8,
            "b2": 0.95,
            "clip_norm": 0.5,
        },
    ),
    "biases decayed, too": (
        "optim=adamw optim.lr=0.01 optim.weight_decay=0.1 optim.decay_bias=true",
        {"name": "adamw", "lr": 0.01, "weight_decay": 0.1, "decay_bias": True},
    ),
}
STEPS = 20


def twenty_steps(run):
    """Two chunks of ten steps: parameters before and after, and each chunk's readings."""
    with compiled_fast():
        population, examples, _ = populate(run, devices=1)
        sets = population.place_sets(examples, run.trainer, stream=False)
        state = population.init(sets)
        before = by_layer(state.params)
        order = BatchOrder(len(examples.train_x), run.trainer.batch_size, run.seed)
        readings = []
        for first in (0, 10):
            ids = np.stack([order[first + i] for i in range(10)])[None]
            batches = population.place_batches(ids)
            state, told = population.train_chunk(
                state,
                population.hparams,
                batches,
                sets.train,
                Span(*map(np.int32, (first, 10, first, first + 10))),
            )
            readings.append(jax.device_get(told))
    return before, by_layer(state.params), readings, examples, state


def replay(run, params, examples, rule, act=ref.tanh, loss=ref.cross_entropy):
    """The same steps in NumPy: parameters and losses."""
    net = {"hidden_1": act, "head": None}
    order = BatchOrder(len(examples.train_x), run.trainer.batch_size, run.seed)
    total = run.trainer.epochs * order.steps_per_epoch
    memory, losses, norms = rule.start(params), [], []
    for step in range(STEPS):
        ids = order[step]
        x, y = plain(examples, examples.train_x[ids]), examples.train_y[ids]
        value, grads = ref.loss_and_grads(net, params, x, y, loss)
        factor = ref.schedule(run.optim.schedule, step, total, run.optim.warmup)
        updates, memory = rule.update(params, grads, memory, step, factor)
        params = {k: v + updates[k] for k, v in params.items()}
        losses.append(value)
        norms.append(math.sqrt(sum((g**2).sum() for g in grads.values())))
    return params, losses, norms


def assert_close(actual, expected, rtol=1e-4, atol=1e-6):
    assert actual.keys() == expected.keys()
    for key in actual:
        np.testing.assert_allclose(actual[key], expected[key], rtol=rtol, atol=atol, err_msg=key)


@pytest.mark.parametrize("name", RULES)
def test_training_is_the_papers_algorithm(name):
    overrides, constants = RULES[name]
    run = composed("act=tanh", "callbacks=none", "trainer.epochs=3", *overrides.split())
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises a float to an int's power
        before, after, readings, examples, _ = twenty_steps(run)
    expected, losses, norms = replay(run, before, examples, ref.Rule(**constants))
    clip = constants.get("clip_norm")
    assert clip is None or min(norms) < 2 * clip < 2 * max(norms)  # it did clip
    assert_close(after, expected)
    for part, told in zip((losses[:10], losses[10:]), readings, strict=True):
        assert told["train/loss"][0] == pytest.approx(np.mean(part), rel=1e-5)


def test_regression_is_least_squares():
    run = composed(
        "act=tanh", "callbacks=none", "data=quadratic", "data.examples=400", "optim.lr=0.02"
    )
    before, after, readings, examples, _ = twenty_steps(run)
    rule = ref.Rule(lr=0.02, momentum=0.9)
    expected, losses, _ = replay(run, before, examples, rule, loss=ref.squared_error)
    assert_close(after, expected)
    assert readings[1]["train/loss"][0] == pytest.approx(np.mean(losses[10:]), rel=1e-5)
    assert "train/accuracy" not in readings[1]


def test_bfloat16_stays_close_and_keeps_float32_parameters():
    run = composed("act=tanh", "callbacks=none", "trainer.precision=bfloat16")
    before, after, _, examples, state = twenty_steps(run)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    expected, _, _ = replay(run, before, examples, ref.Rule(lr=0.01, momentum=0.9))
    moved = math.sqrt(sum(((expected[k] - before[k]) ** 2).sum() for k in before))
    apart = math.sqrt(sum(((expected[k] - after[k]) ** 2).sum() for k in before))
    # bfloat16 keeps 8 bits: single products are off by 0.4 %, the whole way by a few
    assert 1e-4 * moved < apart < 0.05 * moved


# Observers


@pytest.mark.parametrize("model", ["mlp", "cnn"])
@pytest.mark.parametrize(
    ("precision", "products"), [("float32", "HIGHEST"), ("tf32", "HIGH"), ("bfloat16", "DEFAULT")]
)
def test_every_product_is_computed_as_the_precision_says(model, precision, products):
    run = composed(f"model={model}", f"trainer.precision={precision}", "callbacks=none")
    with jax.numpy_dtype_promotion("standard"):  # flax's avg_pool
        population, examples, _ = populate(run, devices=1)
        sets = population.place_sets(examples, run.trainer, stream=False)
        batches = np.zeros((1, 2, run.trainer.batch_size), np.int32)
        span = Span(*np.int32([0, 2, 0, 2]))
        arguments = (population.init(sets), population.hparams, batches, sets.train, span)
        program = population.train_chunk.lower(*arguments).as_text()
    found = re.findall(r"(?:dot_general|convolution)\W.*", program)
    assert len(found) > 5  # forwards and backwards
    for line in found:
        assert set(re.findall("HIGHEST|HIGH|DEFAULT", line)) <= {products}, line
        assert products == "DEFAULT" or products in line


@pytest.mark.parametrize(("platform", "flags"), [("gpu", ""), ("gpu", "autotune"), ("cpu", "")])
def test_programs_for_gpus_are_compiled_repeatably(platform, flags, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"--xla_gpu_{flags}_level=4" if flags else "")
    mesh = SimpleNamespace(devices=np.array([SimpleNamespace(platform=platform)], object))
    by_default = (platform, flags) == ("gpu", "")
    assert _repeatable(mesh, convolves=False) == ({**IN_ORDER, **UNTIMED} if by_default else {})
    assert _repeatable(mesh, convolves=True) == (IN_ORDER if by_default else {})


@pytest.fixture(scope="module")
def bare():
    run = composed("callbacks=none")
    return leaves(train(run, devices=1)[0].state.params)


@pytest.mark.parametrize("which", ["light", "default", "full"])
def test_callbacks_change_no_bit(bare, which):
    finished, writer = train(composed(f"callbacks={which}"), devices=1)
    assert "grad_norm_max/hidden_1" in writer.rows[0][-1].scalars
    assert same_bits(leaves(finished.state.params), bare)


def test_streaming_changes_no_bit(bare):
    run = composed("callbacks=none", "data.stream=true")
    assert same_bits(leaves(train(run, devices=1)[0].state.params), bare)


def test_streamed_calls_are_bounded_in_bytes(bare, monkeypatch):
    """Two steps a call where the examples of three would be too many: the same bits."""
    run = composed("callbacks=none", "data.stream=true")
    made = populate(run, devices=1)
    examples = made[1]
    image = examples.train_x[0].nbytes + examples.train_y[0].nbytes
    rows = made[0].padded
    monkeypatch.setattr(schedule, "STREAMED_BYTES", 3 * image * run.trainer.batch_size * rows - 1)
    shapes, chunk = set(), StreamingFeed.chunk

    def seen(self, start_step, n):
        batches = chunk(self, start_step, n)
        shapes.add(batches[0].shape[1])
        return batches

    monkeypatch.setattr(StreamingFeed, "chunk", seen)
    finished, _ = train(run, population=made)
    assert shapes == {2}
    assert same_bits(leaves(finished.state.params), bare)


def test_training_twice_gives_the_same_rows_to_the_last_bit():
    run = composed("callbacks=light")
    with compiled_fast():
        made = populate(run)
        (_, one), (_, other) = train(run, population=made), train(run, population=made)
    assert [row.step for row in one.rows[0]] == [0, 3, 6, 10, 13, 16, 20]
    assert one.rows == other.rows
    assert "exact_dead_frac/all" in one.rows[0][-1].scalars


def test_a_batch_shared_by_two_devices_gives_the_same_training(bare):
    run = composed("callbacks=none", "trainer.mesh.data=2")
    with compiled_fast():
        found = leaves(train(run)[0].state.params)
    assert_close(found, bare, rtol=1e-4, atol=1e-6)


# Companions: six activations in one network; members that converge, diverge and stop early

STACK = (
    "callbacks=none",
    "act=identity",
    "model._target_=test_training.Stack",
    "+model.options.acts=["
    "{name:relu,units:16},"
    "{name:swish,units:12,beta:0.7,learnable:true},"
    "{name:prelu,units:12,per_channel:true},"
    "{name:glu,units:10},"
    "{name:maxout,units:10,pieces:3},"
    "{name:softmax,units:8}]",
    "init=he_normal",
    "trainer.epochs=20",
    "trainer.chunk_steps=5",
)
FATES = (
    "seed=0 optim.lr=0.005",
    "seed=1 optim.lr=0.002",
    "seed=2 optim.lr=1e9",  # diverges
    "seed=3 optim.lr=1e-12",  # never gets better: stops early
)


@pytest.fixture(scope="module")
def fates():
    """Four members: the third diverges, the fourth runs out of patience."""
    return [composed(*STACK, "trainer.patience=12", *fate.split()) for fate in FATES]


@pytest.fixture(scope="module")
def alone(fates):
    """Each of them trained alone, by one compiled program."""
    made = populate(fates[0])
    results = []
    for run in fates:
        column = stack_hparams(make_pack([make_member(run)]))
        results.append(train(run, population=(made[0].refill(column), *made[1:])))
    return results


def test_a_diverging_member_is_marked_and_frozen(alone):
    assert [finished.diverged[0] for finished, _ in alone] == [False, False, True, False]
    assert [finished.steps[0] for finished, _ in alone][:2] == [200, 200]
    assert alone[3][0].epochs[0] == 13
    finished, writer = alone[2]
    assert finished.best_epoch[0] == 0 or math.isfinite(finished.best_score[0])
    assert finished.steps[0] < 200
    assert writer.rows[0][-1].step == finished.steps[0]
    assert not any(math.isnan(v) for row in writer.rows[0][:-1] for v in row.scalars.values())


def test_a_pack_is_bitwise_its_members_alone(fates, alone):
    together, writer = train(*fates)
    for member, (single, rows) in enumerate(alone):
        state = leaves(together.state, member)
        assert same_bits(state, leaves(single.state))
        assert together.diverged[member] == single.diverged[0]
        assert repr(writer.rows[member]) == repr(rows.rows[0])  # repr: NaN is NaN


def test_vmap_is_within_a_hundred_thousandth(fates, alone):
    runs = [dataclasses.replace(run, pack=schema.PackConfig(batching="vmap")) for run in fates]
    together, _ = train(*runs, devices=1)
    assert together.diverged == [False, False, True, False]
    assert together.epochs[3] == 13
    for member in (0, 1, 3):
        single = alone[member][0]
        found = leaves(together.state.params, member)
        assert_close(found, leaves(single.state.params), rtol=1e-5, atol=2e-6)
    frozen = by_layer(together.state.params, 2)
    assert together.steps[2] == alone[2][0].steps[0]
    assert frozen.keys() == by_layer(alone[2][0].state.params).keys()


# Early stopping


def replay_patience(scores, patience):
    """(epochs trained, best epoch, best score) of a run that would see these scores."""
    best, best_epoch, bad = -math.inf, 0, 0
    for epoch, score in enumerate(scores, 1):
        if score > best:
            best, best_epoch, bad = score, epoch, 0
        else:
            bad += 1
        if patience is not None and bad >= patience:
            return epoch, best_epoch, best
    return len(scores), best_epoch, best


def test_early_stopping_best_epoch_and_ties():
    """Members of different learning rates in one pack; the slowest only ties with itself."""
    lr = ("0.3", "0.03", "1e-9", "0.5")
    runs = [
        composed("callbacks=none", "trainer.patience=2", "trainer.epochs=14", f"optim.lr={v}")
        for v in lr
    ]
    with compiled_fast():
        packed, writer = train(*runs, devices=2)
        single, _ = train(runs[2], devices=1)
    for member in range(4):
        rows = [row for row in writer.rows[member] if "val/accuracy" in row.scalars and row.step]
        scores = [row.scalars["val/accuracy"] for row in rows]
        epochs, best_epoch, best = replay_patience(scores, 2)
        assert packed.epochs[member] == epochs == len(scores)
        assert packed.best_epoch[member] == best_epoch
        assert packed.best_score[member] == pytest.approx(best, rel=0, abs=0)
        assert not packed.diverged[member]
    assert packed.epochs[2] == 3  # epoch 1 is its best, then two that tie with it
    assert packed.best_epoch[2] == 1
    assert len(set(packed.epochs)) > 1
    assert same_bits(leaves(packed.state, 2), leaves(single.state))
    assert not same_bits(leaves(packed.state.params, 0), leaves(packed.state.best, 0))
