"""Every claim's verdict is computed; the committed page is what comes out."""

import copy
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actsweep.cli.main import main
from actsweep_tutorials import base as base_of_experiments
from actsweep_tutorials import catalogue, claims, commands, dead_units, dying_relu
from actsweep_tutorials.claims import CLAIMS, advice, base
from actsweep_tutorials.scalar import scalar_activations
from actsweep_tutorials.training import learned

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "claims.md"


def test_claims_are_complete() -> None:
    assert len(CLAIMS) >= 40
    assert len({claim.key for claim in CLAIMS}) == len(CLAIMS)
    assert {claim.source for claim in CLAIMS} == set(claims.SOURCES)
    for claim in CLAIMS:
        experiment = catalogue.get(claim.experiment)
        assert claim.statement.endswith("."), claim.key
        assert not claim.needs_training or experiment.trains, claim.key
        assert claim.needs_training or experiment.quick is not None, claim.key
        if claim.figure:
            assert (DOCS / "experiments" / f"{claim.experiment}-{claim.figure}.png").is_file(), (
                claim.key
            )


@pytest.mark.slow
def test_the_committed_page_is_reproduced(tmp_path: Path) -> None:
    """`actsweep claims`, from nothing but the numbers of what trains: the same verdicts, the same
    figures by name, and to the letter what no network and no compiler had a part in."""
    (tmp_path / "experiments").mkdir()
    for file in DOCS.glob("experiments/*.json"):
        shutil.copy(file, tmp_path / "experiments")
    assert main(["claims", "--docs", str(tmp_path), "--outputs", str(tmp_path / "outputs")]) == 0
    pages = [path.read_text() for path in (PAGE, tmp_path / "claims.md")]
    committed, made = map(claims.parse_verdicts, pages)
    assert set(committed) == {claim.key for claim in CLAIMS}
    assert made == committed
    scratch = re.compile(r"\| \[?(signal|dead-units|gradient-scan|tutorial3)")
    rows = [{line for line in page.splitlines() if scratch.search(line)} for page in pages]
    assert rows[0] == rows[1]
    assert len(rows[0]) > 10
    drawn = {path.name for path in tmp_path.glob("experiments/*.png")}
    assert drawn == {path.name for path in DOCS.glob("experiments/*.png")}
    assert not (tmp_path / "outputs" / "runs").exists()


def test_nothing_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "--docs", str(tmp_path / "docs")]) == 2
    out, err = capsys.readouterr()
    assert (
        "dead-neurons.json: no such record; type actsweep claims --all, which trains the networks"
        in err
    )
    assert not out
    assert not (tmp_path / "docs").exists()


def test_exceeds() -> None:
    low, high = {0: 1.0, 1: 1.1, 2: 1.2}, {0: 3.0, 1: 3.1, 2: 2.9}
    assert base.exceeds(high, low).verdict == base.HOLDS
    assert base.exceeds(low, high).verdict == base.REFUTED
    assert base.exceeds({0: 1.0, 1: 3.0, 2: 2.0}, {0: 2.0, 1: 2.0, 2: 2.1}).verdict == base.NOISE
    assert base.exceeds({0: 1.0}, {0: 0.0}).verdict == base.NOISE
    verdict = base.exceeds(
        {0: 2.0, 1: 4.0, 2: 6.0}, {2: 3.0, 1: 2.0, 0: 1.0}
    )  # differences 1, 2, 3
    assert verdict.text == "+2 ± 2.5, 3 seeds"
    assert base.exceeds(high, {0: 1.0, 2: 1.2, 7: 9.0}).text.endswith("2 seeds")


