"""Another activation in some layers: `act.by_layer`, in networks, ids, sweeps, tables, errors."""

import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy_reference as reference
import pytest
import yaml
from test_app import Train, files, logging_as_before, train  # noqa: F401 (fixtures)
from test_compare import entry
from test_resume import what_is_left
from test_run import LIGHT, make, run_pack
from test_table import lines, make_run

from actsweep import load_run
from actsweep.cli.main import main
from actsweep.config import by_layer, identity, resolve
from actsweep.nn.models.recording import Intermediates
from actsweep.nn.network import Network, Task, split
from actsweep.report.compare import compare
from actsweep.report.design import usual_factors, where
from actsweep.runs.members import make_member, make_pack, stack_hparams
from actsweep.train.types import SweepContext
from actsweep.utils.errors import UserError

TASK = Task((8, 8, 1), 10, 10, 1 / 16, 0.0, 100)
MIXED = {
    "hidden_1": {"name": "tanh"},
    "hidden_2": {"name": "glu"},
    "hidden_4": {"name": "leaky_relu", "slope": 0.2},
}
FOUR = {"widths": [12, 10, 8, 6]}


def act(**entries: Any) -> dict[str, Any]:
    return {"name": "relu", "by_layer": entries}


def drawn(**changes: Any) -> tuple[Network, Any, Any]:
    pack = make_pack([make_member(make(Path("nowhere"), **changes))])
    hparams = {key: jnp.asarray(values[0]) for key, values in stack_hparams(pack).items()}
    network = Network(pack.static, TASK, hparams)
    return network, *split(network.draw(hparams))


def images(n: int = 32) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).integers(0, 17, (n, 8, 8, 1)), jnp.uint8)


def arrays(network: Network, params: Any) -> dict[str, np.ndarray]:
    """Return kernels and biases by name, as float64."""
    flat: dict[str, np.ndarray] = {}
    for name in network.layers:
        layer = params["layers"][name]
        flat[f"{name}/kernel"] = np.asarray(layer["kernel"][...], np.float64)
        flat[f"{name}/bias"] = np.asarray(layer["bias"][...], np.float64)
    return flat


