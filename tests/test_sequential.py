"""Sequential tests against quadrature, loops from the papers, and simulation: few false verdicts,
however often one looks."""

import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats

from actsweep.stats import fixed, paired, sequential
from actsweep.stats.paired import BETTER, EQUIVALENT, UNDECIDED, WORSE, compare
from actsweep.stats.power import power

VARIANCE = sequential.PRIOR_VARIANCE


def by_seed(values: np.ndarray) -> dict[tuple[int], float]:
    return {(seed,): float(value) for seed, value in enumerate(values)}


def e_of(values: np.ndarray) -> float:
    return float(sequential.e_value(values.mean(), values.std(ddof=1), len(values)))


@pytest.mark.parametrize("n", [2, 3, 5, 12])
@pytest.mark.parametrize("t", [0.0, 0.7, 3.0, 9.0])
def test_e_value_is_the_likelihood_ratio_of_t(n: int, t: float) -> None:
    """Noncentral t densities, averaged over the prior of the effect, over the central one's."""

    def weighted(effect: float) -> float:
        prior = scipy.stats.norm.pdf(effect, 0, math.sqrt(VARIANCE))
        return prior * scipy.stats.nct.pdf(t, n - 1, effect * math.sqrt(n))

    # SciPy's density is unsure at an effect of exactly 0.
    parts = ((-12, -1e-6), (1e-6, 12))
    above = sum(scipy.integrate.quad(weighted, *part, limit=400)[0] for part in parts)
    expected = above / scipy.stats.t.pdf(t, n - 1)
    found = sequential.e_value(t / math.sqrt(n), 1.0, n)
    assert float(found) == pytest.approx(expected, rel=2e-4)


@pytest.mark.parametrize("n", [2, 4, 9])
def test_a_bet_on_nothing_is_fair(n: int) -> None:
    """Its mean is 1 if the differences have mean 0."""
    density = scipy.stats.t(n - 1).pdf
    mean, _ = scipy.integrate.quad(
        lambda t: density(t) * float(sequential.e_value(t / math.sqrt(n), 1.0, n)),
        *(-np.inf, np.inf),
        limit=400,
    )
    assert mean == pytest.approx(1, abs=1e-5)


def test_e_value_goes_on_from_seed_to_seed() -> None:
    """What a bet is worth after three seeds is its mean over the fourth, under the hypothesis.

    Given scale and signs of the first three, the fourth over their root sum of squares is Student's
    t with three degrees over the root of three.
    """
    first = np.array([0.4, -0.1, 0.9])
    size = math.sqrt(float(np.sum(first**2)))
    mean, _ = scipy.integrate.quad(
        lambda x: scipy.stats.t.pdf(x, 3) * e_of(np.append(first, x * size / math.sqrt(3))),
        *(-np.inf, np.inf),
        limit=400,
    )
    assert mean == pytest.approx(e_of(first), rel=1e-6)


def test_e_values_of_few_and_of_equal_differences() -> None:
    nothing = sequential.e_value(np.array([0.0, 3.0]), np.zeros(2), np.array([0, 1]))
    assert nothing.tolist() == [1.0, 1.0]
    certain = float(sequential.e_value(2.0, 0.0, 5))  # all the same: bounded, unlike p = 0
    assert certain == pytest.approx((1 + 5 * VARIANCE) ** 2)
    assert float(sequential.e_value(0.0, 0.0, 5)) == pytest.approx((1 + 5 * VARIANCE) ** -0.5)
    assert math.isfinite(float(sequential.e_value(2.0, 1e-9, 5000)))


def test_order_does_not_matter() -> None:
    values = np.array([0.3, 1.2, -0.4, 0.8])
    assert e_of(values[::-1]) == pytest.approx(e_of(values))


@pytest.mark.parametrize(("n", "alpha"), [(4, 0.05), (6, 0.05 / 15), (40, 0.05)])
def test_critical_value_and_interval(n: int, alpha: float) -> None:
    t = sequential.critical(n, alpha)
    assert float(sequential.e_value(t / math.sqrt(n), 1.0, n)) == pytest.approx(1 / alpha)
    half = sequential.half_width(2.0, n, 1 - alpha)
    assert half == pytest.approx(2 * t / math.sqrt(n))
    # Its ends are the means that are just rejected.
    assert float(sequential.e_value(half, 2.0, n)) == pytest.approx(1 / alpha)
    assert t > fixed.critical(n, alpha)


def test_few_seeds_bound_nothing() -> None:
    assert sequential.critical(2, 0.05) == math.inf
    assert sequential.half_width(1.0, 2) is None
    assert sequential.half_width(0.0, 0) is None
    pair = compare({"a": by_seed(np.array([1.0, 1.1])), "b": by_seed(np.zeros(2))}, 0.0)["a", "b"]
    assert (pair.low, pair.verdict) == (None, UNDECIDED)
    assert pair.more > 0


