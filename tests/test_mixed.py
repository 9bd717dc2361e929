"""Packs of different activations (`pack.mix`): members are bitwise what they are alone."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_resume import LOOKS, STEPS, folder, what_is_left
from test_run import make, run_pack
from test_training import composed, leaves, same_bits, train

import actsweep
from actsweep import activations
from actsweep.activations.mixed import Part, mixed
from actsweep.config import identity
from actsweep.config.schema import MIXABLE, RunConfig
from actsweep.launch.job import show_plan
from actsweep.runs import checkpoint
from actsweep.runs.members import Member, make_member, make_pack, stack_hparams
from actsweep.train import checkpointing, pack
from actsweep.train.types import SweepContext
from hydra_plugins.actsweep_pack.sweeper import merge

ACTS: tuple[dict[str, Any], ...] = (
    {"name": "elu", "alpha": 1.0},
    {"name": "relu"},
    {"name": "elu", "alpha": 0.5},
    {"name": "swish", "beta": 2.0, "learnable": False},
)
MIX = {"mix": True, "batching": "map"}


def members(outputs: Path = Path("nowhere"), **changes: Any) -> list[Member]:
    plain = {"pack": MIX, **changes}
    return [make_member(make(outputs, act=act, **plain)) for act in ACTS]


# What shares a program


def test_runs_that_differ_in_the_activation_are_one_pack() -> None:
    (whole,) = merge(members())
    assert [m.config.act for m in whole] == list(ACTS)
    assert len([*merge(members(pack={"mix": False}))]) == 3  # as before: two alphas are one program


def test_the_id_does_not_depend_on_it() -> None:
    ids = [[m.run_id for m in members(pack={"mix": mix})] for mix in (True, False)]
    assert ids[0] == ids[1]


def test_what_differs_between_the_members() -> None:
    found = make_pack(members())
    assert found.static.act["name"] == "elu, relu, swish"
    assert found.static.act["mix"][0] == {"name": "elu", "alpha": None}
    columns = stack_hparams(found)
    assert columns["act.choice"].tolist() == [0, 1, 0, 2]
    assert columns["act.alpha"].tolist() == [1, 0, 0.5, 0]
    assert columns["act.beta"].tolist() == [0, 0, 0, 2]
    alone = stack_hparams(make_pack(members()[::2][:2]))  # what is left needn't be mixed any more
    assert "act.choice" not in alone


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"act": {"name": "maxout", "pieces": 2}}, "act=maxout isn't one of identity, sigmoid"),
        ({"act": {"name": "swish", "beta": 1.0, "learnable": True}}, "act.learnable=true trains"),
        ({"act": {"name": "relu", "by_layer": {"hidden_1": "tanh"}}}, "act.by_layer has several"),
        ({"act": {"name": "mine", "_target_": "frozen_act.half"}}, "_target_=frozen_act.half is"),
        ({"init": {"gain": "auto"}}, "init.gain=auto is computed"),
        ({"model": {"name": "resnet"}}, "model=resnet isn't mlp"),
        ({"model": {"name": "mlp", "norm": "batch"}}, "XLA fuses model.norm"),
        ({"model": {"name": "mlp", "dropout": 0.1}}, "and model.dropout"),
        ({"depth": {"widths": [8, 1]}}, "XLA fuses products of one unit"),
        ({"trainer": {"batch_size": 4, "accumulate": 4}}, "or of one example"),
        ({"trainer": {"precision": "bfloat16"}}, "trainer.precision=bfloat16 isn't float32"),
        ({"trainer": {"mesh": {"data": 2}}}, "several processes or devices share a run"),
        ({"pack": {"mix": True, "batching": "vmap"}}, "pack.batching=vmap would compute every"),
    ],
)
def test_what_keeps_a_program_of_its_own(
    changes: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent / "frozen_runs")
    depth = {"widths": [8, 8]}
    run = make(Path("nowhere"), **{"pack": MIX, "depth": depth, **changes})
    assert why in str(identity.why_apart(run))
    other = dataclasses.replace(run, act={"name": "tanh"})
    assert identity.pack_key(run) != identity.pack_key(other)


def test_the_plan_says_why(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(pack, "preview", lambda members: ("", ()))
    runs = [*members(), make_member(make(Path("nowhere"), act={"name": "softmax"}, pack=MIX))]
    show_plan([*merge(runs)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "5 runs in 2 packs"
    (line,) = [line for line in lines if "not mixed" in line]
    assert line.startswith("  not mixed with other activations: act=softmax isn't one of identity")


def test_under_vmap_each_activation_has_its_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pack.batching=auto` is decided where the devices are, after packs have been made."""
    runs = members(pack={"mix": True, "batching": "auto"})
    (whole,) = merge(runs)
    assert pack._programs(whole) == [whole]
    monkeypatch.setattr(pack, "choose_batching", lambda how: "vmap")
    assert [[m.config.act["name"] for m in part] for part in pack._programs(whole)] == [
        ["elu", "elu"],
        ["relu"],
        ["swish"],
    ]


