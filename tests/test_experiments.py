"""Tests of the tutorials' experiments: their numbers, their files, and bad input."""

import json
import re
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from actsweep import activations
from actsweep.cli.main import main
from actsweep.config.conf_dir import conf_dir
from actsweep.report import plotting
from actsweep_tutorials import (
    base,
    batchnorm_as_activation,
    catalogue,
    gallery,
    gradient_flow,
    jacobians,
    networks,
    numerics,
)
from actsweep_tutorials.networks import NetworkInspector

QUICK = ("data=digits",)


def test_list_shows_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in catalogue.EXPERIMENTS)
    expected = (
        "gallery gradient-scan signal-through-layers dead-units circle xor xor-signs "
        "linear-collapse jacobians batchnorm-as-activation gradient-flow activation-distributions "
        "dead-neurons tutorial3 depth dying-relu architectures output-layers"
    )
    assert set(expected.split()) <= set(catalogue.EXPERIMENTS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["galery"], "experiment=galery: no such name; did you mean experiment=gallery?"),
        (["gallery", "act=rleu"], "act=rleu: no such name; did you mean act=relu?"),
        (["gallery", "act="], "act=: must be a list with commas; type for example act=sigmoid,"),
        (["gallery", "relu"], "relu: must be key=value; type for example act="),
        (["gallery", "seeds=3"], "experiment=seeds: no such name"),
        (
            ["circle", "epochs=many"],
            "epochs=many: must be a whole number; type for example epochs=",
        ),
        (["circle", "epochs=0"], "epochs=0: must be at least 1"),
        (["dead-units", "shift=low"], "shift=low: must be a number; type for example shift=0.0,"),
        (["gallery", "cost=yes"], "cost=yes: must be true or false; type for example cost=true"),
        (["circle", "act=glu"], "act=glu: acts on several units at once"),
        (
            ["gradient-flow", "init=he", "act=relu"],
            "init=he: no such name; did you mean init=he_normal?",
        ),
        (["batchnorm-as-activation", "units=7"], "units=7: must be even: groups and maxout"),
        (["batchnorm-as-activation", "examples=1"], "examples=1: must be at least 2: one has no"),
        (["images", "data=circle"], "data=circle: must be a set of images; type for example data="),
        (["depth", "sedes=3"], "experiment=sedes: no such name; did you mean experiment=seeds?"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["experiment", *words, "--outputs", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert not out
    assert not list(tmp_path.iterdir())


def test_other_words_are_overrides_of_train_py() -> None:
    params = base.resolve_parameters(
        catalogue.get("depth"), ("seeds=2", "optim.lr=0.1", "data=digits")
    )
    assert params["seeds"] == 2
    assert params["overrides"] == ("optim.lr=0.1", "data=digits")


def test_an_experiment_writes_page_figures_and_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["experiment", "gradient-scan", "act=relu,tanh", "--outputs", str(tmp_path)]
    assert main(words) == 0
    folder = tmp_path / "experiments" / "gradient-scan"
    assert {p.name for p in folder.iterdir()} == {
        "README.md",
        "result.json",
        "scan.png",
        "scan.svg",
    }
    page = (folder / "README.md").read_text()
    assert "actsweep experiment gradient-scan act=relu,tanh" in page
    assert "![scan](scan.png)" in page
    assert "| relu | 51 |" in page
    written = json.loads((folder / "result.json").read_text())
    assert written["found"]["share"] == {"relu": 0.51, "tanh": 0.41}
    assert "Claims" not in page  # those are about the parameters that are the default
    first = (folder / "scan.png").read_bytes(), (folder / "scan.svg").read_bytes()
    assert main(words) == 0
    assert first == ((folder / "scan.png").read_bytes(), (folder / "scan.svg").read_bytes())
    capsys.readouterr()
    assert main(["experiment", "gradient-scan", "--outputs", str(tmp_path)]) == 0
    assert "**holds**" in (folder / "README.md").read_text()


def test_every_activation_has_its_own_style() -> None:
    assert set(plotting.STYLES) == set(activations.ACTIVATIONS)
    assert len(set(plotting.STYLES.values())) == len(plotting.STYLES)
    assert plotting.line_style("mine")["label"] == "mine"


@pytest.mark.slow
def test_gallery_of_every_kind() -> None:
    result = base.measure(
        gallery.EXPERIMENT, {"act": ("gelu", "relu", "glu", "maxout", "softmax"), "cost": True}
    )
    gelu = result["cards"]["gelu"]
    lowest = mp.findroot(lambda z: mp.ncdf(z) + z * mp.npdf(z), -0.75)
    assert gelu["smallest_at"] == pytest.approx(float(lowest), abs=1e-3)
    assert gelu["smallest"] == pytest.approx(float(lowest * mp.ncdf(lowest)), abs=1e-6)
    for key, power in (("mean", 1), ("square", 2)):
        exact = mp.quad(lambda z, p=power: (z * mp.ncdf(z)) ** p * mp.npdf(z), [-12, 0, 12])
        assert gelu[key] == pytest.approx(float(exact), rel=1e-5)
    exact = mp.quad(lambda z: (mp.ncdf(z) + z * mp.npdf(z)) ** 2 * mp.npdf(z), [-12, 0, 12])
    assert gelu["slope_square"] == pytest.approx(float(exact), rel=1e-5)
    assert not gelu["monotone"]
    assert result["cards"]["relu"]["monotone"]
    assert result["cards"]["relu"]["flat_left"] == {"small": 0.0, "zero": 0.0}
    z = np.array(result["z"])
    np.testing.assert_allclose(result["curves"]["glu"]["value"], 1 / (1 + np.exp(-z)), rtol=1e-5)
    np.testing.assert_allclose(result["curves"]["maxout"]["value"], np.maximum(z, 0))
    np.testing.assert_allclose(
        result["curves"]["softmax"]["value"], np.exp(z) / (np.exp(z) + 2), rtol=1e-5
    )
    assert all(0 < ns < 1e4 for cost in result["costs"].values() for ns in cost.values())
    assert {"gallery", *result["curves"]} == set(gallery.draw(result))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (jacobians.layer_norm, nn.LayerNorm(epsilon=1e-5, use_bias=False, use_scale=False)),
        (jacobians.group_norm, nn.GroupNorm(2, epsilon=1e-5, use_bias=False, use_scale=False)),
    ],
)
def test_norms_are_flax_s(ours, theirs) -> None:
    z = jax.random.normal(jax.random.key(3), (8,))
    with jax.numpy_rank_promotion("allow"):
        expected = theirs.apply({}, z[None])[0]
    np.testing.assert_allclose(ours(z), expected, rtol=1e-4, atol=1e-5)


