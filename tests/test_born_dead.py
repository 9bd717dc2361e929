"""`actsweep experiment born-dead`: shares of networks that are constant, against plain NumPy."""

import math

import numpy as np
import pytest

from actsweep.theory.jacobian import born_dead_on_line
from actsweep_tutorials import born_dead
from actsweep_tutorials.base import measure, resolve_parameters
from actsweep_tutorials.catalogue import get

NETWORKS = 2000
SMALL = {"width": (2,), "depth": (2, 5), "networks": NETWORKS}


@pytest.fixture(scope="module")
def result():
    experiment = get("born-dead")
    return measure(experiment, resolve_parameters(experiment, ()) | SMALL)


def asymmetric_share(width, depth, rng):
    """Lu et al.'s draw, unit by unit: one of the fan_in + 1 numbers is Beta(2, 1)."""
    dead = 0
    x = np.linspace(-math.sqrt(3), math.sqrt(3), born_dead.INPUTS)[:, None]
    for _ in range(NETWORKS):
        a = x
        for _ in range(depth):
            fan_in = a.shape[1]
            both = rng.standard_normal((fan_in + 1, width)) * 0.6007 / math.sqrt(fan_in)
            for unit in range(width):
                both[rng.integers(fan_in + 1), unit] = rng.beta(2, 1)
            a = np.maximum(a @ both[:-1] + both[-1], 0)
            if not a.any():
                dead += 1
                break
    return dead / NETWORKS


def test_he_s_draw_is_born_dead_as_published(result):
    """Width 2, five hidden layers: 0.620, by 20,000 networks of two independent programs."""
    shallow, deep = result["cells"]
    assert (shallow["depth"], deep["depth"]) == (2, 5)
    error = math.sqrt(0.62 * 0.38 / NETWORKS)
    assert deep["share"]["he_normal"] == pytest.approx(0.620, abs=3 * error)
    share, _ = born_dead_on_line([2, 2])
    assert shallow["share"]["he_normal"] == pytest.approx(share, abs=3 * error)
    assert shallow["one_input"] == pytest.approx(1 - (1 - 1 / 4) ** 2)
    assert deep["one_input"] == pytest.approx(1 - (3 / 4) ** 5)
    assert deep["share"]["he_normal"] < deep["one_input"]


def test_the_asymmetric_draw_is_born_dead_less_often(result):
    deep = result["cells"][1]
    expected = asymmetric_share(2, 5, np.random.default_rng(0))
    error = math.sqrt(2 * expected * (1 - expected) / NETWORKS)
    assert deep["share"][born_dead.REMEDY] == pytest.approx(expected, abs=3 * error)
    assert deep["share"][born_dead.REMEDY] < 0.7 * deep["share"]["he_normal"]


def test_tables_and_figures(result):
    (table,) = born_dead.tables(result)
    assert [row[:2] for row in table.rows] == [[2, 2], [2, 5]]
    assert table.rows[1][2] == pytest.approx(100 * result["cells"][1]["share"]["he_normal"])
    (figure,) = born_dead.draw(result).values()
    assert len(figure.axes[0].lines) == 4