def test_exceeds_by_a_bound_and_corrected_for_looking() -> None:
    """Differences 1, 2, 3: mean 2, half-width 2.48 at 95 %, 1.69 * t at others."""
    a, b = {0: 2.0, 1: 4.0, 2: 6.0}, {0: 1.0, 1: 2.0, 2: 3.0}
    assert base.exceeds(a, b, by=-0.5).verdict == base.HOLDS
    assert base.exceeds(a, b, by=5.0).verdict == base.REFUTED
    near = {0: 4.0, 1: 5.0, 2: 6.0}  # differences 3, 3, 3 with a spread of 0.2
    far = {0: 1.0, 1: 1.8, 2: 3.2}
    assert base.exceeds(near, far).verdict == base.HOLDS
    assert base.exceeds(near, far, looks=20).verdict == base.HOLDS
    far[1] = 1.0
    assert base.exceeds(near, far).verdict == base.HOLDS
    assert base.exceeds(near, far, looks=20).verdict == base.NOISE


def test_inside_is_a_test_of_equivalence() -> None:
    """Mean 2, spread 1, three values: 2 ± 2.920 / sqrt(3) = 2 ± 1.69."""
    values = [1.0, 2.0, 3.0]
    assert base.inside(values, 0.3, 3.7).verdict == base.HOLDS
    assert base.inside(values, 0.32, 3.7).verdict == base.NOISE  # not rejected is not enough
    assert base.inside(values, 3.6, 9).verdict == base.NOISE
    assert base.inside(values, 3.7, 9).verdict == base.REFUTED
    assert base.inside([2.0], 0, 9).verdict == base.NOISE
    assert base.inside(values, 0.3, math.inf).verdict == base.HOLDS
    assert base.inside(values, 0.3, math.inf, looks=2).verdict == base.NOISE
    assert base.inside(values, 3.7, 9, looks=20).verdict == base.REFUTED


def test_inside_factor_shares_the_tolerance_among_looks() -> None:
    sizes = [3.9, 4.0, 4.1]
    assert base.inside_factor(sizes, 1.0, 10).verdict == base.HOLDS
    assert base.inside_factor(sizes, 1.0, 10, looks=3).verdict == base.NOISE  # 10^(1/3) = 2.15
    assert base.inside_factor([1.49, 1.5, 1.51], 1.0, 10, looks=3).verdict == base.HOLDS
    assert base.inside_factor([29.0, 30.0, 31.0], 1.0, 10, looks=3).verdict == base.REFUTED
    assert base.inside_factor([0.0, 0.0, 0.0], 1.0, 10).verdict == base.REFUTED


def test_one_run_holds_only_within_a_tolerance() -> None:
    """One run of ours: 2 ± t(2) * s * sqrt(1 + 1/3) = 2 ± 4.97; the mean: 2 ± 1.69."""
    assert base.one_run(2.0, [1.0, 2.0, 3.0], 1.7).verdict == base.HOLDS
    assert base.one_run(2.0, [1.0, 2.0, 3.0], 1.6).verdict == base.NOISE
    assert base.one_run(6.9, [1.0, 2.0, 3.0], 1.0).verdict == base.NOISE  # it held before
    assert base.one_run(7.9, [1.0, 2.0, 3.0], 1.0).verdict == base.NOISE
    assert base.one_run(8.0, [1.0, 2.0, 3.0], 1.0).verdict == base.REFUTED
    assert base.one_run(7.0, [1.0], 1.0).verdict == base.NOISE


def test_of_all() -> None:
    good, bad, noise = (base.Verdict(v, "") for v in (base.HOLDS, base.REFUTED, base.NOISE))
    assert base.of_all({"a": good, "b": good}) == base.HOLDS
    assert base.of_all({"a": good, "b": noise}) == base.NOISE
    assert base.of_all({"a": good, "b": noise, "c": bad}) == base.REFUTED


