"""Statistics against SciPy and simulation: few false verdicts, the promised power."""

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from actsweep.stats import factorial, fixed, paired
from actsweep.stats.paired import BETTER, EQUIVALENT, UNDECIDED, WORSE, compare
from actsweep.stats.power import power
from actsweep.stats.spread import resolution

RNG = np.random.default_rng(0)


def t_test(values: np.ndarray) -> float:
    return fixed.t_test(float(values.mean()), float(values.std(ddof=1)), len(values))


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_interval_and_t_test_are_scipy_s(n: int) -> None:
    values = RNG.normal(0.3, 1.0, n)
    mean, half = paired.mean_interval(list(values))
    low, high = scipy.stats.t.interval(
        0.95, n - 1, values.mean(), values.std(ddof=1) / math.sqrt(n)
    )
    assert (mean - half, mean + half) == pytest.approx((low, high), rel=1e-12)
    assert t_test(values) == pytest.approx(scipy.stats.ttest_1samp(values, 0).pvalue, rel=1e-10)


@pytest.mark.parametrize("n", [2, 5, 9])
def test_flip_test_is_scipy_s_permutation_test(n: int) -> None:
    values = RNG.normal(0.5, 1.0, n)
    expected = scipy.stats.permutation_test(
        (values,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert fixed.flip_test(values) == pytest.approx(expected.pvalue, rel=1e-12)
    assert fixed.flip_test([1.0, 2.0, 3.0]) == 2 / 8


def test_flip_test_of_many_is_random_but_repeats() -> None:
    values = RNG.normal(0.4, 1.0, 25)
    exact = scipy.stats.ttest_1samp(values, 0).pvalue
    assert fixed.flip_test(values) == fixed.flip_test(values) == pytest.approx(exact, abs=0.02)


def test_interquartile_mean() -> None:
    for n in (4, 8, 100):
        values = RNG.normal(0, 1, n)
        assert paired.interquartile_mean(values) == pytest.approx(
            scipy.stats.trim_mean(values, 0.25)
        )
    assert paired.interquartile_mean([1.0, 2.0, 9.0]) == pytest.approx(
        (0.25 * 1 + 2 + 0.25 * 9) / 1.5
    )
    assert paired.interquartile_mean([5.0]) == 5


def test_holm() -> None:
    ps = [0.01, 0.04, 0.03, 0.005]
    assert fixed.holm(ps) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert fixed.holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert fixed.holm([]) == []


def test_summary() -> None:
    values = list(RNG.normal(88, 0.3, 8))
    summary = paired.summarise(values)
    assert summary.low < summary.mean < summary.high
    assert paired.summarise([3.0]) == paired.Summary(1, 3.0, 3.0, 3.0, None, None)
    same = paired.summarise([2.0, 2.0, 2.0])
    assert (same.low, same.high) == (2, 2)
    nothing = paired.summarise([])
    assert (nothing.n, nothing.low) == (0, None)
    assert np.isnan([nothing.mean, nothing.median, nothing.iqm]).all()


def by_seed(values: Iterable[float]) -> dict[tuple[int], float]:
    return {(seed,): float(value) for seed, value in enumerate(values)}


def test_verdicts() -> None:
    a = by_seed([88.9, 88.7, 88.8, 88.9, 88.6])
    groups = {
        "a": a,
        "worse": {(s,): value - 2 - 0.1 * s for (s,), value in a.items()},
        "same": {(s,): value + 0.01 * (-1) ** s for (s,), value in a.items()},
        "noisy": by_seed([89.9, 87.9, 88.2, 90.1, 87.0]),
        "alone": {(0,): 10.0},
        "elsewhere": {(7,): 10.0, (8,): 11.0},
    }
    pairs = compare(groups, margin=0.2)
    assert len(pairs) == 15
    pair = pairs["a", "worse"]
    assert (pair.verdict, pair.improvement, pair.n) == (BETTER, 1.0, 5)
    assert pair.difference == pytest.approx(2.2)
    assert pairs["worse", "same"].verdict == WORSE
    assert pairs["a", "same"].verdict == EQUIVALENT
    assert pairs["a", "noisy"].verdict == UNDECIDED
    assert pairs["a", "noisy"].more > 0
    alone = pairs["a", "alone"]
    assert (alone.n, alone.verdict, alone.p, alone.low, alone.more) == (
        1,
        UNDECIDED,
        None,
        None,
        None,
    )
    assert pairs["a", "elsewhere"].n == 0
    assert pairs["a", "elsewhere"].verdict == UNDECIDED


def test_pairs_are_by_seed() -> None:
    """Seeds that share draws rise and fall together: paired, a small difference shows."""
    common = RNG.normal(0, 5, 8)
    a, b = common + 0.2 + RNG.normal(0, 0.05, 8), common
    assert compare({"a": by_seed(a), "b": by_seed(b)}, 0.0)["a", "b"].verdict == BETTER
    mixed = {((s + 3) % 8,): value for s, value in enumerate(b)}
    assert compare({"a": by_seed(a), "b": mixed}, 0.0)["a", "b"].verdict == UNDECIDED


@pytest.mark.parametrize(("groups", "seeds"), [(2, 2), (3, 5), (6, 5)])
def test_few_false_verdicts(groups: int, seeds: int) -> None:
    """4,000 sweeps in which nothing differs: in 5 % of them any pair is called different."""
    rng = np.random.default_rng(groups * seeds)
    false = 0
    for _ in range(4000):
        common = rng.normal(0, 1, seeds)
        values = {str(i): by_seed(common + rng.normal(0, 1, seeds)) for i in range(groups)}
        false += any(
            pair.verdict in (BETTER, WORSE) for pair in compare(values, 0.0, one_look=True).values()
        )
    assert false <= 228, false  # 5 % and two standard deviations


def test_promised_power() -> None:
    """A true effect of 1.5 standard deviations: found as often as the noncentral t says."""
    rng = np.random.default_rng(3)
    n, effect = 7, 1.5
    hits = sum(t_test(rng.normal(effect, 1, n)) < 0.05 for _ in range(2000))
    assert hits / 2000 == pytest.approx(power(effect, n, 0.05), abs=0.03)


def test_power_of_large_effects() -> None:
    """SciPy has no number for the chance to find them the other way round."""
    assert power(3.0, 10, 0.05 / 15) == pytest.approx(0.99996551, abs=1e-8)
    chances = [power(effect, n, 0.05) for n in (5, 10, 30) for effect in (1, 2, 3, 4, 6, 10, 40)]
    assert all(0 < chance <= 1 for chance in chances)


def test_further_seeds_decide() -> None:
    """As many more as are asked for find the difference in about 80 % of repetitions."""
    rng = np.random.default_rng(4)
    first = rng.normal(1.0, 1.0, 5)
    first = 1.0 + (first - first.mean()) / first.std(ddof=1)  # mean 1, deviation 1, exactly
    more = compare({"a": by_seed(first), "b": by_seed(np.zeros(5))}, 0.0, one_look=True)[
        "a", "b"
    ].more
    assert more is not None
    hits = sum(t_test(rng.normal(1.0, 1.0, 5 + more)) < 0.05 for _ in range(2000))
    assert 0.78 < hits / 2000 < 0.9


def test_equivalence_is_rarely_wrong() -> None:
    """True differences of exactly the margin are called equivalent in at most 5 % of cases."""
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(1000):
        values = {"a": by_seed(rng.normal(0.5, 0.5, 8)), "b": by_seed(np.zeros(8))}
        wrong += compare(values, 0.5, one_look=True)["a", "b"].verdict == EQUIVALENT
    assert wrong <= 64


def test_all_flips_are_tried() -> None:
    values = RNG.normal(0, 1, 4)
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True)))
        for signs in itertools.product((-1, 1), repeat=4)
    ]
    assert fixed.flip_test(values) == sum(s >= abs(values.sum()) - 1e-12 for s in sums) / 16


