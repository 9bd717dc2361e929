"""Variances by source: formulas against loops and SciPy, intervals against simulation."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from jaxtyping import Float
from scipy import stats

from actsweep.stats import variance
from actsweep.stats.power import power

RNG = np.random.default_rng(0)
Draw = Callable[[tuple[int, ...]], Float[np.ndarray, "..."]]
SCATTERS: dict[str, Draw] = {
    "normal": lambda shape: RNG.normal(size=shape),
    "uniform": lambda shape: RNG.uniform(size=shape),
    "Student t, 10 degrees": lambda shape: RNG.standard_t(10, shape),
    "skewed (lognormal, 0.2)": lambda shape: RNG.lognormal(0, 0.2, shape),
    "accuracies of 300 images": lambda shape: np.round(300 * RNG.normal(0.96, 0.006, shape)) / 300,
}
TRIALS = 10_000
LEAST_COVERAGE = 0.94


def holds(interval: np.ndarray, true: float) -> bool:
    """Whether enough of the intervals hold the true value."""
    share = ((interval[0] <= true) & (true <= interval[1])).mean()
    return bool(share >= LEAST_COVERAGE)


@pytest.mark.parametrize("runs", [5, 10, 20, 30])
@pytest.mark.parametrize("name", SCATTERS)
def test_intervals_hold_what_they_say(name: str, runs: int) -> None:
    """As in the experiment: the runs of one source and of all share draws, and the first run."""
    draw = SCATTERS[name]
    true = float(draw((2_000_000,)).var())
    x, y, z = (draw((TRIALS, runs)) for _ in range(3))
    shown = variance.shows_intervals(x)
    assert shown.mean() > 0.5
    assert holds(variance.variance_interval(x[shown]), true)
    for size in (0.5, 2.0):
        whole = x + size * y  # x varied alone is x + size * y[:, :1], with the same variance
        both = shown & variance.shows_intervals(whole)
        share = 1 / (1 + size**2)
        assert holds(variance.ratio_interval(x[both], whole[both]), share)
    for common, scale in ((0.0, 1.0), (1.0, 1.0), (3.0, 1.0), (1.0, 2.0)):
        a, b = common * z + x, scale * (common * z + y)
        apart, joint = a - b, a + b
        both = variance.shows_intervals(apart) & variance.shows_intervals(joint)
        ratio = variance.ratio_interval(apart[both], joint[both])
        own, of_pairs = 1 + common**2, 2 * scale * common**2
        bought = 1 - of_pairs / (own * (1 + scale**2))
        assert holds(2 * ratio / (1 + ratio), bought)


def test_by_loops_and_by_scipy() -> None:
    """One sample, by the papers' formulas in plain Python."""
    x, y = (RNG.normal(size=12).tolist() for _ in range(2))
    n, z = 12, stats.norm.ppf(0.975)

    def bonett(values: list[float]) -> tuple[float, float]:
        mean = sum(values) / n
        squares = sum((v - mean) ** 2 for v in values)
        trimmed = stats.trim_mean(values, 1 / (2 * math.sqrt(n - 4)))
        kurtosis = n * sum((v - trimmed) ** 4 for v in values) / squares**2
        c = n / (n - z)
        log = math.log(c * squares / (n - 1))
        return log, c * math.sqrt((kurtosis - (n - 3) / n) / (n - 1))

    log, error = bonett(x)
    squares = 11 * np.var(x, ddof=1)
    low = min(squares / stats.chi2.ppf(0.975, 11), math.exp(log - z * error))
    high = max(squares / stats.chi2.ppf(0.025, 11), math.exp(log + z * error))
    found = variance.deviation(x)
    assert found.value == pytest.approx(np.std(x, ddof=1))
    assert (found.low, found.high) == pytest.approx((math.sqrt(low), math.sqrt(high)))
    other, further = bonett(y)
    ratio, half = np.var(x, ddof=1) / np.var(y, ddof=1), z * math.hypot(error, further)
    low = min(ratio / stats.f.ppf(0.975, 11, 11), math.exp(log - other - half))
    high = max(ratio / stats.f.ppf(0.025, 11, 11), math.exp(log - other + half))
    share = variance.variance_ratio(x, y)
    assert (share.value, share.low, share.high) == pytest.approx((ratio, low, high))
    differences = [a - b for a, b in zip(x, y, strict=True)]
    bought = np.var(differences, ddof=1) / (np.var(x, ddof=1) + np.var(y, ddof=1))
    assert variance.pairing(x, y).value == pytest.approx(bought)
    assert variance.correlation(x, y) == pytest.approx(stats.pearsonr(x, y).statistic)


@pytest.mark.parametrize(
    "values",
    [[1.0, 2.0, 3.0, 4.0], [1.0] * 6, [1.0, 2.0, 3.0, 4.0, 40.0], [1.0, 1.0, 1.0, 1.0, 2.0]],
    ids=["too few", "all alike", "one far off", "most alike"],
)
def test_no_interval_is_shown_where_it_would_not_hold(values: list[float]) -> None:
    found = variance.deviation(values)
    assert (found.low, found.high) == (None, None)
    assert found.value == pytest.approx(np.std(values, ddof=1))
    assert variance.variance_ratio(values, range(len(values))).low is None  # type: ignore[arg-type]
    assert variance.pairing(values, values).low is None
    if not np.ptp(values):
        assert math.isnan(variance.correlation(values, values))
        assert math.isnan(variance.variance_ratio(values, values).value)
        assert math.isnan(variance.pairing(values, values).value)


def test_what_is_not_varied_does_not_average_out() -> None:
    """Against means of runs of an additive model, over many choices of what is fixed."""
    n, sizes = 7, (1.0, 0.5, 2.0)
    own = sizes[0] * RNG.normal(size=(100_000, n)).mean(axis=1)
    fixed = sum(size * RNG.normal(size=100_000) for size in sizes[1:])
    whole = sum(size**2 for size in sizes)
    measured = float((own + fixed).std())
    assert variance.error_of_mean(sizes[0] ** 2, whole, n) == pytest.approx(measured, rel=0.01)
    assert variance.error_of_mean(whole, whole, n) == pytest.approx(math.sqrt(whole / n))
    assert variance.error_of_mean(2 * whole, whole, n) == pytest.approx(math.sqrt(whole / n))


def test_seeds_to_tell_find_what_they_promise() -> None:
    """Against simulated t tests by SciPy, with these seeds and with one fewer."""
    for paired in (True, False):
        n = variance.seeds_to_tell(1.0, 1.3, paired=paired)
        assert n is not None
        found = []
        for seeds in (n, n - 1):
            a, b = RNG.normal(size=(2, 40_000, seeds))
            if paired:
                found.append((stats.ttest_1samp(1 + 1.3 * a, 0, axis=1).pvalue < 0.05).mean())
            else:
                found.append((stats.ttest_ind(1 + 1.3 * a, 1.3 * b, axis=1).pvalue < 0.05).mean())
        assert found[0] > 0.79
        assert found[1] < 0.81
    n = variance.seeds_to_tell(1.0, 1.3, paired=True)
    assert n is not None
    assert power(1 / 1.3, n, 0.05) >= 0.8 > power(1 / 1.3, n - 1, 0.05)
    assert variance.seeds_to_tell(0.0, 1.0, paired=True) is None
    assert variance.seeds_to_tell(1.0, 0.0, paired=False) is None
    assert variance.seeds_to_tell(1e-6, 1.0, paired=True) == 1000