def test_who_learns_less_often_exceeds_nothing() -> None:
    seeds = list(range(8))
    high, low = ({seed: value + 0.1 * seed for seed in seeds} for value in (9.0, 1.0))
    assert base.exceeds_where_both_learn(high, low, seeds).verdict == base.HOLDS
    without = {seed: high[seed] for seed in seeds[1:]}
    assert base.exceeds_where_both_learn(without, low, seeds).verdict == base.NOISE
    assert base.exceeds_where_both_learn(low, without, seeds).verdict == base.NOISE
    some = {seed: high[seed] for seed in seeds[:2]}
    verdict = base.exceeds_where_both_learn(high, some, seeds)  # 6 seeds alone: p = 2 / 2^6
    assert verdict.verdict == base.HOLDS
    assert verdict.text.endswith("(learned: 8 and 2 of 8)")
    assert base.exceeds_where_both_learn(high, some, seeds, looks=2).verdict == base.NOISE
    assert base.exceeds_where_both_learn(some, high, seeds).verdict == base.REFUTED


def test_combine() -> None:
    good, bad, noise = (base.Verdict(v, "") for v in (base.HOLDS, base.REFUTED, base.NOISE))
    assert base.combine({"a": good, "b": good}, "").verdict == base.HOLDS
    assert str(base.combine({"a": good, "b": bad, "c": noise}, "")) == "holds only if a"
    most = {"a": good, "b": good, "c": noise}
    assert str(base.combine(most, "")) == "holds only if it isn't c"
    assert str(base.combine(most, "", name_all=True)) == "holds only if a, b"
    assert base.combine({"a": bad, "b": bad}, "").verdict == base.REFUTED
    assert base.combine({"a": bad, "b": noise}, "").verdict == base.NOISE
    assert base.combine({}, "").verdict == base.NOISE


def recorded(name: str) -> Any:
    return json.loads((DOCS / "experiments" / f"{name}.json").read_text())["found"]


def decide(key: str, result: Any) -> str:
    (claim,) = (claim for claim in CLAIMS if claim.key == key)
    return claim.decide(result).verdict


def test_a_changed_number_changes_the_verdict() -> None:
    """Verdicts are computed: each of the recorded ones falls when what it rests on is spoilt."""
    result = recorded("tutorial3")
    assert decide("S2.sigmoid-last", result) == base.HOLDS
    for seed in result["groups"]["sigmoid"]["seeds"]:
        seed["test_accuracy"], seed["at_chance"] = 0.95, 0
    assert decide("S2.sigmoid-last", result) == base.REFUTED
    assert decide("S2.sigmoid-waits", result) == base.REFUTED
    assert decide("S2.accuracy-sigmoid", result) == base.REFUTED


def test_what_was_not_rejected_does_not_hold() -> None:
    """The interval of the mean must lie within the tolerance: with a wider spread it doesn't."""
    result = recorded("tutorial3")
    assert decide("S2.accuracy-tanh", result) == base.HOLDS
    assert decide("S4.mlp-default", result) == base.HOLDS
    assert decide("S2.accuracy-sigmoid", result) == base.NOISE
    for sign, seed in zip((1, -1, 1, -1, 0), result["groups"]["tanh"]["seeds"], strict=True):
        seed["test_accuracy"] += 0.02 * sign
    assert decide("S2.accuracy-tanh", result) == base.NOISE
    assert decide("S4.mlp-default", result) == base.NOISE
    assert decide("S2.swish-15", recorded("activation-distributions")) == base.NOISE
    assert decide("S2.silent-seven", recorded("dead-neurons")) == base.NOISE


def test_relu_is_compared_with_all_of_the_six() -> None:
    result = recorded("tutorial3")
    for seed in result["groups"]["sigmoid"]["seeds"]:
        seed["test_accuracy"] = 0.95
    assert decide("S2.relu-best", result) == base.REFUTED
    assert decide("S4.mlp-default", result) == base.REFUTED


def cell(*after: float | None, before: float = 0.01, accuracy: float = 0.85) -> list[Any]:
    """Return one network a seed; one without dead units after training has diverged."""
    return [
        {
            "seed": seed,
            "state": "diverged" if share is None else "complete",
            "before": before + 0.001 * seed,
            "after": share,
            "test_accuracy": None if share is None else accuracy,
        }
        for seed, share in enumerate(after)
    ]