def test_batch_and_local_response_norm() -> None:
    z = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    expected = (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5)
    np.testing.assert_allclose(jacobians.batch_norm(jnp.asarray(z)), expected, atol=1e-5)
    row = z[0]
    local = [
        row[i] / (2 + 1e-4 * sum(row[j] ** 2 for j in range(8) if abs(i - j) <= 2)) ** 0.75
        for i in range(8)
    ]
    np.testing.assert_allclose(jacobians.local_response_norm(jnp.asarray(row)), local, rtol=1e-5)


def test_jacobians() -> None:
    result = base.measure(jacobians.EXPERIMENT, {"act": ("tanh", "softmax"), "sizes": (8, 32)})
    assert result["off_diagonal"]["tanh"] == {"largest": 0, "share": 0}
    assert result["off_diagonal"]["batch_norm"]["share"] == 0 < result["batch_norm_over_examples"]
    assert result["flops"]["error"] < 1e-6
    assert result["flops"]["dense_exponent"] > 1.5 > result["flops"]["product_exponent"]
    assert set(jacobians.draw(result)) == {"jacobians", "cost"}


def test_off_diagonal_entries_belong_to_other_units() -> None:
    gated = jnp.concatenate([jnp.eye(3), 2 * jnp.eye(3)], axis=1)
    assert not jacobians._off_diagonal(gated).any()
    assert jacobians._off_diagonal(jnp.ones((3, 6))).sum() == 12


def test_what_normalisations_couple() -> None:
    """Beside differences in NumPy; each mean and variance that is removed costs two ranks."""
    experiment = batchnorm_as_activation.EXPERIMENT
    result = base.measure(experiment, {"examples": 4, "units": 8, "seed": 0})
    assert max(result["formula_error"].values()) < 1e-5
    maps = result["maps"]
    z = np.asarray(jax.random.normal(jax.random.key(0), (4, 8)), np.float64)

    def normalised(z: np.ndarray, axis: int) -> np.ndarray:
        centred = z - z.mean(axis, keepdims=True)
        return centred / np.sqrt(z.var(axis, keepdims=True) + 1e-5)

    for name, axis in (("layer_norm", 1), ("batch_norm", 0)):
        columns = []
        for place in range(32):
            step = 1e-5 * np.eye(32)[place].reshape(4, 8)
            change = normalised(z + step, axis) - normalised(z - step, axis)
            columns.append(change.reshape(-1) / 2e-5)
        expected = np.stack(columns, axis=1)
        np.testing.assert_allclose(maps[name]["jacobian"], expected, atol=1e-4)
    ranks = {name: found["rank"] for name, found in maps.items()}
    lost = {"softmax": 4, "layer_norm": 2 * 4, "group_norm": 2 * 2 * 4, "batch_norm": 2 * 8}
    assert {name: 32 - ranks[name] for name in lost} == lost
    assert ranks["maxout"] == maps["maxout"]["outputs"] == 16
    assert ranks["relu"] == (z > 0).sum()
    coupled = {name: batchnorm_as_activation._couples(found) for name, found in maps.items()}
    assert coupled == {
        **dict.fromkeys(("softmax", "layer_norm", "group_norm", "local_response_norm"), "units"),
        **dict.fromkeys(("relu", "maxout", "batch_norm_evaluated"), "each alone"),
        "batch_norm": "examples",
    }
    assert set(batchnorm_as_activation.draw(result)) == {"jacobians"}
    assert len(batchnorm_as_activation.tables(result)[0].rows) == len(maps)


