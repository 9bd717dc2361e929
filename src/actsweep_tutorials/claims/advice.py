"""Claims of S1 and S4 that are advice: which activation for which network, which output for a task.

Advice holds where nothing that was tried beside it is better by more than doesn't matter.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from actsweep_tutorials import architectures, output_layers
from actsweep_tutorials.claims.base import (
    HOLDS,
    NOISE,
    Claim,
    Verdict,
    combine,
    exceeds_where_both_learn,
    of_all,
)
from actsweep_tutorials.pairs import interval_text

Scores = Mapping[int, float]


def _behind_none(
    advised: str, scores: Mapping[str, Scores], trained: Sequence[int], margin: float, looks: int
) -> Verdict:
    """Return whether what is advised is at most the margin behind each other one, larger is better.

    What has to hold against all of them needs no correction for their number.

    Args:
        advised: what is advised.
        scores: by name, the score of each seed that learned something.
        trained: the seeds that all were trained with.
        margin: what doesn't matter.
        looks: in how many cases this is tested.
    """
    own = scores[advised]
    cases = {
        other: exceeds_where_both_learn(own, values, trained, by=-margin, looks=looks)
        for other, values in scores.items()
        if other != advised
    }
    gaps = {other: _mean_gap(own, scores[other]) for other in cases}
    nearest = min(gaps, key=lambda other: gaps[other])
    return Verdict(of_all(cases), f"{advised} - {nearest} {cases[nearest].text}")


def _mean_gap(a: Scores, b: Scores) -> float:
    both = a.keys() & b.keys()
    return sum(a[seed] - b[seed] for seed in both) / len(both) if both else float("inf")


def _judge(cases: Mapping[str, Callable[[int], Verdict]]) -> Verdict:
    """Return the verdict on advice for several cases, each a function of the number of looks.

    If it holds in all of them, that was said beforehand; which of them it holds in was found by
    looking, and is corrected for that.
    """
    plain = {name: case(1) for name, case in cases.items()}
    text = "; ".join(f"{name}: {verdict.text}" for name, verdict in plain.items())
    if of_all(plain) == HOLDS:
        return Verdict(HOLDS, text)
    return combine({name: case(len(cases)) for name, case in cases.items()}, text)


def _networks(advice: Mapping[str, Sequence[str]]) -> Callable[[Any], Verdict]:
    """Return the decision on activations that are advised for some networks."""

    def decide(result: Any) -> Verdict:
        networks = result["networks"]
        cases = {
            f"{act} in {name}": _in_network(networks.get(name), act)
            for act, names in advice.items()
            for name in names
        }
        verdict = _judge(cases)
        shown = dict.fromkeys(name for names in advice.values() for name in names)
        means = "; ".join(f"{n}: {_means(networks[n])}" for n in shown if n in networks)
        return Verdict(verdict.verdict, f"{verdict.text}. {means}", verdict.condition)

    return decide


def _in_network(network: Any, act: str) -> Callable[[int], Verdict]:
    """Return the decision on one activation in one network, by the number of looks; one that isn't
    recorded decides nothing.
    """
    if network is None:
        return lambda looks: Verdict(NOISE, "not trained")
    scores = {
        name: {seed: network["sign"] * value for seed, value in of_seeds.items()}
        for name in network["acts"]
        for of_seeds in [architectures.scores(network, name)]
    }
    trained = [seed["seed"] for seed in network["acts"][act]["seeds"]]
    return lambda looks: _behind_none(act, scores, trained, network["margin"], looks)


def _means(network: Any) -> str:
    """Return every activation's mean, best first."""
    return ", ".join(
        f"{act} {interval_text([*architectures.scores(network, act).values()])}"
        for act in network["order"]
    )


def _outputs(advised: str, *tasks: str) -> Callable[[Any], Verdict]:
    """Return the decision on an output that is advised for some tasks."""

    def decide(result: Any) -> Verdict:
        cases, means = {}, []
        for task in tasks:
            outputs = result["tasks"][task]["outputs"]
            scores = {name: output_layers.scores(output) for name, output in outputs.items()}
            trained = [seed["seed"] for seed in outputs[advised]["seeds"]]
            cases[task] = _of_outputs(advised, scores, trained)
            texts = [f"{name} {interval_text([*s.values()])}" for name, s in scores.items()]
            means.append(f"{task}: {', '.join(texts)}")
        verdict = _judge(cases)
        return Verdict(verdict.verdict, f"{verdict.text}. {'; '.join(means)} %", verdict.condition)

    return decide


def _of_outputs(
    advised: str, scores: Mapping[str, Scores], trained: Sequence[int]
) -> Callable[[int], Verdict]:
    return lambda looks: _behind_none(advised, scores, trained, output_layers.MARGIN, looks)


RULE = (
    "test score of the rate that validation chose, seeds of their own: at most {margin} behind "
    "each other one, paired by seed, 95 % intervals, Bonferroni where it holds in some cases only"
)
NETWORK_MARGIN = "1 point of accuracy (of text, 5 % of the loss)"

CLAIMS = (
    Claim(
        "S4.transformer-default",
        "In transformers GELU will do.",
        "architectures",
        RULE.format(margin=NETWORK_MARGIN),
        _networks({"gelu": ("encoder", "decoder")}),
        "scores",
        needs_training=True,
        reason=(
            "Over text all seven are equivalent, also with other rates (0.002 to 0.02). Of "
            "images five seeds spread too much to tell."
        ),
    ),
    Claim(
        "S4.cnn-default",
        "In convolutional networks ReLU or swish will do.",
        "architectures",
        RULE.format(margin=NETWORK_MARGIN),
        _networks({"relu": ("cnn", "resnet"), "swish": ("cnn", "resnet")}),
        "scores",
        needs_training=True,
        reason=(
            "No other is found to be better than either, but that one is by more than a point "
            "can't be excluded with so few seeds and test images."
        ),
    ),
    Claim(
        "S4.rnn-default",
        "In recurrent networks tanh will do.",
        "architectures",
        RULE.format(margin=NETWORK_MARGIN),
        _networks({"tanh": ("rnn-images", "rnn-text")}),
        "scores",
        needs_training=True,
        reason=(
            "Nothing is told from tanh, either way. Over text ReLU and GELU, which have "
            "no bound, explode through time at high rates, GELU once at the rate that was chosen."
        ),
    ),
    Claim(
        "S1.softmax-output",
        "For exclusive classes the output is a softmax.",
        "output-layers",
        RULE.format(margin="1 point of accuracy"),
        _outputs("softmax", "exclusive"),
        "scores",
        needs_training=True,
    ),
    Claim(
        "S1.sigmoid-output",
        "For labels that can hold together the outputs are sigmoids.",
        "output-layers",
        RULE.format(margin="1 point of exact matches"),
        _outputs("sigmoid", "multilabel"),
        "scores",
        needs_training=True,
        reason=(
            "Softmax fails, since no two of its outputs can exceed a half. But a linear output "
            "with the squared error, cut at a half, isn't told from sigmoids."
        ),
    ),
    Claim(
        "S4.linear-output",
        "For a quantity the output is linear.",
        "output-layers",
        RULE.format(margin="1 point of 100 R²"),
        _outputs("linear", "quantity", "quantity-0-to-1"),
        "scores",
        needs_training=True,
        reason=(
            "A sigmoid or ReLU can't reach targets below 0, and is far behind where there are. "
            "Where its range holds all targets, a squashed output isn't worse."
        ),
    ),
)