def check_forward(network: Network, params: Any, held: Any, net: reference.Net) -> None:
    """Compare logits and what probes see of every activation with a loop in NumPy."""
    expected = reference.forward(net, arrays(network, params), np.asarray(images()) / 16)
    kept = Intermediates()
    logits = network.forward(params, held, images(), kept)
    np.testing.assert_allclose(logits, expected.logits, rtol=1e-4, atol=1e-5)
    assert list(kept.act) == [name for name, f in net.items() if f is not None]
    for name, z in expected.preact.items():
        f = net[name]
        assert f is not None
        np.testing.assert_allclose(kept.act[name], expected.act[name], rtol=1e-4, atol=1e-5)
        for ours, theirs in (
            (kept.abs_derivative[name], f.abs_derivative(z)),
            (kept.gate_input[name], f.gate_input(z)),
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_an_mlp_is_a_loop_over_its_own_activations() -> None:
    network, params, held = drawn(act=act(**MIXED), depth=FOUR)
    assert params["layers"]["hidden_2"]["kernel"][...].shape == (12, 20)  # gated: two a unit
    net = {
        "hidden_1": reference.tanh,
        "hidden_2": reference.glu,
        "hidden_3": reference.relu,
        "hidden_4": reference.leaky_relu(0.2),
        "head": None,
    }
    check_forward(network, params, held, net)


def test_a_cnn_is_a_loop_over_its_own_activations() -> None:
    model = {"name": "cnn", "channels": [3, 4]}
    changes = {"model": model, "depth": {"widths": [5]}}
    by_pattern = {"conv_*": {"name": "tanh"}, "conv_2": {"name": "glu"}}
    with jax.numpy_dtype_promotion("standard"):  # flax's average pool divides by an int
        network, params, held = drawn(act=act(**by_pattern), **changes)
        net = {
            "conv_1": reference.tanh,
            "conv_2": reference.glu,
            "hidden_1": reference.relu,
            "head": None,
        }
        check_forward(network, params, held, net)
    assert params["layers"]["conv_2"]["kernel"][...].shape == (3, 3, 3, 8)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_everywhere_is_that_activation(precision: str) -> None:
    trainer = {"batch_size": 64, "precision": precision}
    leaky = {"name": "leaky_relu", "slope": 0.2}
    outputs = []
    for choice in (leaky, act(**{"*": leaky})):
        network, params, held = drawn(act=choice, trainer=trainer, init={"gain": "auto"})
        outputs.append(np.asarray(network.forward(params, held, images())))
    np.testing.assert_array_equal(*outputs)


def test_gain_auto_is_that_of_the_activation_that_a_layer_reads() -> None:
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    tanh = 1 / np.sqrt(np.sum(weights * np.tanh(nodes) ** 2) / np.sqrt(2 * np.pi))
    kernels = []
    for gain in ("auto", 1.0):
        changes = {"depth": {"widths": [8, 8, 8]}, "init": {"gain": gain}}
        network, params, _ = drawn(act=act(hidden_1={"name": "tanh"}), **changes)
        kernels.append(network.kernels(params))
    relu = np.sqrt(2)
    for name, expected in zip(network.layers, (1.0, tanh, relu, relu), strict=True):
        ratio = kernels[0][name] / kernels[1][name]
        np.testing.assert_allclose(ratio, expected, rtol=1e-4)


def test_a_name_counts_before_patterns_and_order_does_not() -> None:
    entries = {"hidden_*": {"name": "tanh"}, "hidden_2": {"name": "elu"}}
    chosen = act(**entries)
    assert [by_layer.pattern_for(chosen, f"hidden_{i}") for i in (1, 2)] == ["hidden_*", "hidden_2"]
    assert by_layer.pattern_for(chosen, "conv_1") is None
    turned = dict(reversed(entries.items()))
    one, other = (resolve.resolve({"act": act(**mapping)}) for mapping in (entries, turned))
    assert identity.run_id(one) == identity.run_id(other)
    assert resolve.to_dict(one) == resolve.to_dict(other)
    assert list(one.act["by_layer"]) == list(other.act["by_layer"])


def test_ids_say_which_activations_and_none_is_none() -> None:
    ids = {}
    for key, entries in {
        "plain": None,
        "empty": {},
        "tanh": {"hidden_1": "tanh"},
        "there": {"hidden_2": "tanh"},
        "slope": {"hidden_1": {"name": "leaky_relu", "slope": 0.2}},
        "integer": {"hidden_1": {"name": "leaky_relu", "slope": 1}},
        "float": {"hidden_1": {"name": "leaky_relu", "slope": 1.0}},
        "many": {f"hidden_{i + 1}": n for i, n in enumerate(("elu", "tanh", "gelu", "selu"))},
    }.items():
        config = {"name": "relu"} | ({} if entries is None else {"by_layer": entries})
        ids[key] = identity.run_id(resolve.resolve({"act": config}))
    assert ids["plain"] == ids["empty"]
    assert ids["integer"] == ids["float"]
    assert len({*ids.values()}) == 6
    assert ids["plain"].startswith("relu-mlp4-torch-s0-")
    assert ids["tanh"].startswith("relu+tanh-mlp4-torch-s0-")
    assert ids["many"].startswith("relu+4-mlp4-torch-s0-")


def test_softplus_has_its_earlier_id_also_in_a_layer() -> None:
    """Its `beta` came later; at 1 it changes nothing."""
    runs = [
        resolve.resolve({"act": act(hidden_1={"name": "softplus"} | beta)})
        for beta in ({}, {"beta": 1.0}, {"beta": 2.0})
    ]
    plain, one, two = map(identity.run_id, runs)
    assert plain == one != two


TRAINED = act(hidden_1={"name": "prelu", "slope": 0.25}, hidden_2={"name": "swiglu"})


@pytest.mark.usefixtures("compiled_once")
def test_alone_and_in_a_pack_a_member_is_the_same(tmp_path: Path) -> None:
    changes = {"act": TRAINED, "callbacks": {**LIGHT, "histograms": {}}}
    alone = [make(tmp_path / "alone", seed=seed, **changes) for seed in (0, 1)]
    for run in alone:
        run_pack([run], SweepContext("sweep"))
    packed = [make(tmp_path / "packed", seed=seed, **changes) for seed in (0, 1)]
    assert len({make_member(run).pack_key for run in packed}) == 1
    results = run_pack(packed, SweepContext("sweep"))
    for one, other in zip(alone, packed, strict=True):
        assert what_is_left(one) == what_is_left(other)
    assert results[0]["act"] == "relu, hidden_1 prelu slope=0.25, hidden_2 swiglu"
    check_trained(tmp_path / "packed" / "runs" / results[0]["run_id"])


def check_trained(folder: Path) -> None:
    """Check what a run with a learned slope has measured, and its network by NumPy."""
    run = load_run(folder)
    slopes = run.metrics()["act_param/hidden_1/slope"]
    assert slopes[0] == pytest.approx(0.25)
    assert slopes[-1] != slopes[0]
    model: Any = run.model()
    x = run.dataset().test_x[:50]
    h = x.reshape(50, -1) * run.dataset().scale + run.dataset().offset

    def dense(name: str, h: np.ndarray) -> np.ndarray:
        layer = model.layers[name]
        return h @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])

    z = dense("hidden_1", h)
    h = np.where(z > 0, z, float(model.acts["hidden_1"].numbers["slope"][...]) * z)
    value, gate = np.split(dense("hidden_2", h), 2, axis=1)
    logits = dense("head", value * gate / (1 + np.exp(-gate)))
    np.testing.assert_allclose(run.logits(x), logits, rtol=1e-3, atol=1e-4)


