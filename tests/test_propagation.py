"""`actsweep experiment isometry` and `phase-diagram`: against theory, NumPy and a small grid."""

import math

import numpy as np
import pytest

from actsweep.cli.main import main
from actsweep.sweeps.plan import read_plan
from actsweep.theory.mean_field import Layer
from actsweep.theory.units import unit_of
from actsweep_tutorials import isometry, phase_diagram
from actsweep_tutorials.base import measure, resolve_parameters
from actsweep_tutorials.catalogue import get

# --- isometry


def test_the_singular_values_are_those_of_the_jacobian():
    """By finite differences through the same draws."""
    unit, layer = unit_of({"name": "tanh"}), Layer(1.2, 0.01)

    def network(x, rng):
        rng.standard_normal(6)  # of the input, which is given
        for _ in range(3):
            weights = math.sqrt(1.2) * rng.standard_normal((6, 6)) / math.sqrt(6)
            x = np.tanh(weights @ x + 0.1 * rng.standard_normal(6))
        return x

    x = np.random.default_rng(3).standard_normal(6)
    x *= math.sqrt(6 * (0.5 - 0.01) / 1.2) / np.linalg.norm(x)
    step = 1e-6
    columns = [
        (
            network(x + step * e, np.random.default_rng(3))
            - network(x - step * e, np.random.default_rng(3))
        )
        / (2 * step)
        for e in np.eye(6)
    ]
    expected = np.linalg.svd(np.stack(columns, -1), compute_uv=False) ** 2
    found = isometry.squared_singular_values(
        unit, layer, 0.5, 3, 6, orthogonal=False, rng=np.random.default_rng(3)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.fixture(scope="module")
def cells():
    experiment = get("isometry")
    params = resolve_parameters(experiment, ("depth=10", "width=200", "networks=8"))
    result = measure(experiment, params)
    return {(cell["act"], cell["init"]): cell for cell in result["cells"]}, result


def test_a_spectrum_has_the_published_spread(cells):
    found, _ = cells
    assert found["tanh", "orthogonal"]["theory_spread"] == pytest.approx(0.397, abs=5e-4)
    assert found["relu", "orthogonal"]["theory_spread"] == pytest.approx(10)
    for (act, init), cell in found.items():
        # To first order in depth / width, the largest of the relative errors at a finite width.
        assert cell["mean"] == pytest.approx(1, abs=3 * cell["mean_error"])
        near = 3 * cell["spread_error"] + 0.1 * cell["theory_spread"]
        assert cell["spread"] == pytest.approx(cell["theory_spread"], abs=near), (act, init)
        assert cell["spread_error"] < 0.2 * cell["theory_spread"]


def test_orthogonal_tanh_alone_keeps_its_spread(cells):
    found, result = cells
    spread = {key: cell["spread"] for key, cell in found.items()}
    assert spread["tanh", "orthogonal"] < 0.1 * min(
        value for key, value in spread.items() if key != ("tanh", "orthogonal")
    )
    assert set(isometry.draw(result)) == {"spread"}
    (table,) = isometry.tables(result)
    assert len(table.rows) == 4
    assert all(len(row) == len(table.heading) for row in table.rows)


# --- phase diagram


@pytest.mark.parametrize(("sigma_w2", "xi_c"), [(1.0, 3.63), (1.5, 15.79), (2.5, 11.8)])
def test_the_depth_scale_is_the_published_one(sigma_w2, xi_c):
    found = phase_diagram.correlation_depth(
        unit_of({"name": "tanh"}), math.sqrt(sigma_w2), math.sqrt(0.05)
    )
    assert found == pytest.approx(xi_c, abs=0.05)


def test_trainable_depths_are_where_accuracy_falls_by_half():
    accuracy = np.array(
        [
            [0.9, 0.9, 0.1, 0.9],
            [0.9, 0.7, 0.1, 0.7],
            [0.9, 0.3, 0.1, np.nan],  # which diverged
        ]
    )
    depths = phase_diagram.trainable_depths(accuracy, [10, 20, 40])
    assert depths.tolist() == [
        40,
        pytest.approx(20 * math.sqrt(2)),
        10,
        pytest.approx(20 * 2 ** (1 / 3)),
    ]


def test_ranks_are_correlated_seed_by_seed():
    unit, sigmas = unit_of({"name": "tanh"}), [1.0, 1.1, 1.2]  # xi_c rises with sigma_w
    rising = [[0.9, 0.9, 0.9], [0.1, 0.3, 0.9]]
    falling = [[0.9, 0.9, 0.9], [0.9, 0.3, 0.1]]
    found = phase_diagram.depth_correlation(
        np.array([rising, rising, falling]), [4, 8], unit, sigmas, 0.2
    )
    assert found["rank"] == [1, 1, -1]
    assert found["mean"] == pytest.approx(1 / 3)
    assert found["half_width"] == pytest.approx(4.3027 * np.std([1, 1, -1], ddof=1) / 3**0.5, 1e-4)
    flat = np.full((1, 2, 3), 0.5)
    alone = phase_diagram.depth_correlation(flat, [4, 8], unit, sigmas, 0.2)
    assert math.isnan(alone["mean"])


@pytest.mark.slow
def test_a_small_grid_is_trained_in_packs(tmp_path):
    words = "depth=2,30 sigma_w=1.0,1.3,1.34 seeds=2 epochs=3 width=48 lr=0.02"
    assert main(["experiment", "phase-diagram", *words.split(), "--outputs", str(tmp_path)]) == 0
    folder = tmp_path / "experiments" / "phase-diagram"
    assert "Rank correlation of trainable depth with xi_c" in (folder / "README.md").read_text()
    assert (folder / "accuracy.png").stat().st_size > 5_000
    assert len([*tmp_path.glob("runs/*/status.json")]) == 12
    plans = [read_plan(path, to_train=False) for path in (tmp_path / "sweeps").iterdir()]
    assert [len(plan.runs) for plan in plans] == [12]
    assert len({member.pack_key for member in plans[0].runs.values()}) == 2  # one a depth
