"""The experiments on architectures and output layers, and the advice that they judge."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from actsweep import load_run
from actsweep.cli.main import main
from actsweep.stats import paired
from actsweep_tutorials import architectures, output_layers, output_mlp, pairs
from actsweep_tutorials.claims import CLAIMS, Verdict, advice, base


def decide(key: str, result: Any) -> Verdict:
    (claim,) = (claim for claim in CLAIMS if claim.key == key)
    return claim.decide(result)


def network(sign: int, margin: float, **acts: Sequence[float | None]) -> dict[str, Any]:
    """Return a network's record; a seed without a score has diverged."""
    return {
        "sign": sign,
        "scale": 1.0,
        "margin": margin,
        "order": list(acts),
        "acts": {
            act: {
                "seeds": [
                    {
                        "seed": seed,
                        "state": "diverged" if score is None else "complete",
                        "at_chance": False,
                        "score": score,
                    }
                    for seed, score in enumerate(scores)
                ]
            }
            for act, scores in acts.items()
        },
    }


def around(mean: float, spread: float = 0.1, seeds: int = 10) -> list[float]:
    return [mean + spread * (-1) ** (seed // 2) for seed in range(seeds)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["architectures", "network=encodr"],
            "network=encodr: no such name; did you mean network=encoder?",
        ),
        (["architectures", "act=mish"], "act=mish: must be some of gelu, relu, squared_relu,"),
        (
            ["architectures", "network=cnn", "act=swiglu"],
            "act=swiglu: must be some of relu, swish, gelu, elu, leaky_relu, sigmoid; type for",
        ),
        (
            ["output-layers", "task=exclusiv"],
            "task=exclusiv: no such name; did you mean task=exclusive?",
        ),
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


def test_only_what_has_learned_has_a_score() -> None:
    record = network(1, 1.0, relu=[0.9, None, 0.1])
    record["acts"]["relu"]["seeds"][2]["at_chance"] = True
    record["scale"] = 100.0
    assert architectures.scores(record, "relu") == {0: 90.0}
    assert output_layers.scores(record["acts"]["relu"]) == {0: 0.9}


def test_who_is_told_from_whom() -> None:
    values = {
        name: dict(enumerate(around(mean)))
        for name, mean in (("a", 90.0), ("b", 90.0), ("c", 80.0))
    }
    trained = dict.fromkeys(values, range(10))
    record = pairs.compare_pairs(values, trained, 0.5)
    assert [pair["difference"] for pair in record] == pytest.approx([0.0, 10.0, 10.0])
    assert pairs.told(record, "a") == ("c", "b")
    assert pairs.told(record, "b") == ("c", "a")
    assert pairs.told(record, "c") == ("–", "–")
    losses = {name: {s: -v for s, v in of_seeds.items()} for name, of_seeds in values.items()}
    smaller = pairs.compare_pairs(losses, trained, 0.5, sign=-1)
    assert [pair["verdict"] for pair in smaller] == [pair["verdict"] for pair in record]
    assert smaller[1]["difference"] == pytest.approx(-10.0)
    seldom = pairs.compare_pairs({**values, "a": {0: 99.0, 1: 99.1}}, trained, 0.5)
    assert pairs.told(seldom, "a") == ("–", "–")  # whatever its two values
    assert pairs.interval_text([1.0, 2.0, 3.0]) == "2 ± 2.5"
    assert pairs.interval_text([1.0]) == "1"
    assert pairs.interval_text([]) == "–"


def test_advice_holds_where_nothing_else_is_better() -> None:
    good = network(1, 1.0, gelu=around(95), relu=around(95.5), tanh=around(90))
    low = network(-1, 0.1, gelu=around(2.0, 0.01), relu=around(2.05, 0.01))
    verdict = decide("S4.transformer-default", {"networks": {"encoder": good, "decoder": low}})
    assert verdict.verdict == base.HOLDS
    assert "gelu in encoder: gelu - relu -0.5" in verdict.text
    worse = network(1, 1.0, gelu=around(95), relu=around(97), tanh=around(90))
    result = {"networks": {"encoder": worse, "decoder": low}}
    assert str(decide("S4.transformer-default", result)) == "holds only if gelu in decoder"
    higher = network(-1, 0.1, gelu=around(2.2, 0.01), relu=around(2.05, 0.01))
    result = {"networks": {"encoder": worse, "decoder": higher}}
    assert decide("S4.transformer-default", result).verdict == base.REFUTED
    noisy = network(1, 1.0, gelu=around(95), relu=[90.0, 99.0] * 5, tanh=around(90))
    untrained = decide("S4.transformer-default", {"networks": {"encoder": good}})
    assert str(untrained) == "holds only if gelu in encoder"
    assert "gelu in decoder: not trained" in untrained.text
    result = {"networks": {"encoder": noisy, "decoder": higher}}
    assert decide("S4.transformer-default", result).verdict == base.NOISE


def test_one_of_several_cases_is_corrected_for_looking() -> None:
    """Mean gap -0.5 beside a margin of 1, with an interval of 0.48 plain and 0.62 of four looks."""
    gaps = [-0.5 + 0.67 * (-1) ** seed for seed in range(10)]
    scores = {"relu": dict(enumerate(gaps)), "elu": dict.fromkeys(range(10), 0.0)}
    half = [paired.mean_interval(gaps, 1 - 0.05 / looks)[1] for looks in (1, 4)]
    assert half == pytest.approx([0.505, 0.68], abs=0.02)
    seeds = range(10)
    judged = [advice._behind_none("relu", scores, seeds, 1.02, looks) for looks in (1, 4)]
    assert [verdict.verdict for verdict in judged] == [base.HOLDS, base.NOISE]
    near = judged[0]
    bad = base.Verdict(base.REFUTED, "")
    cases = {"a": lambda looks: judged[looks > 1], "b": lambda looks: near}
    assert advice._judge(cases).verdict == base.HOLDS
    assert advice._judge({**cases, "b": lambda looks: bad}).verdict == base.NOISE


def test_an_activation_that_learns_less_often_is_behind() -> None:
    cnn = network(1, 1.0, relu=[95.0, *[None] * 9], swish=around(95), elu=around(94))
    verdict = decide("S4.cnn-default", {"networks": {"cnn": cnn, "resnet": cnn}})
    assert str(verdict) == "holds only if swish in cnn, swish in resnet"


def test_outputs_are_judged_by_their_task() -> None:
    def outputs(**scores: Sequence[float]) -> Any:
        return {"outputs": {k: {"seeds": seeds(v)} for k, v in scores.items()}}

    def seeds(values: Sequence[float]) -> list[dict[str, Any]]:
        return network(1, 1.0, x=values)["acts"]["x"]["seeds"]

    tasks = {
        "exclusive": outputs(softmax=around(97), sigmoid=around(97.3)),
        "multilabel": outputs(sigmoid=around(90), softmax=around(40)),
        "quantity": outputs(linear=around(45), tanh=around(30)),
        "quantity-0-to-1": outputs(linear=around(45), sigmoid=around(48)),
    }
    keys = ("S1.softmax-output", "S1.sigmoid-output", "S4.linear-output")
    assert [str(decide(key, {"tasks": tasks})) for key in keys] == [
        "holds",
        "holds",
        "holds only if quantity",
    ]
    tasks["multilabel"] = outputs(sigmoid=around(90), softmax=around(92))
    assert decide("S1.sigmoid-output", {"tasks": tasks}).verdict == base.REFUTED


def test_outputs_are_what_they_are_called() -> None:
    """A loss's own sigmoid of the log-odds is a softmax, its softmax of log-sigmoids sigmoids."""
    z = np.random.default_rng(0).normal(size=(6, 4)) * 3
    exact = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    made = {name: np.asarray(fn(jnp.asarray(z))) for name, fn in output_mlp.OUTPUTS.items()}
    np.testing.assert_allclose(1 / (1 + np.exp(-made["log_odds"])), exact, rtol=1e-5)
    sigmoids = 1 / (1 + np.exp(-z))
    shares = np.exp(made["log_sigmoid"])
    shares /= shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, sigmoids / sigmoids.sum(axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(made["sigmoid"], sigmoids, rtol=1e-5)
    np.testing.assert_allclose(made["tanh"], np.tanh(z), rtol=1e-5)
    np.testing.assert_array_equal(made["relu"], np.where(z > 0, z, 0).astype(np.float32))
    np.testing.assert_array_equal(made["linear"], z.astype(np.float32))


def test_scores_of_outputs() -> None:
    outputs = np.array([[0.2, 0.9, 0.6], [0.7, 0.1, 0.2], [0.1, 0.8, 0.3], [0.3, 0.2, 0.1]])
    assert output_layers.right_class(outputs, np.array([1, 0, 2, 0])) == 75
    assert output_layers.right_class(outputs, np.eye(3)[[1, 0, 2, 0]]) == 75
    labels = np.array([[0, 1, 1], [1, 0, 0], [0, 1, 1], [0, 0, 0]])
    assert output_layers.right_labels(0.5)(outputs, labels) == 75
    y = np.array([[1.0], [2.0], [3.0]])
    assert output_layers.explained(y, y) == 100
    assert output_layers.explained(np.full((3, 1), 2.0), y) == 0


def test_files_of_several_targets(tmp_path: Path) -> None:
    output_layers.write_data(tmp_path)
    digits = np.load(tmp_path / "digits.npz")
    assert digits["x"].max() == 1
    np.testing.assert_array_equal(digits["one_hot"].argmax(axis=1), digits["digit"])
    by_digit = {d: digits["labels"][digits["digit"] == d] for d in range(10)}
    assert [rows[0].tolist() for rows in by_digit.values()] == [
        [0, 0, 0, 1],
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 0, 0],
        [1, 1, 1, 0],
        [0, 0, 1, 1],
        [1, 1, 1, 0],
        [0, 0, 1, 1],
        [1, 0, 1, 1],
    ]
    assert all((rows == rows[0]).all() for rows in by_digit.values())
    diabetes = np.load(tmp_path / "diabetes.npz")
    y, unit = diabetes["standardised"], diabetes["from_0_to_1"]
    assert (unit.min(), unit.max()) == (0, 1)
    assert np.corrcoef(y, unit)[0, 1] == pytest.approx(1)
    assert (y.mean(), y.std()) == pytest.approx((0, 1), abs=1e-5)


def run_experiment(tmp_path: Path, *words: str) -> Any:
    assert main(["experiment", *words, "--outputs", str(tmp_path)]) == 0
    folder = tmp_path / "experiments" / words[0]
    return json.loads((folder / "result.json").read_text())["found"]


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_fast")
def test_architectures(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The rate is validation's choice, a diverged one never is, and the scores are other seeds'."""
    words = ("network=rnn-images", "act=tanh,relu", "seeds=2", "tuning_seeds=1", "lr=0.01,1e30")
    result = run_experiment(tmp_path, "architectures", *words, "trainer.epochs=2")
    found = result["networks"]["rnn-images"]
    assert set(found["acts"]) == set(found["order"]) == {"tanh", "relu"}
    assert (found["metric"], found["margin"]) == ("test/accuracy", 1.0)
    for act, record in found["acts"].items():
        best = max(record["tuning"], key=lambda lr: record["tuning"][lr][0] or 0)
        assert record["lr"] == float(best)
        if act == "relu":
            assert record["tuning"]["1e+30"] == [None]  # diverged
        for seed in record["seeds"]:
            (run,) = [
                load_run(folder)
                for folder in tmp_path.glob(f"runs/{act}-*-s{seed['seed']}-*")
                if load_run(folder).config.optim.lr == record["lr"]
            ]
            assert seed["score"] == run.summary["test_accuracy"]
    assert [seed["seed"] for seed in found["acts"]["tanh"]["seeds"]] == [0, 1]
    assert (tmp_path / "experiments" / "architectures" / "scores.png").stat().st_size > 10_000
    capfd.readouterr()
    run_experiment(tmp_path, "architectures", *words, "trainer.epochs=2")
    assert "complete already" in capfd.readouterr().out
    deep = ("network=residual-20-none", "act=relu", "seeds=2", "lr=0.003")
    result = run_experiment(tmp_path, "architectures", *deep, "depth=8", "trainer.epochs=1")
    assert result["deep"] == ["residual-20-none"]
    (record,) = result["networks"].values()
    assert "model.skip=true" in record["words"]
    assert record["acts"]["relu"]["lr"] == 0.003
    assert not record["acts"]["relu"]["tuning"]  # of one rate nothing is tuned
    assert (tmp_path / "experiments" / "architectures" / "deep.png").stat().st_size > 5_000


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_fast")
def test_output_layers(tmp_path: Path) -> None:
    words = ("task=multilabel", "seeds=2", "tuning_seeds=1", "lr=0.01,0.03", "epochs=3")
    result = run_experiment(tmp_path, "output-layers", *words)
    outputs = result["tasks"]["multilabel"]["outputs"]
    assert set(outputs) == {"sigmoid", "softmax", "linear"}
    assert {len(output["seeds"]) for output in outputs.values()} == {2}
    found = {}
    for folder in tmp_path.glob("runs/*-s0-*"):
        run = load_run(folder)
        if run.config.data.task == "multilabel":
            found[run.config.model.options["output"]] = run
    assert outputs["sigmoid"]["seeds"][0]["score"] == pytest.approx(
        100 * found["linear"].summary["test_exact_match"], abs=1e-4
    )
    softmax = np.asarray(found["log_odds"].logits(found["log_odds"].dataset().test_x))
    np.testing.assert_allclose((1 / (1 + np.exp(-softmax))).sum(axis=1), 1, rtol=1e-4)