def ids_of(outputs: Path) -> list[str]:
    return sorted(folder.name for folder in (outputs / "runs").iterdir())


def test_a_sweep_over_activations_by_layer(train: Train, tmp_path: Path) -> None:  # noqa: F811
    words = "act.by_layer={hidden_1:tanh},{hidden_2: {name: leaky_relu, slope: 0.2}},null"
    answer = train("-m", words, "logger=disabled", "sweep.pairs=[act.by_layer,seed]", "seed=0,1,2")
    assert answer.code == 0, answer.err
    leaky, tanh, plain = ids_of(tmp_path / "outputs")
    assert leaky.startswith("relu+leaky_relu-mlp2-torch-s1-")
    assert tanh.startswith("relu+tanh-mlp2-torch-s0-")
    assert plain.startswith("relu-mlp2-torch-s2-")
    for label in ("relu, hidden_1 tanh ", "relu, hidden_2 leaky_relu slope=0.2 ", "relu  "):
        assert any(line.startswith(label) for line in answer.out.splitlines())
    config = yaml.safe_load((tmp_path / "outputs" / "runs" / tanh / "config.yaml").read_text())
    assert config["act"] == {"name": "relu", "by_layer": {"hidden_1": {"name": "tanh"}}}
    (plan,) = (tmp_path / "outputs").glob("sweeps/*/plan.json")
    typed = json.loads(plan.read_text())["members"][tanh]["overrides"]
    assert "act.by_layer={hidden_1:tanh}" in typed


@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_what_is_typed_is_completed_by_the_options(
    plus: str,
    train: Train,  # noqa: F811
    tmp_path: Path,
) -> None:
    typed = f"{plus}act.by_layer={{hidden_*: leaky_relu, hidden_2: {{name: elu, alpha: 2}}}}"
    assert train(typed, "pack.plan=true").out.count("relu+elu+leaky_relu-mlp2-torch-s0-") == 1
    answer = train(typed, "--cfg", "job")
    assert answer.code == 0
    options = {"hidden_*": {"name": "leaky_relu", "slope": 0.01}}
    options["hidden_2"] = {"name": "elu", "alpha": 2.0}
    swept = train("-m", typed, "pack.plan=true", "seed=0,1").out
    config = resolve.resolve({**yaml.safe_load(answer.out), "act": act(**options)})
    assert identity.run_id(config) in swept
    assert not files(tmp_path)


