"""Sources of randomness seeded apart: what each draws, what is the same run, what is refused."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from test_app import Train, logging_as_before, train  # noqa: F401
from test_resume import STEPS, end_up, what_is_left
from test_run import make, run_pack
from test_training import by_layer, compiled_fast, composed, populate

from actsweep.config import identity, resolve
from actsweep.config.overrides import expand_all
from actsweep.config.schema import RunConfig
from actsweep.data.feed import ResidentFeed
from actsweep.runs.members import Member, make_member, make_pack
from actsweep.sweeps import exit_codes
from actsweep.train.setup import _check_split
from actsweep.train.types import Span, SweepContext
from actsweep.utils.errors import UserError
from hydra_plugins.actsweep_pack import growing
from hydra_plugins.actsweep_pack.sweeper import check_distinct, merge

SMALL = ("depth.widths=[8]", "trainer.batch_size=40", "trainer.epochs=1", "trainer.chunk_steps=1")


def resolved(*words: str) -> RunConfig:
    """The config that words describe, which aren't composed: `data` is a name, not a file."""
    plain = OmegaConf.from_dotlist(["act.name=relu", "data.name=digits", "data.val_size=1100"])
    typed = OmegaConf.from_dotlist(expand_all(words))
    return resolve.resolve(OmegaConf.to_container(OmegaConf.merge(plain, typed)))  # type: ignore[arg-type]


def member(*words: str) -> Member:
    return make_member(resolved(*words))


@pytest.mark.parametrize(
    ("words", "same"),
    [
        ("vary=init seed=0", "seed=0"),
        ("vary=all seed=0", "vary=split seed=0"),
        ("vary=init+order seed=3", "seed=3"),
        ("vary=[order,init] seed=3", "vary=null seed=3"),
        ("vary=all seed=3", "seed=3 data.split_seed=3"),
        ("vary=[split,init,order] seed=3", "vary=all seed=3"),
        ("vary=init seed=3", "seed=3 seeds.order=0"),
        ("vary=order seed=3", "seeds.order=3"),
        ("vary=order seed=3 data.split_seed=2", "seed=9 seeds.init=0 seeds.order=3 seeds.split=2"),
        ("vary=split seed=3", "seeds.split=3"),
        ("vary=init+split seed=3", "seed=3 seeds.order=0 data.split_seed=3"),
        ("seeds.init=3 seeds.order=3", "seed=3"),
    ],
)
def test_equal_draws_are_the_same_run(words: str, same: str) -> None:
    assert member(*words.split()).run_id == member(*same.split()).run_id


