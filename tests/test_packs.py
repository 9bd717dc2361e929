"""Packs: a member's numbers don't depend on its company, on devices, on repacking, on cohorts."""

import dataclasses
import itertools
import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from test_resume import LOOKS, STEPS, what_is_left
from test_run import make, run_pack
from test_training import (
    assert_close,
    by_layer,
    compiled_fast,
    composed,
    leaves,
    populate,
    same_bits,
    train,
)

from actsweep import callbacks, data
from actsweep.config import schema
from actsweep.runs.members import make_member, make_pack, stack_hparams
from actsweep.train import active_set, memory, pack, schedule
from actsweep.train.setup import PreparedPack, task_of
from actsweep.train.types import SweepContext
from actsweep.utils.errors import UserError

# Repacking: half of the members end early, one way or another

ENDING = ("act=swish", "trainer.patience=2", "trainer.epochs=12", "callbacks=none")
LRS = ("0.05", "1e-9", "1e30", "2e-9", "0.03", "3e-9", "4e-9", "5e-9")  # 1e30 diverges


@pytest.fixture(scope="module")
def ending():
    return [composed(*ENDING, f"optim.lr={lr}", f"seed={i}") for i, lr in enumerate(LRS)]


@pytest.fixture(scope="module")
def never_repacked(ending):
    """The same pack without repacking, by `map`."""
    before, active_set.ActiveSet.repack = active_set.ActiveSet.repack, lambda self, ended: False
    try:
        return train(*ending, devices=2)
    finally:
        active_set.ActiveSet.repack = before


@pytest.fixture
def repacked(monkeypatch):
    """How many members were left, each time that a pack was repacked."""
    left, repack = [], active_set.ActiveSet.repack

    def counting(self, ended):
        done = repack(self, ended)
        if done:
            left.append(len(self.members))
        return done

    monkeypatch.setattr(active_set.ActiveSet, "repack", counting)
    return left


def test_repacking_changes_no_bit_under_map(ending, never_repacked, repacked):
    finished, writer = train(*ending, devices=4)
    reference, rows = never_repacked
    assert repacked
    assert repacked[-1] <= 2
    assert finished.diverged == [lr == "1e30" for lr in LRS]
    for member in range(len(LRS)):
        assert same_bits(leaves(finished.state, member), leaves(reference.state, member))
        assert repr(writer.rows[member]) == repr(rows.rows[member])
        assert finished.steps[member] == reference.steps[member]
        assert finished.best_epoch[member] == reference.best_epoch[member]


def test_repacking_narrows_the_program_under_vmap(ending, never_repacked, repacked, monkeypatch):
    sizes, compact = [], active_set.Population.compact

    def watched(self, chosen):
        found = compact(self, chosen)
        sizes.append((self.padded, found.padded))
        return found

    monkeypatch.setattr(active_set.Population, "compact", watched)
    runs = [dataclasses.replace(run, pack=schema.PackConfig(batching="vmap")) for run in ending]
    finished, writer = train(*runs, devices=1)
    assert sizes
    assert all(after <= before / 2 for before, after in sizes)
    reference, rows = never_repacked
    for member in range(len(LRS)):
        assert finished.steps[member] == reference.steps[member]
        assert finished.best_epoch[member] == reference.best_epoch[member]
        assert [r.step for r in writer.rows[member]] == [r.step for r in rows.rows[member]]
        if LRS[member] != "1e30":
            found = by_layer(finished.state.params, member)
            assert_close(found, by_layer(reference.state.params, member), rtol=2e-4, atol=2e-6)
            last, expected = writer.rows[member][-1].scalars, rows.rows[member][-1].scalars
            assert last["test/loss"] == pytest.approx(expected["test/loss"], rel=1e-4)