# What it computes


def test_a_mixed_activation_is_the_chosen_one() -> None:
    specs = [activations.ACTIVATIONS[name] for name in ("tanh", "leaky_relu", "elu")]
    numbers: tuple[tuple[str, ...], ...] = ((), ("slope",), ("alpha",))
    parts = [Part(spec, {}, own) for spec, own in zip(specs, numbers, strict=True)]
    params = {"slope": jnp.float32(0.3), "alpha": jnp.float32(0.7)}
    z = jnp.linspace(-3, 3, 12).reshape(3, 4)

    def about(spec: Any, params: Any) -> tuple[jax.Array, ...]:
        grad = jax.grad(lambda z: jnp.sum(spec.fn(z, **params)))(z)
        return spec.fn(z, **params), grad, activations.abs_derivative(spec, z, **params)

    whole = mixed(parts)
    of_choice = lambda choice: about(whole, {**params, "choice": choice})  # noqa: E731
    found = jax.jit(lambda: jax.lax.map(of_choice, jnp.arange(3.0)))()
    expected = jax.jit(
        lambda: [about(part.spec, {k: params[k] for k in part.numbers}) for part in parts]
    )()
    for place, (value, grad, derivative) in enumerate(expected):
        np.testing.assert_allclose(found[0][place], value, rtol=1e-6)
        np.testing.assert_allclose(found[1][place], grad, rtol=1e-6)
        np.testing.assert_allclose(found[2][place], derivative, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("acts", "words"),
    [
        (MIXABLE, ("depth.widths=[40,24]", "model.residual=true", "callbacks=none")),
        (("mish", "gelu", "relu"), ("depth.widths=[37,9]", "optim.momentum=0.9", "callbacks=full")),
    ],
)
def test_every_mixable_activation_has_the_bits_that_it_has_alone(
    acts: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """A new one may stand in `MIXABLE` if its own program rounds as the mixed one does."""
    runs = [composed(*words, f"act={act}", "pack.mix=true") for act in acts]
    together, rows = train(*runs, devices=2)
    for place, run in enumerate(runs):
        alone, own = train(run, devices=2)
        found, expected = leaves(together.state, place), leaves(alone.state)
        assert same_bits({key: found[key] for key in expected}, expected), run.act
        assert repr(rows.rows[place]) == repr(own.rows[0]), run.act


# What it leaves


def configs(outputs: Path, **mix: Any) -> list[RunConfig]:
    made = members(outputs, pack={"batching": "map", **mix}, trainer=STEPS, callbacks=LOOKS)
    return [member.config for member in made[1:]]


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> list[RunConfig]:
    """Each run, trained alone."""
    runs = configs(tmp_path_factory.mktemp("apart"))
    for run in runs:
        run_pack([run], SweepContext("sweep"))
    return runs


def arrays(run: RunConfig) -> checkpoint.Flat:
    checkpoints = folder(run).checkpoints
    return checkpoint.load(checkpoints, checkpoint.steps(checkpoints)[0])[0]


def assert_as_apart(runs: list[RunConfig], apart: list[RunConfig]) -> None:
    for run, other in zip(runs, apart, strict=True):
        assert what_is_left(run) == what_is_left(other)
        assert same_bits(arrays(run), arrays(other))  # with the same names
        loaded = actsweep.load_run(folder(run).path)
        x = loaded.dataset().test_x[:5]
        np.testing.assert_array_equal(
            loaded.logits(x), actsweep.load_run(folder(other).path).logits(x)
        )


def cut_short(runs: list[RunConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, until all have been saved in the middle."""
    save = checkpointing.Checkpointer.save

    def save_then_end(checkpointer: checkpointing.Checkpointer, step: int, *others: Any) -> None:
        save(checkpointer, step, *others)
        if step == 12:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpointing.Checkpointer, "save", save_then_end)
        with pytest.raises(KeyboardInterrupt):
            run_pack(runs, SweepContext("sweep"))


@pytest.mark.slow
def test_a_mixed_pack_leaves_what_its_runs_leave_alone(
    apart: list[RunConfig], tmp_path: Path
) -> None:
    runs = configs(tmp_path, mix=True)
    run_pack(runs, SweepContext("sweep"))
    assert_as_apart(runs, apart)


@pytest.mark.slow
@pytest.mark.parametrize("mixed_first", [True, False])
def test_interrupted_mixed_and_resumed_alone_and_the_reverse(
    mixed_first: bool, apart: list[RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = configs(tmp_path, mix=mixed_first), configs(tmp_path, mix=not mixed_first)
    for part in [before] if mixed_first else [[run] for run in before]:
        cut_short(part, monkeypatch)
    assert [checkpoint.steps(folder(run).checkpoints)[0] for run in before] == [12] * len(before)
    for part in [[run] for run in after] if mixed_first else [after]:
        run_pack(part, SweepContext("sweep"))
    assert_as_apart(after, apart)