def test_other_draws_are_other_runs() -> None:
    kinds = ("init", "order", "split", "init+order", "init+split", "order+split", "all")
    members = [member("seed=3", f"vary={kind}") for kind in kinds]
    assert len({one.run_id for one in members}) == len(kinds)
    heads = [one.run_id.rpartition("-")[0].rpartition("-")[2] for one in members]
    assert heads == ["s3o0", "s0o3", "s0", "s3", "s3o0", "s0o3", "s3"]
    assert [one.config.data.split_seed for one in members] == [0, 0, 3, 0, 3, 3, 3]
    assert len({one.pack_key for one in members}) == 2  # data that are divided alike


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "vary=weights",
            "vary=weights: no such name; type for example vary=all. Known: all, init, order, split",
        ),
        ("vary=split+ordr", "vary=ordr: no such name; did you mean vary=order?"),
        ("vary=[]", r"vary=\[\]: must be one or more of init, order, split; type .* vary=init"),
        (
            "vary=init seed=3 seeds.order=1",
            "seeds.order=1: vary=init says which seeds follow seed=3; leave one of the two out",
        ),
        (
            "vary=all seed=3 data.split_seed=4",
            "data.split_seed=4: vary=all takes it from seed=3; leave one of the two out",
        ),
        ("seeds.init=-1", "seeds.init=-1: must be an integer from 0 to 4294967295"),
        (
            "vary=split data.name=xor_table trainer.batch_size=4",
            "vary=split: the split of data=xor_table, of four examples, is fixed; type for example "
            "vary=init or vary=order",
        ),
        (
            "vary=all data.name=pydocs model.name=transformer",
            "vary=all: the split of data=pydocs, whose parts follow",
        ),
        (
            "vary=split data._target_=mine.make",
            "vary=split: the split of data._target_=mine.make, which splits its examples itself",
        ),
    ],
)
def test_what_cannot_vary_is_refused(words: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        resolved(*words.split())


@pytest.mark.parametrize(("splits", "fixed"), [("train", False), ("train validation test", True)])
def test_a_set_that_brings_its_splits_cannot_vary_them(
    splits: str, fixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That shows once the set is there: before anything is compiled."""
    opened = {"hf": lambda _: SimpleNamespace(splits=splits.split())}
    monkeypatch.setattr("actsweep.data.image_sets.OPENED", opened)
    words = ("data.source=hf", "data.name=who/pictures", "seed=3")
    packs = [make_pack([member("vary=init", *words)]), make_pack([member("vary=all", *words)])]
    _check_split(packs[0])
    said = (
        r"vary=all: the split of data=hf data.name=who/pictures, which brings validation and test, "
        "is fixed; type for example vary=init"
    )
    with pytest.raises(UserError, match=said) if fixed else nullcontext():
        _check_split(packs[1])


def test_kinds_share_the_run_of_seed_0() -> None:
    members = [
        member(f"vary={kind}", f"seed={seed}")
        for kind in ("init", "order", "all")
        for seed in (0, 1, 2)
    ]
    check_distinct(members)
    packs = list(merge(members))
    assert [len(pack) for pack in packs] == [5, 1, 1]
    assert len({one.run_id for pack in packs for one in pack}) == 7
    with pytest.raises(UserError, match="vary=init,order: can't change a result"):
        check_distinct([one for one in members if one.config.seed == 0])


RACE = "hydra/sweeper=race depth.width=8,9"
TUNE = "hydra/sweeper=tune depth.width=8,9 tune.nuisance=[optim.lr] tune.trials=2 tune.seeds=2"
SEARCH = "hydra/sweeper=optuna optim.lr=interval(0.1,1)"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("seed=0,1 seeds.init=0 seeds.order=1", "seeds.init=0 seeds.order=1: nothing follows seed"),
        (f"{SEARCH} seeds.init=2 seeds.order=0 seed=3,4", "nothing follows seed=3,4"),
        (f"{TUNE} seeds.init=0 seeds.order=0", "nothing follows seed=0,1"),
        ("hydra/sweeper=race seeds.init=null,7 seeds.order=0 seed=5", "seeds.init=7 seeds.order=0"),
        (f"{RACE} vary=split", ""),
        (f"{TUNE} seeds.init=0", ""),
    ],
)
def test_seeds_that_nothing_follows_are_refused(
    words: str,
    said: str,
    tmp_path: Path,
    train: Train,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also those that a race or a tuning would take: they would all be one run."""
    monkeypatch.setattr(growing, "show_plan", len)  # which would compile
    code, out, err = train("-m", "data=digits", "pack.plan=true", *words.split())
    if said:
        assert code == exit_codes.BAD_INPUT, err
        assert said in err
        assert err.endswith(", so they are one run; leave seeds.init or seeds.order out\n")
        assert (err.count("\n"), out) == (1, "")
    else:
        assert code == exit_codes.OK, err
    assert not list(tmp_path.glob("outputs/*"))


BASE, INIT, ORDER, BOTH = "seed=0", "vary=init seed=3", "vary=order seed=3", "seed=3"


def test_a_source_changes_what_it_draws_and_nothing_else() -> None:
    """Weights and batches of a pack, against each other and against the orders by NumPy."""
    runs = [composed(*words.split(), "act=relu") for words in (BASE, INIT, ORDER, BOTH)]
    population, examples, _ = populate(*runs)
    sets = population.place_sets(examples, runs[0].trainer, stream=False)
    params = population.init(sets).params
    weights = [by_layer(params, place) for place in range(4)]

    def equal(a: int, b: int) -> bool:
        kernels = (key for key in weights[a] if "kernel" in key)
        return all(weights[a][key].tobytes() == weights[b][key].tobytes() for key in kernels)

    assert equal(0, 2)
    assert equal(1, 3)
    assert not equal(0, 1)
    size, steps = runs[0].trainer.batch_size, 12  # of ten an epoch
    feed = ResidentFeed(examples, [run.order_seed for run in runs], size, steps)
    batches = feed.chunk(0, steps)
    for place, seed in enumerate((0, 0, 3, 3)):
        expected = []
        for epoch in (0, 1):
            rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch])))
            expected += [*rng.permutation(len(examples.train_x))]
        assert batches[place].ravel().tolist() == expected[: steps * size]