def test_streams_are_repacked_too(ending, never_repacked, repacked):
    runs = [dataclasses.replace(r, data=dataclasses.replace(r.data, stream=True)) for r in ending]
    finished, _ = train(*runs, devices=2)
    assert repacked
    for member in range(len(LRS)):
        assert same_bits(leaves(finished.state, member), leaves(never_repacked[0].state, member))


# Devices: the population on grids of 1, 2, 4 and 8, also where they don't divide the members


@pytest.fixture(scope="module")
def five():
    return [composed("callbacks=none", f"seed={s}") for s in range(5)]


@pytest.fixture(scope="module")
def on_two(five):
    return train(*five, devices=2)


@pytest.mark.parametrize("devices", [1, 4, 8])
def test_five_members_on_any_number_of_devices(five, on_two, devices):
    population, examples, looks = populate(*five, devices=devices)
    assert population.padded == {1: 5, 4: 8, 8: 5}[devices]
    finished, writer = train(*five, population=(population, examples, looks))
    for member in range(5):
        found, expected = leaves(finished.state, member), leaves(on_two[0].state, member)
        if devices > 1:
            assert same_bits(found, expected)
            assert writer.rows[member] == on_two[1].rows[member]
        else:
            for key in found:
                np.testing.assert_allclose(found[key], expected[key], rtol=1e-4, atol=1e-6)


def test_batches_shared_by_devices(five, on_two):
    mesh = schema.MeshConfig(data=4)
    runs = [dataclasses.replace(r, trainer=dataclasses.replace(r.trainer, mesh=mesh)) for r in five]
    population, examples, looks = populate(*runs, devices=8)
    assert dict(population.mesh.shape) == {"member": 2, "data": 4}
    finished, _ = train(*runs, population=(population, examples, looks))
    for member in range(5):
        found = by_layer(finished.state.params, member)
        assert_close(found, by_layer(on_two[0].state.params, member), rtol=1e-4, atol=1e-6)


def test_more_devices_for_a_batch_than_there_are():
    run = composed("callbacks=none", "trainer.mesh.data=8")
    with pytest.raises(UserError, match=r"trainer.mesh.data=8: must be at most 4, the number of"):
        populate(run, devices=4)


# Memory: measured, linear in the members, and never more than there is


def fitted(runs, most=10**6):
    pack = make_pack([make_member(run) for run in runs])
    examples, looks = data.load(pack.static.data), callbacks.build(pack.static.callbacks)
    task = task_of(pack.static, examples)
    with compiled_fast():
        return memory.plan_memory(pack.static, task, stack_hparams(pack), looks, examples, most)


def many(count, *overrides):
    run = composed("callbacks=none", *overrides)
    return [dataclasses.replace(run, seed=s) for s in range(count)]


def test_a_pack_that_fits_is_trained_at_once():
    found = fitted(many(8))
    assert found.population.size == 8
    assert found.parts(8) == [slice(0, 8)]
    assert 0 < found.need < found.room


def test_memory_is_linear_in_the_members():
    small, large = fitted(many(32)), fitted(many(64))
    per_member = (large.need - small.need) / 32
    shapes = small.population.state_shapes()
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes)) / 32
    devices = small.population.mesh.size
    assert state / devices < per_member < 4 * state / devices
    twice = fitted(many(128))
    assert twice.need - large.need == pytest.approx(64 * per_member, rel=0.05)


@pytest.mark.parametrize("batching", ["map", "vmap"])
def test_a_pack_that_does_not_fit_is_split_into_even_cohorts(monkeypatch, batching):
    whole = fitted(many(16, f"pack.batching={batching}"))
    half = fitted(many(8, f"pack.batching={batching}"))
    room = (whole.need + half.need) // 2
    monkeypatch.setattr(memory, "_room", lambda device, devices: room)
    found = fitted(many(16, f"pack.batching={batching}"))
    assert half.need <= found.need <= room
    turns = found.parts(16)
    assert len(turns) == 2
    assert [turn.stop - turn.start for turn in turns] == [8, 8]
    assert "GiB" in found.limit