def test_cells_of_a_seed_count_once() -> None:
    """Two depths of one seed aren't two seeds: their mean is one value."""
    a = {(s, d): 10.0 * d + s for s in range(4) for d in (4, 10)}
    b = {cell: value - 1 - 0.1 * cell[0] for cell, value in a.items()} | {(9, 4): 0.0}
    pair = compare({"a": a, "b": b}, 0.0)["a", "b"]
    assert (pair.n, pair.difference) == (4, pytest.approx(1.15))
    assert paired.seed_means(a) == {s: 70.0 + s for s in range(4)}
    del b[0, 4]  # a cell that one lacks leaves the other seeds' pairs as they are
    assert compare({"a": a, "b": b}, 0.0)["a", "b"].n == 4


def test_optimum() -> None:
    rng = np.random.default_rng(6)
    means = {0.01: 80.0, 0.03: 85.0, 0.1: 88.0, 0.3: 87.9, 1.0: 20.0}
    curve = {lr: by_seed(mean + rng.normal(0, 0.3, 6)) for lr, mean in means.items()}
    optimum = factorial.optimum(curve)
    assert (optimum.low, optimum.high, optimum.edge) == (0.1, 0.3, False)
    assert optimum.best in (0.1, 0.3)
    rising = {lr: by_seed([lr, lr + 0.01, lr]) for lr in means}
    assert factorial.optimum(rising) == factorial.Optimum(1.0, 1.0, 1.0, True)
    assert factorial.optimum({0.1: by_seed([1, 2, 3])}) is None
    assert factorial.optimum({lr: by_seed([lr, lr + 0.01]) for lr in means}) is None  # two seeds
    reaching = {0.1: by_seed([1, 2, 3, 4, 5]), 0.2: by_seed([1, 2, 2, 5, 5]), 0.3: by_seed([0] * 5)}
    assert factorial.optimum(reaching).edge  # its interval does
    assert factorial.optimum({0.1: {(0,): 1.0}, 0.2: {(1,): 1.0}}) is None