@pytest.mark.slow
def test_dropout_follows_the_order() -> None:
    """One step from equal weights on the same batch: only what dropout draws can differ."""
    words = (BASE, ORDER, "seed=9 seeds.init=0 seeds.order=3")
    with compiled_fast():
        runs = [resolved(*SMALL, "model.dropout=0.5", *each.split()) for each in words]
        population, examples, _ = populate(*runs, devices=1)
        sets = population.place_sets(examples, runs[0].trainer, stream=False)
        ids = np.broadcast_to(np.arange(40, dtype=np.int32), (3, 1, 40))
        batches, span = population.place_batches(ids), Span(*map(np.int32, (0, 1, 0, 1)))
        state = population.init(sets)
        _, told = population.train_chunk(state, population.hparams, batches, sets.train, span)
    losses = np.asarray(told["train/loss"])
    assert losses[0] != losses[1]
    assert losses[1] == losses[2]


def test_the_split_alone_follows_the_seed() -> None:
    """Weights and order stay, other examples are held out; the test set stays."""
    runs = [member("vary=split", f"seed={seed}").config for seed in (0, 3)]
    assert [(run.init_seed, run.order_seed) for run in runs] == [(0, 0), (0, 0)]
    one, other = (populate(run, devices=1)[1] for run in runs)
    assert one.test_x.tobytes() == other.test_x.tobytes()
    held_out = [{x.tobytes() for x in examples.val_x} for examples in (one, other)]
    assert held_out[0] != held_out[1]
    every = [
        sorted(x.tobytes() for x in np.concatenate([e.train_x, e.val_x])) for e in (one, other)
    ]
    assert every[0] == every[1]


def four(outputs: Path) -> list[RunConfig]:
    """Members of one program that differ in their sources alone, with dropout."""
    drawn: list[dict[str, Any]] = [
        {"seed": 0},
        {"seed": 3, "vary": "init"},
        {"seed": 3, "vary": "order"},
        {"seed": 3},
    ]
    plain: dict[str, Any] = {"trainer": {**STEPS, "epochs": 3}, "model": {"dropout": 0.2}}
    plain["callbacks"] = {"histograms": {}}
    return [make(outputs, **plain, **which) for which in drawn]


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_seeded_apart_a_run_is_the_same_alone_in_a_pack_and_resumed(tmp_path: Path) -> None:
    together, alone, cut = (four(tmp_path / name) for name in ("together", "alone", "cut"))
    run_pack(together, SweepContext("sweep"))
    for run in alone:
        run_pack([run], SweepContext("sweep"))
    limits = iter((3, 4))
    end_up(cut, lambda: next(limits, None))
    left = [[what_is_left(run) for run in runs] for runs in (together, alone, cut)]
    assert left[0] == left[1] == left[2]
    states = [what["state"] for what in left[0]]
    assert all(states[a] != states[b] for a in range(4) for b in range(a))


@pytest.mark.slow
def test_a_run_that_is_there_is_found_however_it_is_typed(tmp_path: Path) -> None:
    plain = {"trainer": {"epochs": 1, "batch_size": 64}, "callbacks": {}}
    (first,) = run_pack([make(tmp_path, **plain)], SweepContext("sweep"))
    again = [make(tmp_path, vary=kind, **plain) for kind in ("init", "order", "split", "all")]
    results = run_pack(again, SweepContext("other"))
    assert {one["run_id"] for one in results} == {first["run_id"]}
    assert all(one["reused"] for one in results)


def test_what_counts_is_what_is_drawn() -> None:
    plain = identity.without_seeds(_plain("vary=all", "seed=3"))
    assert plain == identity.without_seeds(_plain("vary=all", "seed=4"))
    assert plain != identity.without_seeds(_plain("vary=init", "seed=3"))
    assert identity.pair_key(_plain("seed=3")) == 3
    assert identity.pair_key(_plain("seed=3", "seeds.order=1")) == "init 3, order 1"
    assert identity.pair_key(_plain("vary=split", "seed=3")) == "init 0, order 0, split 3"


def _plain(*words: str) -> dict[str, Any]:
    return resolve.to_dict(member(*words).config)