def dying() -> Any:
    """Return a result: at bias 0 ReLU and GELU learn, with a lower one GELU alone."""
    few, none, chance = (0.008, 0.010, 0.009), (0.0, 0.0, 0.0), 0.09999999403953552
    silent = cell(0.35, 0.351, 0.352, before=0.35, accuracy=chance)
    relu = {"0.0": {"0.01": cell(*few), "0.1": cell(*few[::-1])}}
    relu["-0.1"] = {"0.01": silent, "0.1": copy.deepcopy(silent)}
    gelu = {bias: {rate: cell(*none) for rate in ("0.01", "0.1")} for bias in ("0.0", "-0.1")}
    return {"acts": {"relu": relu, "gelu": gelu}, "epochs": 5, "seeds": 3}


def test_networks_at_chance_are_no_evidence() -> None:
    """What is dead in them doesn't count, neither for a claim nor against it."""
    assert learned({"state": "complete", "test_accuracy": 0.85})
    assert not learned({"state": "complete", "test_accuracy": 0.09999999403953552})
    assert not learned({"state": "diverged", "test_accuracy": 0.38})
    assert not learned({"state": "diverged", "test_accuracy": None})
    result = dying()
    assert set(dying_relu.dead_shares(result, "relu", 0.0, 0.1)) == {0, 1, 2}
    assert not dying_relu.dead_shares(result, "relu", -0.1, 0.01)
    assert decide("S4.some-die", result) == base.REFUTED  # though 35 % in half of the cells
    for rate in ("0.01", "0.1"):
        result["acts"]["relu"]["0.0"][rate] = result["acts"]["relu"]["-0.1"][rate]
    assert decide("S4.some-die", result) == base.NOISE
    assert decide("S0.high-rates-kill", result) == base.NOISE


def test_some_relus_die() -> None:
    result = dying()
    result["acts"]["relu"]["0.0"]["0.1"] = cell(0.25, 0.251, 0.252)
    assert decide("S4.some-die", result) == base.ONLY_IF
    result["acts"]["relu"]["0.0"]["0.1"] = cell(0.2, 0.25, 0.3)  # ± 8 %, corrected ± 18 %
    assert decide("S4.some-die", result) == base.NOISE


def test_high_rates_kill_in_networks_that_learn() -> None:
    result = dying()
    assert decide("S0.high-rates-kill", result) == base.NOISE
    result["acts"]["relu"]["0.0"]["0.1"] = cell(0.2, 0.201, 0.202, accuracy=0.1)
    assert decide("S0.high-rates-kill", result) == base.NOISE
    result["acts"]["relu"]["0.0"]["0.1"] = cell(0.2, 0.201, None)
    assert decide("S0.high-rates-kill", result) == base.HOLDS


def test_bad_initialisation_kills_before_training() -> None:
    result = dying()
    assert decide("S0.bad-inits-kill", result) == base.ONLY_IF
    learning = copy.deepcopy(result)
    for seed in learning["acts"]["relu"]["-0.1"]["0.01"]:
        seed["test_accuracy"] = 0.8  # so that what is dead after training counts
    assert decide("S0.bad-inits-kill", learning) == base.HOLDS
    for seed in result["acts"]["relu"]["-0.1"]["0.01"]:
        seed["before"] = 0.0
    assert decide("S0.bad-inits-kill", result) == base.REFUTED


def test_gelu_solves_in_networks_that_learn() -> None:
    result = dying()
    assert decide("S4.gelu-solves", result) == base.HOLDS
    result["acts"]["gelu"]["-0.1"]["0.1"] = cell(0.3, 0.3, 0.3, accuracy=0.1)
    assert decide("S4.gelu-solves", result) == base.ONLY_IF  # only if the network learns
    result["acts"]["gelu"]["-0.1"]["0.01"] = cell(0.02, 0.021, 0.022)
    (claim,) = (claim for claim in CLAIMS if claim.key == "S4.gelu-solves")
    assert claim.decide(result).condition == "it isn't lr=0.01 bias=-0.1"