def test_a_run_is_typed_again(
    train: Train,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert train("act.by_layer={hidden_1: leaky_relu}", "logger=disabled").code == 0
    (run_id,) = ids_of(tmp_path / "outputs")
    asked: list[list[str]] = []
    monkeypatch.setattr("actsweep.cli.train.train", lambda words: asked.append(words) or 0)
    assert main(["rerun", run_id]) == 0
    assert "act.by_layer={hidden_1: leaky_relu}" in asked[0]


ERRORS = [
    ("{hidden_1: tnah}", "act.by_layer.hidden_1=tnah: no such name; did you mean act.by_layer."),
    (
        "{hiden_1: tanh}",
        "act.by_layer.hiden_1=tanh: the model has no such activation; did you mean",
    ),
    ("{head: tanh}", "'act.by_layer={hidden_1: tanh}'. Activations: hidden_1, hidden_2"),
    ("{conv_*: tanh}", "act.by_layer.conv_*=tanh: the model has no such activation; "),
    ("{hidden_*: tanh, '*_1': elu}", "can't be read"),
    ("{hidden_*: tanh, *_1: elu}", "act.by_layer: *_1 and hidden_* both match hidden_1; name it"),
    ("tanh", "act.by_layer=tanh: must be a mapping of layers to activations; type for example '"),
    ("{hidden_1: 3}", "act.by_layer.hidden_1=3: must be an activation's name, or a mapping of"),
    ("{hidden_1: {slope: 3}}", "must be an activation's name, or a mapping of name and parameters"),
    ("{hidden_1: {name: elu, alpho: 3}}", "act=elu has no such parameter; leave it out. Known"),
    ("{hidden_1: {name: elu, alpha: -1}}", "act.by_layer.hidden_1.alpha=-1.0: must be above 0"),
    ("{hidden_1: {name: elu, alpha: x}}", "act.by_layer.hidden_1.alpha=x: must be a number"),
    ("{hidden_1: {name: maxout, pieces: 1}}", "act.by_layer.hidden_1.pieces=1: must be an integer"),
    (
        "{hidden_1: tanh},{hidden_2: tanh}",
        "act.by_layer={hidden_1: tanh},{hidden_2: tanh}: several",
    ),
]


@pytest.mark.parametrize(("value", "line"), ERRORS)
def test_mistakes_are_told_before_anything_starts(
    value: str,
    line: str,
    train: Train,  # noqa: F811
    tmp_path: Path,
) -> None:
    answer = train(f"act.by_layer={value}")
    assert (answer.code, answer.out) == (2, "")
    assert line in answer.err
    assert "++" not in answer.err
    assert not files(tmp_path)


MODELS = """
import math

from flax import nnx


class Block(nnx.Module):
    def __init__(self, make, name, inputs, units, named):
        act = {"name": named.format(name)} if named else {}
        self.dense = make.dense(f"{name}.dense", inputs, make.inputs(units, **act))
        self.act = make.act(units, **act)


class Blocks(nnx.Module):
    named = "{}"

    def __init__(self, make, input_shape, outputs):
        self.blocks = nnx.List()
        width = math.prod(input_shape)
        for i in range(3):
            self.blocks.append(Block(make, f"blocks.{i}", width, 8, self.named))
            width = 8
        self.head = make.dense("head", 8, outputs)

    def __call__(self, x):
        x = x.reshape(len(x), -1)
        for block in self.blocks:
            x = block.act(block.dense(x))
        return self.head(x)


class Nameless(Blocks):
    named = ""


class Misnamed(Blocks):
    named = "my_{}"
"""


@pytest.fixture
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "layered_models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("layered_models", None)
    identity._source_digest.cache_clear()


def own(name: str) -> dict[str, Any]:
    return {"name": "mine", "_target_": f"layered_models.{name}"}


@pytest.mark.usefixtures("own_models")
def test_a_model_of_ones_own_names_its_activations_by_path() -> None:
    chosen = act(**{"blocks.[02]": {"name": "swiglu"}, "blocks.1": {"name": "tanh"}})
    network, params, held = drawn(act=chosen, model=own("Blocks"))
    kernels = network.kernels(params)
    widths = [kernels[f"blocks.{i}.dense"].shape[1] for i in range(3)]
    assert widths == [16, 8, 16]
    kept = Intermediates()
    network.forward(params, held, images(), kept)
    np.testing.assert_allclose(
        kept.act["blocks.1"], np.tanh(kept.preact["blocks.1"]), rtol=1e-5, atol=1e-6
    )


@pytest.mark.usefixtures("own_models")
@pytest.mark.parametrize(
    ("model", "changes", "line"),
    [
        ("Nameless", {}, "_target_=layered_models.Nameless doesn't say where its activations are"),
        ("Misnamed", {}, "has made the activation blocks.0 as my_blocks.0; write make.act"),
        ("Blocks", {"init": {"gain": "auto"}}, "init.gain=auto: with act.by_layer it needs the"),
        ("Blocks", {"act": act(blocks={"name": "tanh"})}, "Activations: blocks.0, blocks.1, block"),
        ("Blocks", {"act": act(**{"*": {"name": "tnah"}})}, "act.by_layer.*=tnah: no such name"),
    ],
)
def test_a_model_that_cannot_say_is_refused(model: str, changes: Any, line: str) -> None:
    tanh = act(**{"*": {"name": "tanh"}})
    with pytest.raises(UserError) as raised:
        drawn(**{"act": tanh, "model": own(model), **changes})
    assert line in str(raised.value)


@pytest.mark.usefixtures("own_models")
def test_without_by_layer_models_need_no_names() -> None:
    logits = []
    for model in ("Blocks", "Nameless", "Misnamed"):
        network, params, held = drawn(model=own(model), init={"gain": "auto"})
        assert network.acts == ("blocks.0", "blocks.1", "blocks.2")
        logits.append(np.asarray(network.forward(params, held, images())))
    np.testing.assert_array_equal(logits[0], logits[1])
    np.testing.assert_array_equal(logits[0], logits[2])


def test_an_activation_of_ones_own_by_its_option(
    train: Train,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "layered_acts.py").write_text("def cube(z, power=3.0):\n    return z**3\n")
    (tmp_path / "conf" / "act").mkdir(parents=True)
    (tmp_path / "conf" / "act" / "cubic.yaml").write_text(
        "name: cube\n_target_: layered_acts.cube\npower: 3.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = ("--config-dir", str(tmp_path / "conf"), "act.by_layer={hidden_2: cubic}")
    answer = train(*words, "logger=disabled")
    assert answer.code == 0, answer.err
    (run_id,) = ids_of(tmp_path / "outputs")
    assert run_id.startswith("relu+cube-mlp2-")
    config = yaml.safe_load((tmp_path / "outputs" / "runs" / run_id / "config.yaml").read_text())
    cube = {"name": "cube", "_target_": "layered_acts.cube", "power": 3.0}
    assert config["act"]["by_layer"] == {"hidden_2": cube}
    assert "layered_acts.cube" in identity.identity(resolve.resolve(config))["code"]


CHOICES = (
    {"name": "relu"},
    act(hidden_1="tanh"),
    act(hidden_1="sigmoid"),
    {"name": "tanh"},
)
LABELS = ("relu", "relu, hidden_1 tanh", "relu, hidden_1 sigmoid", "tanh")


def test_the_table_has_a_line_for_each() -> None:
    pairs = [
        make_run(acc=0.9 - 0.1 * i, act=choice, seed=seed)
        for i, choice in enumerate(CHOICES)
        for seed in (0, 1)
    ]
    _, *rows = lines(pairs)
    assert [row.split("  ")[0] for row in rows] == list(LABELS)
    assert [row.split()[len(label.split())] for row, label in zip(rows, LABELS, strict=True)] == [
        "2"
    ] * 4


def test_comparisons_keep_them_apart() -> None:
    entries = [
        entry(0.9 - 0.1 * i + 0.001 * seed, act=choice, seed=seed)
        for i, choice in enumerate(CHOICES)
        for seed in range(3)
    ]
    assert usual_factors(entries) == ["act"]
    comparison = compare(entries, by=("act",))
    assert list(comparison.groups) == [(label,) for label in LABELS]
    assert all(group.n == 3 for group in comparison.groups.values())
    assert not comparison.notes
    assert len(where(entries, ["act=relu"])) == 3
    assert len(where(entries, ["act=relu,tanh"])) == 6
    assert len(where(entries, ["act=relu, hidden_1 tanh"])) == 3