@pytest.mark.parametrize("margin", [0.3, 1.0, 2.0])
def test_equivalence_is_an_interval_within_the_margin(margin: float) -> None:
    rng = np.random.default_rng(1)
    for n in (4, 8, 30):
        values = rng.normal(0.2, 0.3, n)
        mean, spread = values.mean(), values.std(ddof=1)
        for alpha in (0.05, 0.01):
            half = sequential.half_width(spread, n, 1 - alpha)
            inside = half is not None and abs(mean) + half < margin
            e = float(sequential.e_value_equivalent(mean, spread, n, margin))
            assert (e > 1 / alpha) == inside
    assert float(sequential.e_value_equivalent(1.0, 0.1, 9, 0.5)) < 1


@pytest.mark.parametrize(("a", "b"), [(0, 0), (3, 0), (9, 1), (4, 5)])
def test_e_value_of_endings(a: int, b: int) -> None:
    """The bet of Laplace's rule, coin by coin, in any order."""
    for coins in ([1] * a + [0] * b, [0] * b + [1] * a):
        wealth, heads = 1.0, 0
        for place, coin in enumerate(coins):
            share = (heads + 1) / (place + 2)
            wealth *= 2 * (share if coin else 1 - share)
            heads += coin
        assert float(sequential.e_value_ended(a, b)) == pytest.approx(wealth)


def test_adjusted_e_values_are_those_of_closed_testing() -> None:
    rng = np.random.default_rng(2)
    e_values = rng.lognormal(0, 2, (20, 6))
    for row, adjusted in zip(e_values, sequential.adjust(e_values), strict=True):
        for place in range(6):
            sets = (
                chosen
                for size in range(1, 7)
                for chosen in itertools.combinations(range(6), size)
                if place in chosen
            )
            expected = min(np.mean(row[[*chosen]]) for chosen in sets)
            assert adjusted[place] == pytest.approx(expected)
            assert adjusted[place] >= row[place] / 6 - 1e-9
    assert sequential.adjust(np.array([])).size == 0
    assert sequential.adjust(np.array([7.0])).tolist() == [7.0]


def test_compare_corrects_for_all_pairs() -> None:
    """The p values of three pairs, from their e-values by the definitions."""
    rng = np.random.default_rng(3)
    values = {name: rng.normal(mean, 0.3, 6) for name, mean in (("a", 9), ("b", 0), ("c", 0))}
    margin = 2.0
    pairs = compare({name: by_seed(v) for name, v in values.items()}, margin)
    step = np.diff(np.sort(np.concatenate([*values.values()]))).min()

    def e_value(a: str, b: str, mean: float) -> float:
        d = values[a] - values[b] - mean
        spread = math.sqrt(d.var(ddof=1) + step**2 / 6)
        r, t2 = 1 + 6 * VARIANCE, 6 * d.mean() ** 2 / spread**2
        return r**-0.5 * ((1 + t2 / 5) / (1 + t2 / 5 / r)) ** 3

    def p_of(pair: tuple[str, str], e_values: dict[tuple[str, str], float]) -> float:
        others = [e for key, e in e_values.items() if key != pair]
        means = [
            np.mean([e_values[pair], *chosen])
            for size in range(3)
            for chosen in itertools.combinations(others, size)
        ]
        return min(1, 1 / min(means))

    outside = [*np.linspace(-30, -margin, 2801), *np.linspace(margin, 30, 2801)]
    different = {pair: e_value(*pair, 0.0) for pair in pairs}
    equivalent = {pair: min(e_value(*pair, mean) for mean in outside) for pair in pairs}
    for pair, found in pairs.items():
        assert found.p_anytime == pytest.approx(p_of(pair, different))
        assert found.p_equivalent_anytime == pytest.approx(p_of(pair, equivalent), rel=1e-3)
    assert [pair.verdict for pair in pairs.values()] == [BETTER, BETTER, EQUIVALENT]


def test_seeds_that_tell_nothing_yet_count() -> None:
    """Pairs that are still to come make it harder from the start, not when they come."""
    rng = np.random.default_rng(4)
    a, b = by_seed(rng.normal(3, 1, 6)), by_seed(rng.normal(0, 1, 6))
    alone = compare({"a": a, "b": b}, 0.0)["a", "b"]
    waiting = compare({"a": a, "b": b, "c": {(0,): 0.0}}, 0.0)
    assert waiting["a", "b"].p_anytime > alone.p_anytime
    assert waiting["a", "c"].p_anytime is None


def test_looking_after_every_seed() -> None:
    """Sweeps in which nothing differs: the t test finds something in far too many."""
    rng = np.random.default_rng(5)
    false = {True: 0, False: 0}
    for _ in range(200):
        values = rng.normal(0, 1, (3, 10))
        for one_look in false:
            false[one_look] += any(
                pair.verdict in (BETTER, WORSE)
                for n in range(2, 11)
                for pair in compare(
                    {str(g): by_seed(v[:n]) for g, v in enumerate(values)}, 0.0, one_look=one_look
                ).values()
            )
    assert false[False] <= 16, false  # 5 % and two standard deviations
    assert false[True] >= 17, false