def test_recovery_is_seen_in_networks_that_learn() -> None:
    result = recorded("dead-neurons")
    assert decide("S2.never-recover", result) == base.NOISE
    assert decide("S2.can-recover", result) == base.HOLDS
    result["fate"]["hidden_1"]["silent"] = 5
    assert decide("S2.never-recover", result) == base.HOLDS
    result["fate"]["hidden_1"]["recovered"] = 1
    assert decide("S2.never-recover", result) == base.REFUTED
    for fate in result["fate"].values():
        fate["recovered"] = 0
    assert decide("S2.can-recover", result) == base.REFUTED


def test_elu_against_relu_is_corrected_for_nine_cells() -> None:
    result = recorded("depth")
    (faster,) = (claim for claim in CLAIMS if claim.key == "S1.elu-faster")
    assert str(faster.decide(result)) == "holds only if lecun_normal with 20 layers"
    assert decide("S1.elu-better", result) == base.NOISE
    lost = result["inits"]["lecun_normal"]["20"]["elu"][0]
    lost["state"], lost["test_accuracy"], lost["validation"] = "diverged", None, []
    assert decide("S1.elu-faster", result) == base.NOISE  # a diverged run can't be dropped


def test_one_rule_for_the_ends() -> None:
    result = recorded("activation-distributions")
    for key, act, end in (
        ("S2.sigmoid-ends", "sigmoid", "near_0"),
        ("S2.tanh-ends", "tanh", "near_1"),
    ):
        assert decide(key, result) == base.HOLDS
        for seed in result["layers"][act]["hidden_4"]["shape"]:
            seed[end] = 0.01  # of either end: an even spread has more
        assert decide(key, result) == base.REFUTED


def test_only_the_shallow_sigmoid_fits() -> None:
    result = recorded("linear-collapse")
    assert decide("S3.only-sigmoid-fits", result) == base.HOLDS
    errors = result["runs"]["sigmoid, one layer"]["error"]
    errors[0] = 1.5  # one seed that doesn't
    assert decide("S3.only-sigmoid-fits", result) == base.NOISE
    result["runs"]["identity, nine layers"]["error"] = [0.06] * len(errors)
    assert decide("S3.only-sigmoid-fits", result) == base.REFUTED


def flow(**layers: Any) -> Any:
    acts = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "swish")
    return {"inits": {"torch_uniform": dict.fromkeys(acts, layers)}, "seeds": 3}


def test_gradients_are_alike_within_a_factor_of_3() -> None:
    rows = {"hidden_1": {"rms": [1.0, 1.0, 1.0]}, "head": {"rms": [8.7, 8.8, 8.9]}}
    assert decide("S2.others-alike", flow(**rows)) == base.REFUTED
    rows["head"]["rms"] = [2.0, 2.1, 2.2]
    assert decide("S2.others-alike", flow(**rows)) == base.HOLDS


def test_the_head_s_gradient_depends_on_the_batch() -> None:
    def of(*batches: float) -> str:
        sizes = [[size * (1 + 0.01 * seed) for size in batches] for seed in range(3)]
        return decide("S2.sigmoid-head", flow(head={"largest_by_batch": sizes}))

    assert of(0.035, 0.045, 0.055, 0.065) == base.NOISE  # some batches come within the factor
    assert of(0.09, 0.1, 0.11, 0.1) == base.HOLDS
    assert of(0.01, 0.011, 0.012, 0.011) == base.REFUTED


def test_a_norm_is_a_norm() -> None:
    sizes = {
        "norm": [1.5e-3, 1.4e-3, 1.6e-3],
        "rms": [2e-6],
        "mean_size": [2e-6],
        "largest": [1e-5],
    }
    assert decide("S2.sigmoid-1e-5", flow(hidden_1=sizes)) == base.REFUTED
    sizes["norm"] = [1.0e-5, 1.1e-5, 0.9e-5]
    assert decide("S2.sigmoid-1e-5", flow(hidden_1=sizes)) == base.HOLDS


