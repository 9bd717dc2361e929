"""Run ids and packs: which configs are the same run, and which runs share one program."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from actsweep.config import identity, resolve
from actsweep.config.identity import Added
from actsweep.config.schema import RunConfig
from actsweep.runs.members import make_member, make_pack, stack_hparams


def make(**groups: Any) -> RunConfig:
    """Return a run with overrides by path: act__alpha=2 is act.alpha=2."""
    plain: dict[str, Any] = {"act": {"name": "elu", "alpha": 1.0}}
    for path, value in groups.items():
        *parents, leaf = path.split("__")
        node = plain
        for key in parents:
            node = node.setdefault(key, {})
        node[leaf] = value
    return resolve.resolve(plain)


COUNTS = {
    "seed": 1,
    "act__alpha": 2.0,
    "act__name": "celu",
    "depth__widths": [512, 256],
    "init__name": "he_normal",
    "init__scale": 2.0,
    "init__gain": "auto",
    "init__sigma_w": 2.0,
    "init__sigma_b": 1.0,
    "init__bias": -1.0,
    "model__name": "cnn",
    "model__norm": "batch",
    "model__dropout": 0.1,
    "model__residual": True,
    "model__options": {"a": 1},
    "loss__label_smoothing": 0.1,
    "optim__name": "adam",
    "optim__lr": 0.1,
    "optim__momentum": 0.5,
    "optim__nesterov": True,
    "optim__weight_decay": 0.1,
    "optim__schedule": "cosine",
    "optim__clip_norm": 1.0,
    "data__name": "mnist",
    "data__val_size": 100,
    "data__split_seed": 1,
    "data__examples": 10,
    "data__noise": 0.1,
    "trainer__epochs": 3,
    "trainer__batch_size": 64,
    "trainer__patience": None,
    "trainer__precision": "bfloat16",
    "trainer__chunk_steps": 10,
    "trainer__probe_examples": 100,
    "callbacks__units": {},
    "seeds__order": 1,
}
COUNTS_NOT = {
    "act__alpha": 1,
    "logger__mode": "online",
    "logger__tags": ["x"],
    "paths__outputs": "elsewhere",
    "pack__size": 3,
    "pack__batching": "vmap",
    "pack__members": ["x"],
    "data__dir": "elsewhere",
    "data__stream": True,
    "trainer__mesh": {"data": 2},
    "trainer__distributed": "slurm",
    "slurm__gpus": 2,
    "sweep__fail_fast": True,
    "rerun": "all",
    "vary": "order",  # with seed 0, which the others keep
}
VARIES = {
    "seed",
    "seeds__order",
    "act__alpha",
    "optim__lr",
    "optim__momentum",
    "optim__weight_decay",
} | {f"init__{key}" for key in ("scale", "sigma_w", "sigma_b", "bias")}


@pytest.mark.parametrize("path", COUNTS)
def test_what_can_change_the_result_changes_the_id(path: str) -> None:
    before, after = make(), make(**{path: COUNTS[path]})
    assert identity.run_id(before) != identity.run_id(after)


@pytest.mark.parametrize("path", COUNTS_NOT)
def test_what_cannot_change_the_result_does_not(path: str) -> None:
    before, after = make(), make(**{path: COUNTS_NOT[path]})
    assert identity.run_id(before) == identity.run_id(after)


ADDED = (
    Added("act.alpha", 1.0, {"act.name": "elu"}),
    Added("optim.warmup", 0.1),
    Added("optim.clip_norm", None),
    Added("trainer.mesh", {"data": 1}),
    Added("seed", 0, {"depth.layers": 4, "no.such": None}),
    Added("no.such.key", None),
)


def test_a_key_that_was_added_leaves_the_ids_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key with its neutral value means the same as no key."""
    before = resolve.to_dict(make())
    monkeypatch.setattr(identity, "ADDED", ADDED)
    kept = identity.without_neutral(before)
    for group, key in (("act", "alpha"), ("optim", "warmup"), ("optim", "clip_norm")):
        before[group].pop(key)
    del before["trainer"]["mesh"], before["seed"]
    assert kept == before
    assert identity.without_neutral(kept) == kept
    assert "alpha" not in identity.identity(make())["act"]


@pytest.mark.parametrize(
    ("path", "value"),
    [("act__alpha", 2.0), ("act__name", "celu"), ("optim__clip_norm", 1.0), ("seed", 1)],
)
def test_a_key_that_was_added_counts_with_any_other_value(
    path: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    neutral, run = make(), make(**{path: value})
    monkeypatch.setattr(identity, "ADDED", ADDED)
    group, _, key = path.partition("__")
    kept = identity.without_neutral(resolve.to_dict(run))
    assert (kept[group][key] if key else kept[group]) == value
    assert ("alpha" in kept["act"]) == path.startswith("act")
    assert identity.run_id(run) != identity.run_id(neutral)


def test_keys_that_cannot_change_a_result_may_come_later() -> None:
    plain = resolve.to_dict(make())
    later = {**plain, "trainer": {**plain["trainer"], "grace_s": 60, "save_every_s": 5}}
    assert identity.what_counts(later) == identity.what_counts(plain)


def test_the_two_lists_hold_every_field() -> None:
    known = {path.partition("__")[0] for path in (*COUNTS, *COUNTS_NOT)}
    assert known == {field.name for field in dataclasses.fields(RunConfig)}


@pytest.mark.parametrize("path", COUNTS)
def test_a_pack_holds_one_program(path: str) -> None:
    before, after = make(), make(**{path: COUNTS[path]})
    assert (identity.pack_key(before) == identity.pack_key(after)) == (path in VARIES)
    both = [make_member(before), make_member(after)]
    if path not in VARIES:
        with pytest.raises(ValueError, match="don't share one program"):
            make_pack(both)
        return
    pack = make_pack(both)
    column = stack_hparams(pack)[path.replace("__", ".")]
    assert column.shape == (2,)
    assert column[1] == np.asarray(COUNTS[path], column.dtype)


def test_the_static_part_holds_no_value_of_a_member() -> None:
    runs = [make(seed=s, optim__lr=0.1 * (s + 1)) for s in range(3)]
    pack = make_pack([make_member(run) for run in runs])
    assert pack.order_seeds == (0, 1, 2)
    assert pack.static.seed is None
    assert pack.static.optim.lr is None
    assert pack.static.act["alpha"] is None
    assert runs[0].seed == 0  # untouched
    stacked = stack_hparams(pack)
    assert stacked["seed"].dtype == np.uint32
    assert {v.dtype for k, v in stacked.items() if k not in ("seed", "seeds.order")} == {
        np.dtype(np.float32)
    }


def test_the_largest_seed_survives() -> None:
    pack = make_pack([make_member(make(seed=2**32 - 1))])
    assert stack_hparams(pack)["seed"].tolist() == [2**32 - 1]


def test_a_pack_needs_a_member() -> None:
    with pytest.raises(ValueError, match="at least one"):
        make_pack([])