def test_infinite_values_are_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    assert numerics._finite("tanh") == {"float32": True, "bfloat16": True}
    broken = activations.custom("test_experiments.by_hand", {})
    monkeypatch.setitem(activations.ACTIVATIONS, "tanh", broken)
    assert numerics._finite("tanh") == {"float32": False, "bfloat16": False}


def by_hand(z):
    return (jnp.exp(z) - jnp.exp(-z)) / (jnp.exp(z) + jnp.exp(-z))


def test_networks_are_those_of_train_py(tmp_path: Path) -> None:
    """Composed alike, drawn alike; gradients are those that JAX takes of the written-out loss."""
    run = networks.compose_run("act=relu", *QUICK, "depth=2", "depth.width=16", "seed=3")
    assert run.widths == (16, 16)
    inspector = NetworkInspector()
    network = inspector.initialised(run)
    shifted = inspector.initialised(
        networks.compose_run(
            "act=relu", *QUICK, "depth=2", "depth.width=16", "seed=3", "init.bias=-0.5"
        )
    )
    layers = network.params["layers"]
    for name in layers:
        ours, theirs = layers[name], shifted.params["layers"][name]
        np.testing.assert_array_equal(ours["kernel"][...], theirs["kernel"][...])
        np.testing.assert_allclose(ours["bias"][...] - 0.5, theirs["bias"][...], atol=1e-7)
    examples = inspector.dataset(run)
    x = (
        examples.train_x[:256].astype(np.float32).reshape(256, -1) * examples.scale
        + examples.offset
    )

    def loss(w):
        h = jax.nn.relu(x @ w + jnp.broadcast_to(layers["hidden_1"]["bias"][...], (256, 16)))
        for name in ("hidden_2", "head"):
            h = h @ layers[name]["kernel"][...]
            h = h + jnp.broadcast_to(layers[name]["bias"][...], h.shape)
            h = jax.nn.relu(h) if name == "hidden_2" else h
        logp = jax.nn.log_softmax(h)
        return -jnp.mean(logp[jnp.arange(256), examples.train_y[:256]])

    view = inspector.probe_first_batch(network)
    assert list(view["grads"]) == ["hidden_1", "hidden_2", "head"]
    expected = jax.grad(loss)(layers["hidden_1"]["kernel"][...])
    np.testing.assert_allclose(view["grads"]["hidden_1"], expected, rtol=1e-4, atol=1e-7)
    silent = inspector.silent_units(shifted)
    z = inspector.probe(shifted, examples.train_x, examples.train_y)["preact"]["hidden_1"]
    np.testing.assert_array_equal(silent["hidden_1"], (z <= 0).all(axis=0))
    assert silent["hidden_1"].any()


@pytest.mark.slow
def test_gradient_flow_by_init() -> None:
    words = ("act=sigmoid,relu", "init=torch_uniform,he_normal", "seeds=2", "data=digits")
    words = (*words, "batches=1")
    result = base.measure(
        gradient_flow.EXPERIMENT, base.resolve_parameters(gradient_flow.EXPERIMENT, words)
    )
    run = networks.compose_run("depth=tutorial", "act=relu", "init=he_normal", *QUICK, "seed=1")
    inspector = NetworkInspector()
    grads = inspector.probe_first_batch(inspector.initialised(run))["grads"]
    for layer, histogram in result["inits"]["he_normal"]["relu"].items():
        assert histogram["norm"][1] == pytest.approx(np.linalg.norm(grads[layer]), rel=1e-5)
        assert sum(histogram["counts"]) == grads[layer].size
        assert histogram["largest_by_batch"][1] == [pytest.approx(np.abs(grads[layer]).max())]
    assert result["deep"]["he_normal"]["relu"]["ratio"][0][-1] == 1
    assert result["one_sign"]["example"] == 1
    assert set(gradient_flow.draw(result)) == {"histograms", "ten-layers"}


def test_hydra_s_global_state_is_restored() -> None:
    before = GlobalHydra.instance().hydra
    networks.compose_run("act=relu")
    assert GlobalHydra.instance().hydra is before
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        inside = GlobalHydra.instance().hydra
        networks.compose_run("act=tanh")
        assert GlobalHydra.instance().hydra is inside


@pytest.mark.parametrize(
    "page", ["README.md", "docs/gallery.md", "docs/models.md", "docs/results.md"]
)
def test_commands_on_pages_are_valid(page: str) -> None:
    text = (Path(__file__).parents[1] / page).read_text()
    typed = re.findall(r"^actsweep experiment ([a-z0-9-]+)([^#\n]*)", text, re.M)
    assert typed
    for name, words in typed:
        if name != "list":
            base.resolve_parameters(catalogue.get(name), words.split())
