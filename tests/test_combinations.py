"""Which combinations of listed values a sweep trains: products, pairs, all but some."""

import itertools

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from actsweep.utils.errors import UserError
from hydra_plugins.actsweep_pack.combinations import combine, without_excluded

PARSER = OverridesParser.create()


def jobs(*words: str, pairs: list[object] | None = None) -> list[str]:
    parsed = PARSER.parse_overrides(list(words))
    return [" ".join(job) for job in combine(parsed, pairs or [])]


def test_without_pairs_it_is_the_product_in_the_order_of_the_command() -> None:
    expected = [f"a={a} b=x c={c}" for a, c in itertools.product("12", "345")]
    assert jobs("a=1,2", "b=x", "c=3,4,5") == expected


def test_of_two_words_with_one_key_the_later_counts() -> None:
    assert jobs("a=1,2", "a=3") == ["a=3"]


def test_paired_keys_take_their_values_one_by_one() -> None:
    assert jobs("a=1,1,2", "b=5,6", "c=7,8,9", pairs=["c", "a"]) == [
        f"a={a} c={c} b={b}" for a, c in (("1", "7"), ("1", "8"), ("2", "9")) for b in "56"
    ]


def test_there_may_be_several_pairs() -> None:
    found = jobs("a=1,2", "b=3,4", "c=5,6", "d=7,8", pairs=[["a", "b"], ["c", "d"]])
    assert found == [f"{x} {y}" for x in ("a=1 b=3", "a=2 b=4") for y in ("c=5 d=7", "c=6 d=8")]


def test_a_long_pair_is_no_large_product() -> None:
    assert len(jobs("a=range(0,5000)", "b=range(0,5000)", pairs=["a", "b"])) == 5000


@pytest.mark.parametrize(
    ("words", "pairs", "message"),
    [
        (["a=1,2", "b=1,2,3"], ["a", "b"], r"sweep.pairs: a has 2, b has 3 values; type as many"),
        (["a=1,2", "b=1"], ["a", "b"], r"sweep.pairs: b isn't swept; type for example b=…,…"),
        (["a=1,2"], ["a", "d"], r"sweep.pairs: d isn't swept"),
        (["a=1,2", "b=1,2"], [["a", "b"], ["b", "a"]], r"b is named twice"),
        (["a=1,2"], [3], r"sweep.pairs=3: must be a list of keys; type for example sweep.pairs="),
        (["a=range(0,0)"], [], r"a=range\(0,0\): has no value; type for example seed=0,1,2"),
        (["a=range(0,100000000000)"], [], r"more than 20,000 runs; type fewer values"),
        (["a=range(0,200)", "b=range(0,200)"], [], r"b=range\(0,200\): with it the sweep has more"),
    ],
)
def test_what_is_no_sweep_is_refused(words: list[str], pairs: list[object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        jobs(*words, pairs=pairs)


def test_an_interval_is_refused() -> None:
    with pytest.raises(UserError, match=r"a=interval\(0,1\): an interval has no list .*=optuna"):
        jobs("a=interval(0,1)")


JOBS = [[f"act={act}", f"optim.lr={lr}"] for act in ("relu", "elu") for lr in ("0.1", "0.2")]


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ([], JOBS),
        ([{"act": "elu", "optim.lr": 0.1}], [*JOBS[:2], JOBS[3]]),
        ([{"act": "elu"}], JOBS[:2]),
        ([{"act": "relu", "optim.lr": 0.2}, {"act": "elu", "optim.lr": 0.1}], [JOBS[0], JOBS[3]]),
        ([{"act": "elu"}, {"optim.lr": 0.1}], [JOBS[1]]),
    ],
)
def test_what_is_excluded_is_left_out(
    exclude: list[dict[str, object]], left: list[list[str]]
) -> None:
    assert without_excluded(JOBS, exclude) == left


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        ([{"act": "elu2"}], r"sweep.exclude: no run is like \{act: elu2\}; type values of this"),
        ([{"act": "elu", "seed": 3}], r"no run is like \{act: elu, seed: 3\}"),
        ([7], r"sweep.exclude=7: must be values by key; type for example 'sweep.exclude="),
        ([{}], r"sweep.exclude=\{\}: must be values by key"),
        ([{"act": "elu"}, {"act": "relu"}], r"sweep.exclude: leaves no run; exclude less"),
    ],
)
def test_an_exclusion_that_means_nothing_is_refused(exclude: list[object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        without_excluded(JOBS, exclude)


@pytest.mark.parametrize("value", ["0.1", "0.10", "1e-1", ".1"])
def test_a_number_may_be_typed_in_any_way(value: str) -> None:
    assert without_excluded([[f"lr={value}"], ["lr=2"]], [{"lr": 0.1}]) == [["lr=2"]]