def test_equivalent_after_every_seed() -> None:
    """Nine pairs that differ by the margin: in at most 5 % of sweeps is any called equivalent."""
    rng = np.random.default_rng(6)
    wrong, looks = 0, range(2, 31)
    for _ in range(400):
        d = 1 + rng.normal(0, 1, (9, 30))
        wrong += any(
            np.any(
                sequential.adjust(
                    sequential.e_value_equivalent(
                        d[:, :n].mean(1), d[:, :n].std(1, ddof=1), np.full(9, n), 1.0
                    )
                )
                >= 20
            )
            for n in looks
        )
    assert wrong <= 28


@pytest.mark.parametrize("one_look", [True, False])
def test_equivalence_is_corrected_for_all_pairs(one_look: bool) -> None:
    """One group is ahead of nine by the margin, to either side of which chance lets it fall."""
    rng = np.random.default_rng(7)
    wrong = 0
    for _ in range(200):
        groups = {str(g): by_seed(rng.normal(0, 0.3, 8)) for g in range(9)}
        groups |= {"ahead": by_seed(rng.normal(0.5, 0.3, 8))}
        pairs = compare(groups, 0.5, lambda a, b: b == "ahead", one_look=one_look)
        wrong += any(pair.verdict == EQUIVALENT for pair in pairs.values())
    assert wrong <= 16  # 5 % and two standard deviations


def test_groups_that_end_well_less_often() -> None:
    ended = {"a": by_seed(np.arange(9.0)), "b": {(9,): 0.0, (10,): 1.0}}
    lost = {"a": set(), "b": set(range(9))}
    pair = compare(ended, 0.0, lost=lost)["a", "b"]
    assert pair.p_ended == pytest.approx(2 / 2**9)
    assert pair.p_ended_anytime == pytest.approx(1 / ((2**9 / 10 + 1) / 2))  # and one e-value of 1
    assert pair.verdict == BETTER


def test_advised_seeds_decide() -> None:
    """As many as are asked for find the difference in about 80 % of repetitions, or more."""
    rng = np.random.default_rng(8)
    first = rng.normal(1.0, 1.0, 5)
    first = 1.0 + (first - first.mean()) / first.std(ddof=1)  # mean 1, deviation 1, exactly
    more = compare({"a": by_seed(first), "b": by_seed(np.zeros(5))}, 0.0)["a", "b"].more
    assert more is not None
    n = 5 + more
    hits = sum(e_of(rng.normal(1.0, 1.0, n)) >= 20 for _ in range(2000)) / 2000
    assert 0.77 < hits < 0.9
    assert power(1.0, n, 0.05, one_look=False) == pytest.approx(hits, abs=0.03)
    assert power(1.0, n, 0.05) > power(1.0, n, 0.05, one_look=False)
    assert power(9.0, 2, 0.05, one_look=False) == 0.0


def test_advised_seeds_find_what_does_not_matter() -> None:
    rng = np.random.default_rng(10)
    first = rng.normal(0.0, 1.0, 6)
    first = (first - first.mean()) / first.std(ddof=1)  # mean 0, deviation 1, exactly
    more = compare({"a": by_seed(first), "b": by_seed(np.zeros(6))}, 1.0)["a", "b"].more
    assert more is not None
    n = 6 + more
    draws = rng.normal(0.0, 1.0, (2000, n))
    e_values = sequential.e_value_equivalent(draws.mean(1), draws.std(1, ddof=1), n, 1.0)
    assert 0.77 < np.mean(e_values >= 20) < 0.9


@pytest.mark.parametrize("chance", [0.6, 0.9])
def test_a_is_ahead_with_a_new_seed_as_often_as_is_said(chance: float) -> None:
    """Where the bar is set so that the next difference passes it with some probability, it does."""
    rng = np.random.default_rng(9)
    draws = rng.normal(0.5, 2.0, (40_000, 5))
    mean, spread = draws[:, :4].mean(1), draws[:, :4].std(1, ddof=1)
    below = scipy.optimize.brentq(lambda z: paired.ahead_next(4, z, 1.0) - chance, 0, 9)
    assert np.mean(draws[:, 4] > mean - below * spread) == pytest.approx(chance, abs=0.008)
    assert paired.ahead_next(4, 1.0, 2.0) == pytest.approx(1 - paired.ahead_next(4, -1.0, 2.0))
    assert paired.ahead_next(1, 1.0, 0.0) is None
    assert paired.ahead_next(3, 1.0, 0.0) == 1.0
    assert paired.ahead_next(3, 0.0, 0.0) == 0.5