def test_one_of_three_inits() -> None:
    def of(*ratios: float) -> str:
        inits = {
            f"init{place}": {"tanh": {"ratio": [[r * 0.99], [r], [r * 1.01]]}}
            for place, r in enumerate(ratios)
        }
        return decide("S4.ten-layers-tanh", {"deep": inits, "seeds": 3})

    assert of(0.004, 0.85, 0.23) == base.NOISE
    assert of(0.0015, 0.85, 0.23) == base.ONLY_IF
    assert of(0.04, 0.85, 0.23) == base.REFUTED


def test_the_monitor_watches_training() -> None:
    result = dying()
    seeds = result["acts"]["relu"]["0.0"]["0.01"]
    assert decide("S4.monitor", result) == base.NOISE  # nothing measured after training
    for size, verdict in ((1e-4, base.REFUTED), (1e-2, base.HOLDS)):
        for number, seed in enumerate(seeds):
            seed["mean_gradient"] = {"hidden_1": size * (1 + 0.01 * number), "head": 1.0}
        assert decide("S4.monitor", result) == verdict


def test_elu_dies_before_minus_10() -> None:
    """A unit is dead by |f'| < 0.001 at a shift of -9.5: the limit is found, not stepped."""
    params = dead_units.EXPERIMENT.params
    result = base_of_experiments.measure(dead_units.EXPERIMENT, params)
    limit = result["first_dead"]["elu"]
    assert -9.5 < limit < -9.4
    assert result["first_dead"]["leaky_relu"] is None
    z = np.array(dead_units.preactivations(params["seed"], params["samples"]))
    elu = scalar_activations(("elu",))["elu"]
    assert dead_units.flat_units(elu, z + limit) == 1
    assert dead_units.flat_units(elu, z + limit + 0.02) == 0
    (claim,) = (claim for claim in CLAIMS if claim.key == "S4.elu-lives")
    assert str(claim.decide(result)) == f"holds only if the bias shift is above {limit:.2f}"


def test_leaky_relu_s_slope_is_the_scan_s_limit() -> None:
    result = {
        "threshold": 0.01,
        "share": {"leaky_relu": 0.0},
        "slopes": {"leaky_relu": [0.01, 1.0]},
    }
    (claim,) = (claim for claim in CLAIMS if claim.key == "S4.scan-leaky")
    assert "the limit itself" in claim.decide(result).text
    result["share"]["leaky_relu"] = 0.51
    assert decide("S4.scan-leaky", result) == base.REFUTED


def test_the_gallery_names_the_command_that_made_a_recorded_figure(tmp_path: Path) -> None:
    (tmp_path / "experiments").mkdir()
    asked = {"dying-relu": {"bias": [0.0, -0.1], "lr": [0.01, 0.1], "overrides": []}}
    page = commands._gallery({"dying-relu": dying()}, asked, tmp_path)
    assert "actsweep experiment dying-relu lr=0.01,0.1 bias=0.0,-0.1\n" in page


def test_what_changed_is_on_the_page() -> None:
    keys = {claim.key for claim in CLAIMS}
    assert set(claims.CHANGES) <= keys
    page = PAGE.read_text()
    section = page[page.index("## What changed") : page.index("## What isn't checked")]
    assert f"All {len(CLAIMS) - len(advice.CLAIMS)} were then" in section
    verdicts = claims.parse_verdicts(page)
    for key, change in claims.CHANGES.items():
        same = verdicts[key] == change.before
        line = f"({change.before})" if same else f"*{change.before}*, now *{verdicts[key]}*"
        assert f"- **{key}**" in section
        assert f"{line}: {change.why}" in section or f"{line}. {change.why}" in section, key
    statements = {claim.key: claim.statement for claim in CLAIMS}
    assert "generalises" not in statements["S1.elu-better"]  # what isn't measured isn't stated
    assert "network" not in statements["S4.quarter"]