def test_open_files_split_a_pack():
    found = fitted(many(7), most=3)
    assert [turn.stop - turn.start for turn in found.parts(7)] == [2, 2, 3]
    assert found.population.size == 3
    assert "ulimit" in found.limit


def test_one_member_is_tried_even_where_it_seems_too_large(monkeypatch):
    monkeypatch.setattr(memory, "_room", lambda device, devices: 1)
    assert fitted(many(3)).population.size == 1


def test_nothing_is_compiled_after_fitting(monkeypatch):
    """Whatever training calls has been compiled while the memory was measured."""
    runs = [composed("callbacks=default", f"seed={s}") for s in range(3)]
    found = fitted(runs)
    pack = make_pack([make_member(run) for run in runs])
    examples, looks = data.load(pack.static.data), callbacks.build(pack.static.callbacks)
    with jax.log_compiles(), pytest.MonkeyPatch.context() as patch:
        import logging

        seen: list[str] = []
        handler = logging.Handler()
        patch.setattr(handler, "emit", lambda record: seen.append(record.getMessage()))
        logging.getLogger("jax").addHandler(handler)
        try:
            with compiled_fast():  # as when it was fitted
                train(*runs, population=(found.population, examples, looks))
        finally:
            logging.getLogger("jax").removeHandler(handler)
    compiled = [text for text in seen if "Compiling" in text and "local" in text]
    assert not compiled, compiled


# Cadences in steps


def plan(*overrides, callbacks_of="none"):
    run = composed(f"callbacks={callbacks_of}", *overrides)
    return schedule.plan(run.trainer, 400, callbacks.build(run.callbacks))


def test_chunks_cover_every_step_once():
    chunks = plan("trainer.epochs=3", "trainer.chunk_steps=4")
    assert chunks[0].first == 0
    assert all(a.end == b.first for a, b in itertools.pairwise(chunks))
    assert chunks[-1].end == 30
    assert [c.end for c in chunks if c.ends_epoch] == [10, 20, 30]
    assert [c.epoch for c in chunks] == [1] * 3 + [2] * 3 + [3] * 3
    assert max(c.n for c in chunks) <= 4


def test_probes_run_at_multiples_of_their_steps():
    chunks = plan(
        "+callbacks.histograms.every_steps=7",
        "+callbacks.units.every=2",
        "trainer.epochs=4",
        "trainer.chunk_steps=100",
    )
    due = {name: [c.end for c in chunks if name in c.due] for name in ("histograms", "units")}
    assert due == {"histograms": [7, 14, 21, 28, 35], "units": [20, 40]}
    assert [c.end for c in chunks] == sorted({7, 14, 21, 28, 35} | {10, 20, 30, 40})


@pytest.mark.parametrize("value", ["0", "-3"])
@pytest.mark.parametrize("key", ["every", "every_steps"])
def test_a_cadence_below_one_is_refused(key, value):
    with pytest.raises(
        UserError, match=rf"callbacks\.units\.{key}={value}: must be a whole number"
    ):
        composed("callbacks=default", f"callbacks.units.{key}={value}")
    run = composed("callbacks=default")
    with pytest.raises(UserError, match=rf"callbacks.units=.*{key}={value} must be at least 1"):
        callbacks.build({"units": {**run.callbacks["units"], key: int(value)}})


def test_a_cadence_changes_what_is_measured_and_nothing_else():
    steps = "callbacks.histograms.every_steps=3"
    plain, rows = train(composed("callbacks=default"), devices=2)
    dense, more = train(composed("callbacks=default", steps), devices=2)
    one, other = (each.state._replace(tally=None) for each in (dense, plain))  # of its last chunk
    assert same_bits(leaves(one), leaves(other))
    assert [r.step for r in more.rows[0] if r.histograms] == [0, 3, 6, 9, 12, 15, 18]
    assert [r.step for r in rows.rows[0] if r.histograms] == [0, 10, 20]
    assert not math.isnan(rows.rows[0][-1].scalars["test/loss"])