def test_optimum_s_interval_holds_the_best() -> None:
    """The truly best value lies in the interval in about 95 % of sweeps, or more."""
    rng = np.random.default_rng(7)
    truth = {1.0: 0.0, 2.0: 0.6, 3.0: 1.0, 4.0: 0.7, 5.0: 0.0}
    held = 0
    for _ in range(200):
        curve = {lr: by_seed(mean + rng.normal(0, 0.5, 8)) for lr, mean in truth.items()}
        optimum = factorial.optimum(curve)
        held += optimum.low <= 3.0 <= optimum.high
    assert held >= 184  # 92 %


def test_interaction_is_the_textbook_s() -> None:
    """Sums of squares by loops, from the definition."""
    rng = np.random.default_rng(8)
    i, j, n = 3, 2, 5
    y = rng.normal(0, 1, (i, j, n)) + rng.normal(0, 2, n) + np.arange(i)[:, None, None]
    mean = lambda *at: float(np.mean(y[at]))  # noqa: E731
    all_ = slice(None)
    ab = sum(
        n * (mean(a, b) - mean(a) - mean(all_, b) + mean()) ** 2
        for a, b in itertools.product(range(i), range(j))
    )
    abs_ = sum(
        (
            y[a, b, s]
            - mean(a, b)
            - mean(a, all_, s)
            - mean(all_, b, s)
            + mean(a)
            + mean(all_, b)
            + mean(all_, all_, s)
            - mean()
        )
        ** 2
        for a, b, s in itertools.product(range(i), range(j), range(n))
    )
    df1, df2 = (i - 1) * (j - 1), (i - 1) * (j - 1) * (n - 1)
    table = {(a, b): by_seed(y[a, b]) for a, b in itertools.product(range(i), range(j))}
    contrasts = np.kron(*(scipy.linalg.helmert(levels) for levels in (i, j)))  # orthonormal
    seen = np.cov(contrasts @ y.reshape(i * j, n))
    even = np.trace(seen) ** 2 / (df1 * np.trace(seen @ seen))
    assert 1 / df1 < even < 1
    expected = scipy.stats.f.sf((ab / df1) / (abs_ / df2), even * df1, even * df2)
    assert factorial.interaction(table) == pytest.approx(expected, rel=1e-9)
    del table[0, 0]
    assert factorial.interaction(table) is None
    assert factorial.interaction({}) is None


