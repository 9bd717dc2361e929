"""The performance page says what was measured; the kernels that it compares count alike."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from actsweep.callbacks.histograms import VALUE_EDGES
from benchmarks import kernels, page, speed

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "cpu-2-cores.json"


def test_the_page_holds_the_saved_figures() -> None:
    found = json.loads(RESULTS.read_text())
    assert found.keys() == speed.SECTIONS.keys()
    text = page.PAGE.read_text()
    assert page.fill(text, found) == text


def test_a_target_is_met_or_not() -> None:
    assert speed.target("a", 1.0, 1.05)["met"]
    assert not speed.target("a", 1.1, 1.05)["met"]
    assert speed.target("a", 1.1, 1.05, at_most=False)["met"]
    assert "**not met**" in page.table({"s": {"targets": [speed.target("a", 2, 1)]}})


@pytest.mark.parametrize("name", kernels.KERNELS)
def test_every_histogram_kernel_counts_as_numpy_does(name: str) -> None:
    x = np.asarray(jax.random.normal(jax.random.key(1), (64, 64)) * 4)
    below = [(x < VALUE_EDGES[0]).sum()]
    inside = list(np.histogram(x, VALUE_EDGES)[0])
    expected = [*below, *inside, (x >= VALUE_EDGES[-1]).sum()]
    assert np.asarray(kernels.KERNELS[name](jax.numpy.asarray(x))).tolist() == expected


def test_the_flops_of_a_step() -> None:
    """6 a weight and example, without the first layer's input gradient."""
    weights = 784 * 512 + 512 * 256 + 256 * 256 + 256 * 128 + 128 * 10
    assert speed.step_flops() == 256 * (6 * weights - 2 * 784 * 512)
