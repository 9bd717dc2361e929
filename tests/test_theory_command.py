"""`actsweep theory`: what it prints, keeps, draws and refuses; every line of docs/theory.md."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from actsweep.cli.main import main
from actsweep.config import resolve
from actsweep.theory import mean_field as mf
from actsweep.theory.card import card
from actsweep.theory.depth_scales import depth_scale_map, hermite_squares
from actsweep.theory.mean_field import Layer
from actsweep.theory.networks import input_moments
from actsweep.theory.units import unit_of

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "theory.md").read_text()
BLOCKS = re.findall(r"```text\n\$ (actsweep theory .*)\n((?:.*\n)*?)```", PAGE)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["actsweep"])
    monkeypatch.setenv("COLUMNS", "120")


def theory(words, capsys):
    assert main(["theory", *words.split()]) == 0
    return capsys.readouterr().out


# --- the page


def without_paths(text):
    lines = [line.rstrip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("outputs/")]


@pytest.mark.parametrize(("command", "printed"), BLOCKS, ids=[c for c, _ in BLOCKS])
def test_the_page_shows_what_is_printed(command, printed, capsys):
    assert main(shlex.split(command)[1:]) == 0
    out = without_paths(capsys.readouterr().out)
    shown = without_paths(printed)
    assert out[: len(shown)] == shown if shown[-1] != "…" else out[: len(shown) - 1] == shown[:-1]


def test_the_page_names_every_key_of_a_card(capsys):
    (content,) = json.loads(theory("act=tanh depth=3 --json", capsys))
    parts = ("moments", "fixed_point", "layers", "jacobian", "edge")
    keys = {*content, *(key for part in parts for key in content[part])}
    assert {key for key in keys if f"`{key}`" not in PAGE} == set()
    assert len(BLOCKS) == 3


def test_the_page_s_other_commands_work(capsys):
    lines = re.findall(r"^actsweep theory (.*?)(?: +#.*)?$", PAGE, flags=re.M)
    lines = [line for line in lines if not line.startswith("--run")]  # of a run that was trained
    assert len(lines) == 6
    for line in lines:
        assert main(["theory", *shlex.split(line)]) == 0, line


# --- what it says


def test_the_published_swish_point_is_named_unstable(capsys):
    words = "act=swish,tanh init=normal init.sigma_w=1.718 init.sigma_b=0.2 depth=5"
    swish, tanh = json.loads(theory(f"{words} --json", capsys))
    assert swish["fixed_point"] is None
    assert swish["verdict"].startswith("unstable: no fixed point attracts q")
    assert "Q' = 1.099 > 1: no edge of chaos" in swish["verdict"]
    assert tanh["verdict"].startswith("chaotic: chi_1 = ")
    out = theory(words, capsys)
    assert re.search(r"^swish .* unstable\s*$", out, flags=re.M)


def test_a_start_above_an_unstable_fixed_point_is_named(capsys):
    (content,) = json.loads(theory("act=squared_relu init=he_normal depth=2 --json", capsys))
    assert content["fixed_point"] is None
    stable = [point["stable"] for point in content["fixed_points"]]
    assert stable == [True, False]
    assert content["verdict"].startswith("unstable")


def test_relu_at_its_edge_and_identity(capsys):
    relu, identity = json.loads(theory("act=relu,identity init=he_normal depth=4 --json", capsys))
    assert relu["verdict"].startswith("edge of chaos")
    assert relu["fixed_point"]["xi_c"] is None
    assert relu["edge"]["here"][0]["sigma_w2"] == pytest.approx(2)
    assert relu["born_dead"] == pytest.approx(4 * 2.0**-256)
    assert identity["verdict"].startswith("unstable")
    assert identity["born_dead"] is None


def test_constant_output_is_no_error(capsys):
    """A network whose weights are 0."""
    (content,) = json.loads(theory("act=tanh init=normal init.sigma_w=0 depth=2 --json", capsys))
    assert content["fixed_point"]["q"] == 0
    assert content["layers"]["second"] == [0, 0]
    theory("act=tanh init=normal init.sigma_w=0 depth=2", capsys)


def test_a_jacobian_beyond_every_number(capsys):
    out = theory("act=tanh init=normal init.sigma_w=40 depth=256", capsys)
    assert "Jacobian of 256 layers at q*: mean of J Jᵀ –, normalised variance" in out


def test_narrow_networks_of_one_input_are_born_dead(capsys):
    """As published, 0.631 of width 3 and depth 10; for one input 0.737."""
    words = "act=relu init=he_normal depth=10 depth.width=3 data=quadratic --data"
    out = theory(words, capsys)
    assert "born dead for one input: probability 0.737" in out
    (content,) = json.loads(theory(f"{words} --json", capsys))
    dead = content["born_dead_everywhere"]
    assert dead["share"] == pytest.approx(0.631, abs=0.0035 + 3 * dead["error"])
    assert f"born dead for all inputs: {dead['share']:.3g} ± 0.003" in out
    others = (("width=3", "width=17"), ("he_normal", "torch_uniform"), ("relu", "relu6"))
    for old, new in others:
        (content,) = json.loads(theory(f"{words.replace(old, new)} --json", capsys))
        assert content["born_dead_everywhere"] is None


def test_the_card_agrees_with_the_maps():
    init = {"name": "normal", "sigma_w": 1.5**0.5, "sigma_b": 0.05**0.5}
    run = resolve.resolve({"act": {"name": "tanh"}, "init": init, "depth": {"layers": 40}})
    content = card(run, 1.0, 0.0)
    point = content["fixed_point"]
    assert (point["q"], point["chi_1"]) == pytest.approx((0.41804, 0.93864), abs=1e-5)
    assert point["trainable_depth"] == pytest.approx(6 * 15.79, abs=0.1)
    assert content["layers"]["second"][-1] == pytest.approx(point["q"], abs=1e-6)
    assert content["jacobian"]["mean"] == pytest.approx(point["chi_1"] ** 40)
    ratio = content["layers"]["preact_gradient"][20] ** 2
    assert ratio == pytest.approx(point["chi_1"] ** 19, rel=1e-3)


def test_a_normalised_card_has_the_fixed_point_of_its_map():
    """c* by iterating the map of the drawn-network tests, q = 1 throughout."""
    init = {"name": "normal", "sigma_w": 2.0, "sigma_b": 1.5}
    config = {"act": {"name": "gelu"}, "init": init, "depth": {"layers": 250, "width": 8}}
    content = card(resolve.resolve(config | {"model": {"norm": "layer"}}), 1.0, 0.0)
    point = content["fixed_point"]
    assert point["q"] == 1
    assert point["c"] == pytest.approx(content["layers"]["correlation"][-1], abs=1e-4)
    gradients = content["layers"]["preact_gradient"]
    assert point["chi_1"] == pytest.approx((gradients[100] / gradients[101]) ** 2, rel=1e-6)
    assert content["layers"]["band"][0] is None
    assert content["edge"] is content["jacobian"] is None


def test_depth_scales_over_both_variances():
    """The Hermite series against the solved maps."""
    tanh, biases = unit_of({"name": "tanh"}), np.array([0.0, 0.05])
    q = np.array([0.41804, 1.06396])
    scales = depth_scale_map(tanh, q, biases)
    assert scales.sigma_w2[:, 1] == pytest.approx((1.5, 2.5), abs=1e-4)
    assert scales.xi_c[:, 1] == pytest.approx((15.79, 11.8), rel=2e-3)
    assert scales.stable.all()
    layer = Layer(float(scales.sigma_w2[1, 0]), 0.0)
    slope = mf.correlation_slope(tanh, layer, q[1], mf.fixed_correlation(tanh, layer, q[1]))
    assert scales.xi_c[1, 0] == pytest.approx(mf.depth_scale(slope), rel=1e-3)
    gelu = unit_of({"name": "gelu"})
    powers = 0.6 ** np.arange(40)
    product = hermite_squares(gelu, 2.0, 40) @ powers
    assert product == pytest.approx(gelu.pair(2.0, 0.6)[0], rel=1e-8)


def test_inputs_from_the_data(capsys):
    (content,) = json.loads(theory("act=tanh data=digits depth=2 --data --json", capsys))
    from sklearn.datasets import load_digits

    x = load_digits().images.reshape(1797, -1) / 8 - 1
    cosines = x @ x.T / np.outer(*[np.linalg.norm(x, axis=1)] * 2)
    assert content["q_0"] == pytest.approx((x**2).mean(), rel=0.01)
    off = cosines[~np.eye(len(x), dtype=bool)].mean()
    assert content["c_0"] == pytest.approx(off, abs=0.01)
    assert content["widths"][0] == 64


def test_moments_of_inputs():
    x = np.array([[3.0, 4.0], [4.0, 3.0], [0.0, 0.0]])
    assert input_moments(x) == pytest.approx((50 / 6, 2 * 0.96 / 6))


def test_a_user_s_own_activation(tmp_path, capsys):
    """As docs/extending.md has it; edited, it is another card."""
    module = tmp_path / "my_bends.py"
    module.write_text(
        "import jax.numpy as jnp\n\ndef bent(z, bend=0.5):\n"
        "    return z + bend * (jnp.sqrt(z * z + 1) - 1)\n"
    )
    (tmp_path / "conf" / "act").mkdir(parents=True)
    text = "name: bent\n_target_: my_bends.bent\nbend: 0.5\n"
    (tmp_path / "conf" / "act" / "bent.yaml").write_text(text)
    init = "init=normal init.sigma_w=0.8 init.sigma_b=0.3"
    words = f"act=bent act.bend=0.25 depth=2 {init} --config-dir conf --json"
    (content,) = json.loads(theory(words, capsys))
    z = np.linspace(-10, 10, 200_001) * content["fixed_point"]["q"] ** 0.5
    f = z + 0.25 * (np.sqrt(z * z + 1) - 1)
    density = np.exp(-(z**2) / 2 / content["fixed_point"]["q"])
    assert content["moments"]["second"] == pytest.approx(np.average(f * f, weights=density))
    files = {*Path("outputs/theory").iterdir()}
    module.write_text(module.read_text().replace("+ 1) - 1", "+ 4) - 2"))
    from actsweep.config import identity

    identity._source_digest.cache_clear()
    assert len(json.loads(theory(words, capsys))) == 1
    assert len({*Path("outputs/theory").iterdir()} - files) == 1


# --- what it keeps


def test_a_card_is_kept_and_drawn_once(capsys, monkeypatch):
    words = "act=tanh,geglu init=lecun_normal depth=3"
    first = theory(words, capsys)
    figures = sorted(Path("outputs/theory").glob("*.png"))
    assert [path.name.partition("-")[0] for path in figures] == ["geglu", "tanh"]
    for path in figures:
        image = np.asarray(Image.open(path).convert("L"))
        assert min(image.shape) > 500
        assert image.std() > 20
        assert str(path) in first
    monkeypatch.setattr("actsweep.cli.theory.card", None)  # nothing is computed again
    times = [path.stat().st_mtime_ns for path in figures]
    assert theory(words, capsys) == first
    assert [path.stat().st_mtime_ns for path in figures] == times


def test_what_makes_no_difference_makes_no_card(capsys):
    out = theory("act=tanh depth=3 seed=0,1 optim.lr=0.1,0.2", capsys)
    assert len([*Path("outputs/theory").iterdir()]) == 2
    assert out.count("fixed points of q") == 1


@pytest.mark.parametrize("model", ["model.norm=layer", "model.residual=true"])
def test_other_networks_are_drawn(model, capsys):
    out = theory(f"act=gelu depth=3 init=he_normal {model}", capsys)
    assert len([*Path("outputs/theory").glob("*.png")]) == 1
    assert "no edge, no band" in out or "no theory here for fixed points" in out


def test_json_draws_nothing_and_has_no_infinity(capsys):
    out = theory("act=relu init=he_normal depth=3 --json", capsys)
    assert "Infinity" not in out
    assert "NaN" not in out
    assert [path.suffix for path in Path("outputs/theory").iterdir()] == [".json"]


# --- what it refuses


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("act=softmax", "act=softmax: its units depend on each other, and there is no theory here"),
        ("act=rleu", "act=rleu: no such name; did you mean act=relu?"),
        ("act=tanh,softmax", "act=softmax: its units depend on each other"),
        ("model=cnn", "model=cnn: there is no theory here for it; type model=mlp"),
        ("act=tanh init.sigma_b=-1", "init.sigma_b=-1.0: must be a number of at least 0; type"),
        ("tanh", "tanh: must be KEY=VALUE; type for example act=tanh,relu"),
        ("act=tanh --q0 0", "--q0=0.0: must be a number above 0; type for example --q0 1.0"),
        ("act=tanh --c0 2", "--c0=2.0: must be a number from -1 to 1; type for example --c0 0.0"),
        ("act=tanh --data --q0 1", "--q0: not with --data, which measures it; leave one of them"),
        ("act=tanh --config-dir nowhere", "--config-dir=nowhere: no such folder; type that of"),
        ("data=pydocs --data", "model=mlp: takes numbers, and data=pydocs has tokens; type for"),
        ("act=tanh init.sigm=1", "init.sigm: no such key; did you mean"),
        ("act=geglu init=he_normal depth=20", "act=geglu: E[f²] is infinite, or too large for"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(words, line, capsys):
    assert main(["theory", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert err.splitlines()[-1].startswith(f"error: {line}")
    assert err.count("error:") == 1
    assert out == ""
    assert not Path("outputs").exists()


def test_no_jax_for_the_catalogue():
    code = (
        "import sys\nfrom actsweep.cli.main import main\n"
        "main(['theory', 'act=tanh', 'depth=3', '--json'])\nassert 'jax' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