@pytest.mark.parametrize("last", [1.0, 10.0])
def test_interaction_is_rarely_found_where_there_is_none(last: float) -> None:
    """Also if the last level, the deepest networks say, scatters ten times as much."""
    rng = np.random.default_rng(9)
    false, spread = 0, np.array([1.0, 1.0, last])[None, :, None]
    for _ in range(1000):
        noise = rng.normal(0, 1, (4, 3, 5)) * spread
        y = noise + rng.normal(0, 2, 5) + np.arange(4)[:, None, None]
        table = {(a, b): by_seed(y[a, b]) for a, b in itertools.product(range(4), range(3))}
        false += factorial.interaction(table) < 0.05
    assert false <= 64  # 5 % and two standard deviations


def test_interaction_is_found() -> None:
    rng = np.random.default_rng(10)
    y = rng.normal(0, 0.5, (3, 3, 5)) + np.eye(3)[:, :, None] * 3
    table = {(a, b): by_seed(y[a, b]) for a, b in itertools.product(range(3), range(3))}
    assert factorial.interaction(table) < 0.01


def test_values_on_a_coarse_grid() -> None:
    """Accuracies of 300 examples are often the same for two or three seeds: no certainty."""
    rng = np.random.default_rng(11)
    for seeds, most in ((2, 64), (3, 64), (5, 64)):
        false = 0
        for _ in range(1000):
            right = rng.binomial(300, 0.97, (6, seeds)) / 300
            groups = {str(g): by_seed(np.float32(right[g])) for g in range(6)}
            pairs = compare(groups, 0.0, one_look=True)
            false += any(pair.verdict in (BETTER, WORSE) for pair in pairs.values())
        assert false <= most, (seeds, false)
    two = {"a": by_seed([0.9, 0.9]), "b": by_seed([0.89, 0.89])}
    assert compare(two, 0.005, one_look=True)["a", "b"].verdict == UNDECIDED
    assert resolution(np.float32([0.9, 0.9, 0.8999999, 0.89])) == pytest.approx(0.01, 1e-4)
    assert resolution([1.0, 1.1, 2.0, 1e6, 3e6]) == pytest.approx(0.1)
    assert resolution([1.0, 1.0]) == resolution([]) == 0.0


def test_flips_of_float32_s_differences() -> None:
    """Rounding doesn't hide that sums are the same."""
    values = [0.1, 0.2, -0.3, 0.4, -0.4]
    assert fixed.flip_test(values) == 1.0
    rounded = [float(np.float32(0.9 + v) - np.float32(0.9)) for v in values]
    assert fixed.flip_test(rounded) == 1.0


@pytest.mark.parametrize(("size", "margin"), [(0.25, 0.5), (0.4, 0.5), (0.6, 0.5)])
def test_further_seeds_decide_either_way(size: float, margin: float) -> None:
    """Of small differences that they don't matter, of large ones that they are there."""
    rng = np.random.default_rng(12)
    first = rng.normal(0, 1, 5)
    first = size + 0.5 * (first - first.mean()) / first.std(ddof=1)
    more = compare({"a": by_seed(first), "b": by_seed(np.zeros(5))}, margin, one_look=True)[
        "a", "b"
    ].more
    assert 0 < more < 1000
    decided = 0
    for _ in range(400):
        values = by_seed(rng.normal(size, 0.5, 5 + more))
        pair = compare({"a": values, "b": by_seed(np.zeros(5 + more))}, margin, one_look=True)[
            "a", "b"
        ]
        decided += pair.verdict != UNDECIDED
    assert decided / 400 > 0.75, (more, decided)


def test_more_seeds_than_anybody_has() -> None:
    at_margin = by_seed(0.5 + np.array([-0.5, 0.5, -0.5, 0.5, 0.0]) * 20)
    assert (
        compare({"a": at_margin, "b": by_seed(np.zeros(5))}, 0.5, one_look=True)["a", "b"].more
        == 1000
    )