# Programs that stay


class Counted:
    """A machine on which programs cost nothing; counts how often one is made."""

    def __init__(self, how="map", room=1000.0):
        self.made, self.how, self.room = 0, how, room
        self.process = SimpleNamespace(group=SimpleNamespace(alone=True))

    def set_up(self, wanted, context, process):
        self.made += 1
        mesh = SimpleNamespace(size=1)
        population = SimpleNamespace(how=self.how, mesh=mesh)
        data_set = [np.zeros(10, np.uint8)]
        planned = SimpleNamespace(population=population, sets=data_set, room=self.room)
        return PreparedPack(wanted, None, {}, None, planned)

    def prepare(self, size, act="relu", sweep="s", acts=(), mix=False):
        """Whether a program is made for so many members."""
        before, mixed = self.made, f"pack.mix={str(mix).lower()}"
        acts = acts or [act] * size
        words = [(f"act={each}", f"seed={seed}", mixed) for seed, each in enumerate(acts)]
        runs = [make_member(composed(*each)) for each in words]
        prepared = pack._prepare(make_pack(runs), SweepContext(sweep), self.process)
        assert len(prepared.pack.members) == size
        return self.made > before


@pytest.fixture
def counted(monkeypatch):
    def begin(*arguments):
        machine = Counted(*arguments)
        monkeypatch.setattr(pack, "_set_up_recorded", machine.set_up)
        return machine

    return begin


def test_a_program_serves_further_packs_of_its_sweep(counted):
    machine = counted()
    made = [machine.prepare(3), machine.prepare(3), machine.prepare(2), machine.prepare(4)]
    assert made == [True, False, False, True]  # rows that are empty cost nothing
    assert not machine.prepare(4)
    assert machine.prepare(4, sweep="another")


def test_under_vmap_a_program_serves_packs_of_its_size(counted):
    machine = counted("vmap")
    assert [machine.prepare(3), machine.prepare(3), machine.prepare(2)] == [True, False, True]


@pytest.mark.parametrize("how", ["map", "vmap"])
def test_a_program_of_other_activations_serves_nobody(how, counted):
    """Runs with `pack.mix` have one pack key, whatever their activations."""
    machine = counted(how)
    assert machine.prepare(2, "relu", mix=True)
    assert machine.prepare(2, "elu", mix=True)
    assert machine.prepare(2, acts=("relu", "elu"), mix=True)
    assert machine.prepare(2, acts=("relu", "tanh"), mix=True)
    assert not machine.prepare(2, acts=("relu", "elu"), mix=True)


def test_few_programs_stay(counted):
    machine = counted()
    acts = ("relu", "elu", "tanh", "swish")
    assert all(machine.prepare(1, act) for act in acts)
    assert not any(machine.prepare(1, act) for act in acts)
    assert machine.prepare(1, "gelu")
    assert machine.prepare(1, "relu")


def test_no_program_stays_with_large_data(counted):
    machine = counted("map", 100.0)
    assert machine.prepare(3)
    assert machine.prepare(3)


@pytest.mark.slow
def test_a_run_is_the_same_by_the_program_of_another_pack(tmp_path):
    """Jobs of one and of two runs, the second with a row that is empty."""
    changes = {"callbacks": LOOKS, "trainer": STEPS, "pack": {"batching": "map"}}
    runs = [make(tmp_path / "one", seed=seed, **changes) for seed in range(3)]
    for job in (runs[:2], runs[2:]):
        run_pack(job, SweepContext("sweep"))
    alone = make(tmp_path / "alone", seed=2, **changes)
    pack.forget_programs()
    run_pack([alone], SweepContext("sweep"))
    assert what_is_left(runs[2]) == what_is_left(alone)
